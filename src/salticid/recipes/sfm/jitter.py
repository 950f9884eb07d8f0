"""Colour jitter that the data set has drawn, applied to a whole batch where the batch is."""

from itertools import permutations

import torch
from torch import Tensor

ORDERS = tuple(permutations(range(4)))
"""Of brightness, contrast, saturation and hue, by number."""
LUMA = (0.2989, 0.587, 0.114)


def jittered(frames: Tensor, jitter: Tensor) -> Tensor:
    """Frames (B, N, 3, H, W) in [0, 1] with `jitter` (B, 5): factors of brightness, contrast and saturation, shift of
    the hue (turns) and the number of their order, as torchvision's ColorJitter does it, the contrast about each frame's
    own mean. (1, 1, 1, 0, …) changes nothing."""
    changes = jitter.tolist()
    changed = [i for i, (*factors, _) in enumerate(changes) if factors != [1, 1, 1, 0]]
    if not changed:
        return frames
    out = frames.clone()
    for turn in range(4):
        for kind, apply in enumerate((brightness, contrast, saturation, hue)):
            chosen = [i for i in changed if ORDERS[int(changes[i][4])][turn] == kind]
            if chosen:
                amounts = jitter[chosen, kind].to(frames)[:, None, None, None, None]
                out[chosen] = apply(out[chosen], amounts)
    return out


def brightness(frames: Tensor, factor: Tensor) -> Tensor:
    return (frames * factor).clamp(0, 1)


def contrast(frames: Tensor, factor: Tensor) -> Tensor:
    return _blend(frames, luma(frames).mean(dim=(-2, -1), keepdim=True), factor)


def saturation(frames: Tensor, factor: Tensor) -> Tensor:
    return _blend(frames, luma(frames), factor)


def hue(frames: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of HSV by `shift` turns."""
    value, spread = (
        frames.amax(dim=2, keepdim=True),
        frames.amax(dim=2, keepdim=True) - frames.amin(dim=2, keepdim=True),
    )
    r, g, b = frames.unbind(dim=2)
    top, safe = value[:, :, 0], torch.where(spread > 0, spread, 1.0)[:, :, 0]
    sixths = torch.where(top == r, (g - b) / safe, torch.where(top == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    # Channel n of HSV → RGB is value − spread · clamp(min(k, 4 − k), 0, 1), k = (n + 6·hue) mod 6, n = 5, 3, 1.
    n = torch.tensor([5.0, 3.0, 1.0], device=frames.device, dtype=frames.dtype)[:, None, None]
    k = (n + sixths[:, :, None] + 6 * shift) % 6
    return value - spread * torch.minimum(k, 4 - k).clamp(0, 1)


def luma(frames: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, device=frames.device, dtype=frames.dtype)[:, None, None]
    return (frames * weights).sum(dim=2, keepdim=True)


def _blend(frames: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (factor * frames + (1 - factor) * other).clamp(0, 1)
