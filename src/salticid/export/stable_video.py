"""A video model as a `StableVideoDiffusionPipeline`, in a folder that diffusers loads."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from salticid.errors import UserError
from salticid.export.folder import whole_folder
from salticid.export.parts import Half, write_json, write_network, write_transformer, write_weights
from salticid.nets.diffusers_folder import SCHEDULER
from salticid.nets.stable_video import ImageEncoder, Vae
from salticid.nets.stable_video.base import PREPROCESSOR
from salticid.nets.stable_video.image_encoder import feature_extractor
from salticid.nets.stable_video.scheduler import euler
from salticid.nets.video import VideoUNet, config_to_diffusers, to_diffusers

NUMBERS = 3
"""That the pipeline tells the network: fps − 1, motion bucket, noise of the conditioning frame."""
PICTURE = 224
"""Height and width of what it gives the image encoder."""
MULTIPLE = 8
"""Of height and width of its films."""


@dataclass(frozen=True)
class SvdSettings:
    """How a video model was trained and is to be sampled."""

    frames: int = 14
    size: tuple[int, int] = (576, 1024)
    """Height and width of a film."""
    fps: float = 7.0
    """Of the training; the network was told fps − 1, as the pipeline tells it."""
    motion_bucket: float = 127.0
    noise_aug: float = 0.02
    """Standard deviation of the noise on the conditioning frame."""
    steps: int = 25
    solver: Literal["euler", "heun", "dpmpp_2m"] = "euler"
    sigma_min: float = 0.002
    sigma_max: float = 700.0
    rho: float = 7.0
    guider: Literal["none", "constant", "linear", "triangle"] = "linear"
    guidance: tuple[float, float] = (1.0, 2.5)
    """Scale at the first and the last frame; for `triangle` the higher one is halfway."""


def export_svd(
    unet: VideoUNet,
    vae: Vae,
    image_encoder: ImageEncoder,
    output: Path,
    settings: SvdSettings,
    *,
    half: Half | None = None,
) -> list[Path]:
    """Write a folder that `diffusers.StableVideoDiffusionPipeline.from_pretrained` loads, with all that it needs.

    It is a base for `nets.stable_video`, too. The networks are left as they are. A VAE without a temporal decoder goes
    into the folder as what it is, for the pipeline knows how to call both kinds.

    Args:
        half: precision of the files; None: that of the networks.

    Returns:
        the files written.

    Raises:
        UserError: `output` is not empty or cannot be written; a weight is too large for fp16; the pipeline has no room
            for networks of these sizes.
    """
    _check(unet, vae, image_encoder, settings)
    with whole_folder(output) as folder:
        _write_unet(unet, folder / "unet", settings.frames, half)
        write_network(vae.network, folder / "vae", half)
        config = image_encoder.network.config.to_diff_dict() | {"architectures": [type(image_encoder.network).__name__]}
        write_transformer(image_encoder.network.state_dict(), config, folder / "image_encoder", half)
        mean, std = image_encoder.mean.flatten().tolist(), image_encoder.std.flatten().tolist()
        for name, content in {
            f"feature_extractor/{PREPROCESSOR}": feature_extractor(image_encoder.size, mean, std),
            f"scheduler/{SCHEDULER}": euler(settings.sigma_min, settings.sigma_max),
            "model_index.json": _index(vae),
        }.items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_json(folder / name, content)
        readme = _readme(settings, _differences(unet, vae, settings))
        (folder / "README.md").write_text(readme, encoding="utf-8")
    return sorted(path for path in output.rglob("*") if path.is_file())


def _check(unet: VideoUNet, vae: Vae, image_encoder: ImageEncoder, settings: SvdSettings) -> None:
    """Refuse what the pipeline cannot run."""
    config, channels = unet.config, vae.latent_channels
    for what, value, right, expected in (
        ("reference views", config.reference, config.reference == 0, "a model of one film, without them"),
        ("input channels", config.in_channels, config.in_channels == 2 * channels, f"{2 * channels}"),
        ("output channels", config.out_channels, config.out_channels == channels, f"{channels}"),
        ("a context", config.context, config.context == image_encoder.width, f"one embedding of {image_encoder.width}"),
        ("a vector", config.vector, config.vector % NUMBERS == 0, "fps, motion bucket and noise, equally wide"),
        ("an image encoder of", image_encoder.size, image_encoder.size == PICTURE, f"{PICTURE} pixels"),
        ("films of", settings.size, not any(side % MULTIPLE for side in settings.size), f"multiples of {MULTIPLE}"),
    ):
        if not right:
            raise UserError(f"export: {what} {value}; diffusers' pipeline expects {expected}")


def _write_unet(unet: VideoUNet, folder: Path, frames: int, half: Half | None) -> None:
    folder.mkdir()
    kind = {"_class_name": "UNetSpatioTemporalConditionModel", "_diffusers_version": version("diffusers")}
    write_json(folder / "config.json", kind | config_to_diffusers(unet.config, NUMBERS, frames))
    tensors = to_diffusers(unet.config, unet.state_dict())
    write_weights(tensors, folder / "diffusion_pytorch_model.safetensors", half)


def _index(vae: Vae) -> dict[str, Any]:
    return {
        "_class_name": "StableVideoDiffusionPipeline",
        "_diffusers_version": version("diffusers"),
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
        "vae": ["diffusers", type(vae.network).__name__],
    }


def _readme(settings: SvdSettings, differences: list[str]) -> str:
    low, high = (1.0, 1.0) if settings.guider == "none" else settings.guidance
    height, width = settings.size
    return f"""# A video model for diffusers

Continues a picture to a film of {settings.frames} frames. Made by `salticid export`.

```python
import diffusers

pipeline = diffusers.StableVideoDiffusionPipeline.from_pretrained("this/folder")
film = pipeline(
    diffusers.utils.load_image("picture.jpg"),
    height={height},
    width={width},
    num_frames={settings.frames},
    num_inference_steps={settings.steps},
    min_guidance_scale={high if settings.guider == "constant" else low:g},
    max_guidance_scale={high:g},
    fps={settings.fps:g},
    motion_bucket_id={settings.motion_bucket:g},
    noise_aug_strength={settings.noise_aug:g},
).frames[0]
diffusers.utils.export_to_video(film, "film.mp4", fps={settings.fps:g})
```

These numbers are those of the training. The pipeline's own are others where they are not given, height and width among
them. It tells the network `fps - 1`, as the training did.

What the pipeline does otherwise than `salticid predict`:

{chr(10).join(differences)}
"""


def _differences(unet: VideoUNet, vae: Vae, settings: SvdSettings) -> list[str]:
    found = [
        "- It draws its noise from torch's generator, so that films are others for the same seed.",
        "- It pulls a picture to height and width whatever its shape: crop it before.",
        "- It looks at tensors as they are; for its image encoder it brings PIL pictures alone to the right size.",
    ]
    if not vae.temporal:
        found.append("- It says that it expects another kind of VAE. This one decodes every frame by itself.")
    if not unet.config.diffusers_norms:
        found.append(
            "- Some of its network's GroupNorms have ε = 1e-6 where the training had 1e-5: answers differ by less than "
            "a hundredth."
        )
    if settings.solver != "euler":
        found.append(f"- It samples by Euler's method; `salticid predict` does by {settings.solver}.")
    if settings.rho != 7:
        found.append(f"- Its noise levels have ρ = 7; those of `salticid predict` have {settings.rho:g}.")
    if settings.guider == "triangle":
        found.append("- Its guidance grows to the last frame; that of `salticid predict` is strongest halfway.")
    if settings.guider != "none" and max(settings.guidance) <= 1:
        found.append("- It has no guidance where its maximum is 1 or less; that of `salticid predict` is below 1.")
    return found
