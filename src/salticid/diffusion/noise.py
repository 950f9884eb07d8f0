"""Noise that is a pure function of (seed, stream, sample key).

A sample gets the same noise alone or in any batch, on any rank and after any resume, because every number is a
hash of where it stands: SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators") run
as a counter, in integer tensor arithmetic that is exact on every device.

Why not one `torch.Generator` per sample: on the CPU it keeps the low 32 bits of a seed alone, so that some samples of
a long run would share their noise, and on a GPU it draws other numbers. The hash costs about 15 ns a number on one
CPU core against 5; a GPU draws for itself, without a loop over samples and without a copy.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float, Int64


def stable_key(id: str) -> int:
    """A 63-bit key for a sample id (file name, scene number): unlike `hash`, the same in every process."""
    return int.from_bytes(blake2b(id.encode(), digest_size=8).digest(), "big") >> 1


def keyed_uniform(
    keys: Int64[Tensor, " b"],
    shape: tuple[int, ...] = (),
    *,
    seed: int,
    stream: str = "uniform",
    device: torch.device | str | None = None,
) -> Float[Tensor, "b ..."]:
    """Float64 numbers of the open interval (0, 1), of `shape` for every key; arguments as in `keyed_normal`."""
    words = _words(keys.to(device), math.prod(shape), seed, stream)
    return _shift_right(words, 12).double().add_(0.5).mul_(2.0**-52).view(len(keys), *shape)


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
        stream: names the use; two streams are independent, also for one sample.
        device: where to draw; None: where `keys` lie. Devices agree up to float64's log and cosine.
        dtype: of the result.
    """
    count = math.prod(shape)
    words = _words(keys.to(device), (count + 1) // 2, seed, stream)
    radius = _shift_right(words, 32).double().add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
    angle = words.bitwise_and_(0xFFFFFFFF).double().mul_(2.0**-32 * 2 * math.pi)
    halves = [angle.cos().mul_(radius).to(dtype), angle.sin_().mul_(radius).to(dtype)]
    return torch.cat(halves, dim=1)[:, :count].reshape(len(keys), *shape)


def offset_noise(
    keys: Int64[Tensor, " b"],
    shape: tuple[int, ...],
    level: float,
    *,
    seed: int,
    stream: str = "noise",
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "b ..."]:
    """White noise plus `level` times one normal number for each sample and channel (Guttenberg 2023, "Diffusion with
    offset noise"): the network learns to move the mean of a picture, which white noise hardly touches.

    All frames of a clip share the number, so that what is moved is the clip and not its flicker. The variance is
    1 + level², not brought back to 1. With level 0 it is `keyed_normal`.

    Args:
        keys, seed, stream, device, dtype: as in `keyed_normal`; a key for each clip.
        shape: of one sample: (channels, height, width), or (frames, channels, height, width), with any number of
            dimensions before the channels.
        level: at least 0; 0.02 to 0.1 are usual.

    Raises:
        ConfigError: the level is negative, or the shape has no channels, height and width.
    """
    if level < 0 or len(shape) < 3:
        raise ConfigError(f"offset noise: expected a level of at least 0 on (..., c, h, w), got {level} on {shape}")
    noise = keyed_normal(keys, shape, seed=seed, stream=stream, device=device, dtype=dtype)
    if level == 0:
        return noise
    one = (*[1] * (len(shape) - 3), shape[-3], 1, 1)
    offset = keyed_normal(keys, one, seed=seed, stream=f"{stream}/offset", device=device, dtype=dtype)
    return noise + level * offset


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

    White noise plus layers of ever lower resolution, layer i weighted by `strength**i` and enlarged bilinearly.
    Layer 0 has full resolution, and weight 1 whatever the strength; from layer i − 1 to layer i the sides shrink by
    r**i, r ~ U(2, 4), until one is 1 or layer 9 is reached.

    Args:
        keys, seed, stream, device: as in `keyed_normal`.
        shape: (channels, height, width) of one sample.
        strength: in [0, 1], constant or for each sample; Marigold anneals it as 0.9 t / 1000.
        divide_by: what brings the sum back to unit variance. "expected": the standard deviation that layers of
            these sizes have in expectation. "batch": that measured over the whole batch, as upstream does, which
            lets the noise of a sample depend on the others of its batch.
    """
    keys = keys.to(device)
    weight = torch.as_tensor(strength, dtype=torch.float32, device=keys.device).expand(len(keys))
    # The white noise and layer 0 together.
    noise = math.sqrt(2) * keyed_normal(keys, shape, seed=seed, stream=stream)
    variance = torch.full_like(weight, 2.0)
    shrink = 2 + 2 * keyed_uniform(keys, (9,), seed=seed, stream=f"{stream}/shrink")
    for b, ratios in enumerate(shrink.tolist()):
        for i, (h, w) in enumerate(_layer_sizes(shape[1:], ratios), start=1):
            layer = keyed_normal(keys[b : b + 1], (shape[0], h, w), seed=seed, stream=f"{stream}/layer{i}")
            noise[b] += weight[b] ** i * F.interpolate(layer, shape[1:], mode="bilinear")[0]
            variance[b] += weight[b] ** (2 * i) * _power_kept(h, shape[1]) * _power_kept(w, shape[2])
    return noise / (noise.std() if divide_by == "batch" else variance.sqrt()[:, None, None, None])


def _layer_sizes(size: tuple[int, int], ratios: list[float]) -> list[tuple[int, int]]:
    """Sizes of the layers below the full one."""
    sizes = [size]
    for i, ratio in enumerate(ratios, start=1):
        if 1 in sizes[-1]:
            break
        h, w = sizes[-1]
        sizes.append((max(1, int(h / ratio**i)), max(1, int(w / ratio**i))))
    return sizes[1:]


def _power_kept(small: int, large: int) -> float:
    """Mean variance of unit white noise after linear enlargement: interpolation averages, and so loses power."""
    weights = F.interpolate(torch.eye(small)[None], large, mode="linear")[0]
    return weights.square().sum(0).mean().item()


def _signed(constant: int) -> int:
    """The int64 with the bits of an unsigned constant: torch has no arithmetic on uint64."""
    return constant - (1 << 64) if constant >> 63 else constant


_STRIDE = _signed(0x9E3779B97F4A7C15)
_FACTORS = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def _words(keys: Int64[Tensor, " b"], count: int, seed: int, stream: str) -> Int64[Tensor, "b count"]:
    """`count` random 64-bit words for every key: SplitMix64 started at a hash of (seed, stream, key)."""
    start = _mix_(_mix_(keys.clone()).bitwise_xor_(stable_key(f"{seed}/{stream}")))
    counter = torch.arange(1, count + 1, device=keys.device).mul_(_STRIDE)
    return _mix_(start[:, None] + counter)


def _mix_(z: Tensor) -> Tensor:
    """The finaliser of SplitMix64, in place: a bijection in which every input bit sways every output bit."""
    z.bitwise_xor_(_shift_right(z, 30)).mul_(_FACTORS[0])
    z.bitwise_xor_(_shift_right(z, 27)).mul_(_FACTORS[1])
    return z.bitwise_xor_(_shift_right(z, 31))


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical shift; int64's own copies the sign."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)
