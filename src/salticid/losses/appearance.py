"""Appearance flow of AF-SfMLearner (Shao et al. 2022): changes of brightness between frames, learnt beside the motion.

With A the appearance flow and M the pixels that are seen in both frames (`splat.visible`), its stage II is

    mean over M of photometric(warped by depth, refined)
    + 0.01 · constancy + 0.01 · smoothness.edge_aware(A, target − warped by flow, M).
"""

from typing import TYPE_CHECKING

from torch import Tensor

from salticid.losses.pixels import full_precision, masked_mean

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def refine(
    target: "Float[Tensor, 'b c h w']", appearance: "Float[Tensor, 'b c h w']", visible: "Bool[Tensor, 'b 1 h w']"
) -> "Float[Tensor, 'b c h w']":
    """`target` ([0, 1]) in the light of the source frame: target + appearance where it is visible, kept in [0, 1]."""
    return (full_precision(target) + full_precision(appearance) * visible).clamp(0, 1)


def constancy(
    refined: "Float[Tensor, 'b c h w']",
    warped: "Float[Tensor, 'b c h w']",
    visible: "Bool[Tensor, 'b 1 h w'] | None" = None,
) -> "Float[Tensor, 'b']":
    """Mean |refined − warped| of every sample, over channels and over visible pixels: what the refined target should
    be is the source frame warped by optical flow."""
    return masked_mean((full_precision(refined) - full_precision(warped)).abs(), visible)
