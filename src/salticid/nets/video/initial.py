"""What a video UNet begins with: the weights of a file, or, for SV4D, those of an SVD or SV3D as far as they fit."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from salticid.losses.pretrained import fill, find, read
from salticid.nets.video.names import PREFIX, diffusers_names, sv4d_name
from salticid.nets.video.unet import VideoUNet

MOTION = {"motion_blocks": "time_stack", "time_mix_motion_embed": "time_pos_embed"}
"""SV4D's frame attention → the layers of SVD that do the same there."""


def load_unet(unet: VideoUNet, file: str | Path, key: str = "recipe.base") -> None:
    """Fill a UNet, possibly on the meta device, with the weights of such a file, in float32.

    The file is one of generative-models (`svd*.safetensors`, `sv3d_*.safetensors`, `sv4d.safetensors`), whose other
    networks are left aside; of the UNet alone under the same names; or the UNet of a diffusers folder.

    Raises:
        ConfigError: there is no such file, it is damaged, or a weight is missing, superfluous or of another shape; the
            message names file and weight.
    """
    expected = "the UNet of SVD, SV3D or SV4D, in the format of generative-models or diffusers"
    path = find(str(file), expected, key)
    tensors = read(path, key)
    if parts := {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}:
        tensors = parts
    names = {name: sv4d_name(name) if unet.config.reference else name for name in unet.state_dict()}
    if "conv_in.weight" in tensors and not unet.config.reference:
        names = diffusers_names(unet.config, names)
    fill(unet, tensors, file=path, expected=expected, key=key, rename=names.__getitem__)


@torch.no_grad()
def adopt(unet: VideoUNet, views: Mapping[str, Tensor], frames: Mapping[str, Tensor] | None = None) -> dict[str, str]:
    """Give a UNet the weights of another one where names and shapes fit; the others stay as they are.

    SV4D was trained like that, from SV3D, with frame attention from SVD-XT (Xie et al. 2024). From an SVD of the same
    widths three kinds of weights are left: `label_emb.0.0.weight`, for SV4D is told of cameras (from an SV3D_p it
    fits), and the keys and values of `motion_blocks`, which attend to latents rather than to CLIP.

    Args:
        unet: not on the meta device; changed in place, its dtype and device kept.
        views: a state dict of a `VideoUNet`, for everything but frame attention where it has none.
        frames: another one, whose temporal attention then becomes frame attention; None: `views`.

    Returns:
        Name of each tensor that was not filled → why.

    Raises:
        ValueError: nothing fits.
    """
    left: dict[str, str] = {}
    ours = unet.state_dict()
    for name, tensor in ours.items():
        other = name if name in views else ".".join(MOTION.get(part, part) for part in name.split("."))
        found = (views if other == name or frames is None else frames).get(other)
        if found is None:
            left[name] = f"there is no {other}"
        elif found.shape != tensor.shape:
            left[name] = f"{other} has shape {tuple(found.shape)}, not {tuple(tensor.shape)}"
        else:
            tensor.copy_(found)
    if len(left) == len(ours):
        raise ValueError("no weight fits; expected a state dict under the names of VideoUNet")
    return left
