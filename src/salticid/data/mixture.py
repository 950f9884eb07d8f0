"""Several data sets trained on as one, each with its share of the stream: a pure function of (seed, position).

The stream is cut into groups of samples of one data set, and groups into blocks. Every block holds exactly its share
of groups of each part, in an order that is permuted anew for every block; a part gives its samples in an order of its
own, so none comes again before all have been seen, whatever the shares.
"""

import re
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from math import inf, lcm

from torch import Generator

from salticid.data.order import Order, mix
from salticid.data.source import Data, Sample, Source
from salticid.errors import ConfigError

BLOCK = 1000
"""Groups in a block, at most."""


@dataclass(frozen=True)
class Part:
    """A data set of a mixture."""

    data: Data
    weight: float = 1.0
    """Its share of the training samples, in relation to the other parts' weights."""


class Mixture(Data):
    """Data sets that are trained on together. Their samples must hold the same names.

    Args:
        parts: by a name of letters, digits, `-` and `_`, which the ids of its samples begin with: `name/…`. Their
            order does not matter.
        group: how many samples in a row are of one part. Samples of different sizes need `trainer.micro_batch` of
            this size, which divides what a rank takes of a batch.
        val_part: the part that is validated on; None: all, one after the other. Where their sizes differ, that needs
            `validation.batch: 1` and `validation.previews: 1`.

    Raises:
        ConfigError: no parts, a bad name or weight, or, by `train`, a part without training samples.
    """

    def __init__(self, parts: Mapping[str, Part], group: int = 1, val_part: str | None = None) -> None:
        if not parts:
            raise ConfigError("data.parts is empty; expected data sets by name")
        for name, part in parts.items():
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ConfigError(f"data.parts: the name {name!r} has more than letters, digits, - and _")
            if not 0 < part.weight < inf:
                raise ConfigError(f"data.parts.{name}.weight is {part.weight}; expected a finite number above 0")
        if group < 1:
            raise ConfigError(f"data.group is {group}; expected at least 1")
        if val_part is not None and val_part not in parts:
            raise ConfigError(f"data.val_part is {val_part}; there are {', '.join(sorted(parts))}")
        self.parts, self.group, self.val_part = dict(sorted(parts.items())), group, val_part
        self.shares = apportion({name: part.weight for name, part in self.parts.items()})

    def train(self) -> "Mixed":
        sources = {name: part.data.train() for name, part in self.parts.items()}
        if empty := next((name for name, source in sources.items() if len(source) == 0), None):
            raise ConfigError(f"data.parts.{empty}: its training source is empty")
        return Mixed(sources, self.shares, self.group)

    def val(self) -> Source:
        chosen = [self.val_part] if self.val_part else list(self.parts)
        return Joined({name: self.parts[name].data.val() for name in chosen})


class Joined(Source):
    """Sources one after the other."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.names, self.sources = list(sources), list(sources.values())
        self.starts = list(accumulate(map(len, self.sources), initial=0))
        """Of each source, the index of its first sample; at last their number."""

    def __len__(self) -> int:
        return self.starts[-1]

    def locate(self, index: int) -> tuple[int, int]:
        """The number of the source that sample `index` is of, and its index there."""
        part = bisect(self.starts, index) - 1
        return part, index - self.starts[part]

    def id(self, index: int) -> str:
        part, inner = self.locate(index)
        return f"{self.names[part]}/{self.sources[part].id(inner)}"

    def sample(self, index: int, augment: Generator | None) -> Sample:
        part, inner = self.locate(index)
        return self.sources[part].sample(inner, augment)

    def substitute(self, index: int, number: int) -> int:
        """A sample of the same source."""
        part, inner = self.locate(index)
        return self.starts[part] + self.sources[part].substitute(inner, number)

    @property
    def outcomes(self) -> int | None:
        """The largest number of any source; None where one has endlessly many."""
        numbers = [source.outcomes for source in self.sources]
        return None if None in numbers else max(filter(None, numbers), default=1)

    def outcomes_of(self, index: int) -> int | None:
        part, inner = self.locate(index)
        return self.sources[part].outcomes_of(inner)

    def outcome(self, index: int, which: int) -> Sample:
        part, inner = self.locate(index)
        return self.sources[part].outcome(inner, which)

    def draw(self, augment: Generator | None) -> int:
        raise NotImplementedError("sources differ in their outcomes; ask `draw_of` a sample")

    def draw_of(self, index: int, augment: Generator | None) -> int:
        part, inner = self.locate(index)
        return self.sources[part].draw_of(inner, augment)


class Mixed(Joined):
    """Sources that take turns in the stream of a run, by their shares of a block of groups."""

    def __init__(self, sources: Mapping[str, Source], shares: Sequence[int], group: int) -> None:
        super().__init__(sources)
        self.shares, self.group = tuple(shares), group

    def order(self, batch: int, seed: int) -> "MixtureOrder":
        pairs = zip(self.names, self.sources, strict=True)
        orders = [source.order(1, mix(seed, "part", name)) for name, source in pairs]
        return MixtureOrder(orders, self.shares, self.group, batch, seed)


class MixtureOrder(Order):
    """The order in which a run of global batch size `batch` sees several sources. What counts as an epoch is as many
    samples as they have together, though small sources with large shares are then seen more than once."""

    def __init__(self, orders: Sequence[Order], shares: Sequence[int], group: int, batch: int, seed: int) -> None:
        """`orders`: of each source by itself; `shares`: their groups in a block."""
        super().__init__(sum(order.n for order in orders), batch, seed)
        self.orders, self.shares_of_block, self.group = list(orders), tuple(shares), group
        self.starts = list(accumulate((order.n for order in orders), initial=0))

    def index(self, position: int) -> int:
        """The sample at `position` of the stream, counted over the sources one after the other."""
        number, place = divmod(position, self.group)
        block, slot = divmod(number, sum(self.shares_of_block))
        part, before = _block(self.shares_of_block, self.seed, block)[slot]
        of_part = (block * self.shares_of_block[part] + before) * self.group + place
        return self.starts[part] + self.orders[part].index(of_part)


@lru_cache(maxsize=8)
def _block(shares: tuple[int, ...], seed: int, number: int) -> list[tuple[int, int]]:
    """For every group of a block its part, and how many groups of that part come before it in the block."""
    ends, size = list(accumulate(shares)), sum(shares)
    order = Order(size, 1, mix(seed, "mixture"))
    before = [0] * len(shares)
    groups = []
    for slot in range(size):
        part = bisect(ends, order.index(number * size + slot))
        groups.append((part, before[part]))
        before[part] += 1
    return groups


def apportion(weights: Mapping[str, float]) -> tuple[int, ...]:
    """How many groups of a block each part gets: exactly its share where that is possible with up to `BLOCK` groups,
    else rounded to one in `BLOCK` by the method of the largest remainder. Weights count as they are written: 0.1 is
    a tenth.

    Raises:
        ConfigError: a share is so small that it is rounded to nothing.
    """
    exact = [Fraction(repr(float(weight))) for weight in weights.values()]
    parts = [weight / sum(exact) for weight in exact]
    common = lcm(*(part.denominator for part in parts))
    size = BLOCK // common * common or BLOCK
    found = [int(part * size) for part in parts]
    by_remainder = sorted(range(len(parts)), key=lambda i: found[i] - parts[i] * size)
    for i in by_remainder[: size - sum(found)]:
        found[i] += 1
    if 0 in found:
        name = list(weights)[found.index(0)]
        raise ConfigError(
            f"data.parts.{name}.weight is {weights[name]}, less than one in {BLOCK} of all: it would never be seen"
        )
    return tuple(found)
