"""Sizes of the video UNets: those of SVD, SV3D and SV4D, and one for tests."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VideoUNetConfig:
    """Sizes of a `VideoUNet`. The defaults are those of Stable Video Diffusion (Blattmann et al. 2023).

    Attributes:
        in_channels: of a row of the input: the noisy latent and, behind it, that of the conditioning frame.
        out_channels: of a row of the output.
        widths: channels per level, from the finest; each further level has half the height and width.
        blocks: residual blocks per level on the way down; on the way up there is one more.
        attention: per level, whether there are transformers.
        heads: per level, heads of the attention; a divisor of its width.
        context: length of the vectors that are attended to (of CLIP image embeddings).
        vector: length of the vector beside the time (Fourier features of fps, motion bucket, noise, camera …).
        reference: channels of the latents of reference views that frame attention looks at; 0: there is no frame
            attention, the network is that of SVD and SV3D.
        diffusers_norms: the ε of the residual blocks' GroupNorm is that of diffusers, 1e-6 on the way up and where
            there is attention, instead of 1e-5 everywhere as in generative-models. For equal answers.
    """

    in_channels: int = 8
    out_channels: int = 4
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks: int = 2
    attention: tuple[bool, ...] = (True, True, True, False)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    context: int = 1024
    vector: int = 768
    reference: int = 0
    diffusers_norms: bool = False

    def __post_init__(self):
        """Raises ValueError: the levels do not agree, or the heads of one do not divide its width."""
        if not len(self.widths) == len(self.attention) == len(self.heads):
            raise ValueError(
                f"widths, attention and heads are of {len(self.widths)}, {len(self.attention)} and "
                f"{len(self.heads)} levels; expected as many"
            )
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise ValueError(f"{heads} heads do not divide the width {width}")


SVD = VideoUNetConfig()
"""SVD and SVD-XT: fps, motion bucket and noise augmentation, 3 × 256. 1,524,623,082 parameters."""
SV3D_U = VideoUNetConfig(vector=256)
"""SV3D without a camera: noise augmentation, 256 (Voleti et al. 2024). 1,523,967,722 parameters."""
SV3D_P = VideoUNetConfig(vector=1280)
"""SV3D on camera paths: noise 256, polar and azimuth angle 2 × 512. 1,525,278,442 parameters."""
SV4D = VideoUNetConfig(vector=1280, reference=4)
"""Views × frames (Xie et al. 2024); vector as in SV3D_p. 1,996,625,322 parameters."""
TINY = VideoUNetConfig(widths=(32, 32), blocks=1, attention=(True, False), heads=(2, 2), context=24, vector=48)
"""For tests and demos on a CPU: about half a million parameters."""
