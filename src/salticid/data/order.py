"""Which sample stands where in the endless stream of a run: a pure function of (seed, position).

The stream is one permutation of the source after another, one per epoch. A permutation is computed, not stored: a
balanced Feistel network on Z_a × Z_b (a·b just above n, values outside [0, n) walk on to the next; Black & Rogaway,
"Ciphers with Arbitrary Finite Domains", 2002). So ten samples and 10^10 cost the same: no memory, a few microseconds
a sample, the same on every machine and in every version of every library.
"""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from math import isqrt

_MASK = (1 << 64) - 1
_ROUNDS = 8


def mix(*parts: int | str) -> int:
    """A hash of `parts` in [0, 2⁶³): seeds made from it are independent wherever one part differs."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") >> 1


@lru_cache(maxsize=8)
def _round_keys(seed: int, epoch: int) -> tuple[int, ...]:
    return tuple(mix(seed, "order", epoch, r) for r in range(_ROUNDS))


def _scramble(value: int) -> int:
    """64-bit finaliser with good avalanche (Stafford's mix 13, as in SplitMix64)."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)


class Order:
    """The order in which a run of global batch size `batch` sees `n` samples."""

    def __init__(self, n: int, batch: int, seed: int) -> None:
        if n < 1 or batch < 1:
            raise ValueError(f"Order needs n ≥ 1 and batch ≥ 1, got n={n}, batch={batch}")
        self.n, self.batch, self.seed = n, batch, seed
        self._rows = isqrt(n - 1) + 1
        self._columns = -(-n // self._rows)

    def index(self, position: int) -> int:
        """The sample at `position` of the stream: every n positions from a multiple of n hold each sample once."""
        epoch, value = divmod(position, self.n)
        keys = _round_keys(self.seed, epoch)
        value = self._permute(value, keys)
        while value >= self.n:  # cycle walking: at most a·b − n < √n + 1 of the values lie outside
            value = self._permute(value, keys)
        return value

    def _permute(self, value: int, keys: tuple[int, ...]) -> int:
        left, right = divmod(value, self._columns)
        for i in range(0, _ROUNDS, 2):
            left = (left + _scramble(right ^ keys[i])) % self._rows
            right = (right + _scramble(left ^ keys[i + 1])) % self._columns
        return left * self._columns + right

    def batch_at(self, step: int) -> list[tuple[int, int]]:
        """(position, index) of every sample in the global batch of `step`; it may straddle two epochs."""
        start = step * self.batch
        return [(p, self.index(p)) for p in range(start, start + self.batch)]

    def epochs_after(self, step: int) -> int:
        """Number of epochs complete once steps 0 … `step` − 1 are taken."""
        return step * self.batch // self.n

    def shares(self, step: int, rank: int, world: int, micro_batch: int) -> Iterator[list[tuple[int, int]]]:
        """The micro-batches of one rank in `step`: its contiguous part of the global batch, cut to size."""
        local = self.batch // world
        start = step * self.batch + rank * local
        for begin in range(start, start + local, micro_batch):
            end = min(begin + micro_batch, start + local)
            yield [(p, self.index(p)) for p in range(begin, end)]
