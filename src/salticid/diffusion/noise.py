"""Noise that is a pure function of (seed, stream, sample key).

A sample gets the same noise alone or in any batch, on any rank and after any resume, because every number is a hash
of where it stands: SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators") run as a
counter, in integer tensor arithmetic that is exact on every device.

`torch.Generator` on the CPU is not used: its Mersenne Twister keeps the low 32 bits of a seed alone, so that samples
of a long run would share noise. The price is 3 ns a number on the CPU against 5 of one `torch.randn` per sample and
numbers; on a GPU it is lost beside the copy that it saves.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int64


def _signed(constant: int) -> int:
    """The int64 with the bits of an unsigned 64-bit constant: torch has no arithmetic on uint64."""
    return constant - (1 << 64) if constant >> 63 else constant


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MULTIPLY = (_signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB))


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical shift of int64, whose own `>>` copies the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    """The SplitMix64 finaliser: a bijection of 64 bits in which every input bit flips half of the output."""
    z = (z ^ _shift_right(z, 30)) * _MULTIPLY[0]
    z = (z ^ _shift_right(z, 27)) * _MULTIPLY[1]
    return z ^ _shift_right(z, 31)


def _bits(keys: Int64[Tensor, " b"], count: int, seed: int, stream: str) -> Int64[Tensor, "b count"]:
    """`count` random 64-bit words for every key."""
    start = _mix(_mix(keys) ^ stable_key(f"{seed}/{stream}"))
    counter = torch.arange(1, count + 1, device=keys.device)
    return _mix(start[:, None] + counter * _GOLDEN)


def stable_key(id: str) -> int:
    """A 63-bit key for a sample id (file name, scene number): the same in every process, unlike `hash`."""
    return int.from_bytes(blake2b(id.encode(), digest_size=8).digest(), "big") >> 1


def keyed_uniform(
    keys: Int64[Tensor, " b"],
    shape: tuple[int, ...] = (),
    *,
    seed: int,
    stream: str = "uniform",
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "b ..."]:
    """Uniform numbers of the open interval (0, 1), of `shape` for every key; arguments as in `keyed_normal`.

    With a `dtype` narrower than float64 a number can round to 0 or 1.
    """
    keys = keys.to(device)
    words = _shift_right(_bits(keys, math.prod(shape), seed, stream), 12)
    return ((words.double() + 0.5) * 2.0**-52).to(dtype).view(len(keys), *shape)


def keyed_normal(
    keys: Int64[Tensor, " b"],
    shape: tuple[int, ...],
    *,
    seed: int,
    stream: str = "noise",
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "b ..."]:
    """Standard normal noise of `shape` for every key, by the Box–Muller transform.

    Args:
        keys: what each sample's noise is keyed by, e.g. `batch["key"]`.
        shape: of one sample, without the batch dimension.
        seed: of the run.
        stream: names the use, so that two draws for one sample in one step are independent.
        device: where to draw; default: where `keys` lie. Devices agree to the last digits of float64's log and cos.
        dtype: of the result.
    """
    keys = keys.to(device)
    count = math.prod(shape)
    words = _bits(keys, (count + 1) // 2, seed, stream)
    radius = (_shift_right(words, 32).double() + 0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
    angle = (words & 0xFFFFFFFF).double().mul_(2 * math.pi * 2.0**-32)
    normal = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return normal[:, :count].to(dtype).view(len(keys), *shape)


def multi_resolution_noise(
    keys: Int64[Tensor, " b"],
    shape: tuple[int, int, int],
    strength: float | Float[Tensor, " b"],
    *,
    seed: int,
    stream: str = "noise",
    divide_by: Literal["expected", "batch"] = "expected",
    device: torch.device | str | None = None,
) -> Float[Tensor, "b c h w"]:
    """Noise with more power at low frequencies, as Marigold trains with (Ke et al. 2024, section 3.2).

    White noise plus up to ten layers of white noise at ever lower resolution, layer i weighted by `strength**i` and
    enlarged bilinearly; layer 0 is at full resolution with weight 1 whatever the strength. The resolution shrinks by
    r**i from layer i − 1 to i, with r ~ U(2, 4), until a side is 1.

    Args:
        shape: (channels, height, width).
        strength: in [0, 1]; Marigold anneals it, with `0.9 * t / 1000` for each sample.
        divide_by: the root of the variance that the layers of this sample have in expectation, or the standard
            deviation of the whole batch, as upstream does. The latter alone makes a sample's noise depend on the
            others of its batch.
    """
    keys = keys.to(device)
    strengths = torch.as_tensor(strength, dtype=torch.float32, device=keys.device).expand(len(keys))
    noise, variance = keyed_normal(keys, shape, seed=seed, stream=stream), torch.ones_like(strengths)
    shrink = 2 + 2 * keyed_uniform(keys, (10,), seed=seed, stream=f"{stream}/shrink")
    for b, ratios in enumerate(shrink.tolist()):
        for i, (h, w) in enumerate(_pyramid(shape[1:], ratios)):
            layer = keyed_normal(keys[b : b + 1], (shape[0], h, w), seed=seed, stream=f"{stream}/layer{i}")
            weight = strengths[b] ** i
            noise[b] += weight * F.interpolate(layer, shape[1:], mode="bilinear")[0]
            variance[b] += weight**2 * _enlarged_variance(h, shape[1]) * _enlarged_variance(w, shape[2])
    if divide_by == "batch":
        return noise / noise.std()
    return noise / variance.sqrt()[:, None, None, None]


def _pyramid(size: tuple[int, int], ratios: list[float]) -> list[tuple[int, int]]:
    """Sizes of the layers, from the full one until a side is 1."""
    sizes = [size]
    for i, ratio in enumerate(ratios[1:], start=1):
        if 1 in sizes[-1]:
            break
        h, w = sizes[-1]
        sizes.append((max(1, int(h / ratio**i)), max(1, int(w / ratio**i))))
    return sizes


def _enlarged_variance(small: int, large: int) -> float:
    """Mean variance of white noise enlarged linearly from `small` to `large` numbers: mean squared row norm."""
    weights = F.interpolate(torch.eye(small)[None], large, mode="linear")[0]
    return weights.square().sum(0).mean().item()
