"""A depth model as a `MarigoldDepthPipeline`, in a folder that diffusers loads."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from salticid.errors import UserError
from salticid.export.folder import whole_folder
from salticid.export.parts import Half, write_json, write_network, write_transformer
from salticid.losses.pretrained import package, read
from salticid.nets.diffusers_folder import EXTRA
from salticid.nets.stable_diffusion import UNet, Vae, merge_lora
from salticid.nets.stable_diffusion.base import TOKENIZER, Base

PREDICTIONS = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
TEXT = "text_model."
"""Before every name of a text encoder's file; transformers 5 has it in its files no more, and reads both."""
TABLE = ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end", "trained_betas")
"""What a scheduler's configuration says of the path; the rest is about walking along it."""
PARTS = {
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


@dataclass(frozen=True)
class MarigoldSettings:
    """How a depth model was trained and is to be sampled."""

    target: Literal["epsilon", "x0", "v"] = "v"
    zero_terminal_snr: bool = True
    spacing: Literal["trailing", "leading"] = "trailing"
    start: Literal["gaussian", "zeros", "image"] = "gaussian"
    """What stands for the noise."""
    padded_prompt: bool = False
    quantity: Literal["depth", "disparity"] = "depth"
    """What 1 is: far, or near."""
    affine_invariant: bool = True
    """Whether predictions have a scale and a shift of their own; False: metric."""
    steps: int = 1
    """Of sampling, unless the pipeline is told otherwise."""
    resolution: int = 768
    """Longest side at which pictures are looked at, unless the pipeline is told otherwise; 0: their own."""


def export_marigold(
    unet: UNet,
    vae: Vae,
    base: str,
    output: Path,
    settings: MarigoldSettings,
    *,
    half: Half | None = None,
    key: str = "recipe.base",
) -> list[Path]:
    """Write a folder that `diffusers.MarigoldDepthPipeline.from_pretrained` loads, with all that it needs.

    The networks are left as they are; adapters are merged into a copy. Text encoder, tokenizer and table of betas are
    those of `base`.

    Args:
        half: precision of the files; None: that of the networks.

    Returns:
        the files written.

    Raises:
        UserError: `output` is not empty or cannot be written; a weight is too large for fp16; the settings do not fit.
        ConfigError: the base lacks a part.
    """
    factor = 2 ** (len(vae.config["block_out_channels"]) - 1)
    if settings.steps < 1 or settings.resolution < 0 or settings.resolution % factor:
        raise UserError(
            f"export with {settings.steps} steps at resolution {settings.resolution}; expected at least 1 step, and a "
            f"multiple of {factor}"
        )
    found = Base(base, key)
    with whole_folder(output) as folder:
        write_network(merge_lora(unet), folder / "unet", half)
        write_network(vae, folder / "vae", half)
        _write_text(found, folder, half)
        ddim = package("diffusers", key, EXTRA).DDIMScheduler
        ddim(**_scheduler(found.scheduler(), settings)).save_config(folder / "scheduler")
        write_json(folder / "model_index.json", _index(settings))
        (folder / "README.md").write_text(_readme(settings), encoding="utf-8")
    return sorted(path for path in output.rglob("*") if path.is_file())


def _scheduler(base: Mapping[str, Any], settings: MarigoldSettings) -> dict[str, Any]:
    """DDIM on the path of the training (see `VP.from_scheduler`)."""
    table = {name: base[name] for name in TABLE if name in base}
    return table | {
        "prediction_type": PREDICTIONS[settings.target],
        "rescale_betas_zero_snr": settings.zero_terminal_snr,
        "timestep_spacing": settings.spacing,
        "set_alpha_to_one": base.get("set_alpha_to_one", True),
        "steps_offset": base.get("steps_offset", 0),
        "clip_sample": False,
    }


def _index(settings: MarigoldSettings) -> dict[str, Any]:
    return {
        "_class_name": "MarigoldDepthPipeline",
        "_diffusers_version": version("diffusers"),
        "default_denoising_steps": settings.steps,
        "default_processing_resolution": settings.resolution,
        "prediction_type": settings.quantity,
        "scale_invariant": settings.affine_invariant,
        "shift_invariant": settings.affine_invariant,
        **PARTS,
    }


def _write_text(base: Base, folder: Path, half: Half | None) -> None:
    """Text encoder and tokenizer, the former under the names that every version of transformers reads."""
    file = base.weights("text_encoder")
    if file is None:
        raise UserError(f"{base.key}: {base.name} has no text_encoder/model.safetensors to export")
    weights = {TEXT + name.removeprefix(TEXT): value for name, value in read(file, base.key).items()}
    write_transformer(weights, base.config("text_encoder"), folder / "text_encoder", half)
    (folder / "tokenizer").mkdir()
    for name in TOKENIZER:
        if (source := base.tokenizer() / name).is_file():
            shutil.copyfile(source, folder / "tokenizer" / name)


def _readme(settings: MarigoldSettings) -> str:
    kind = f"affine-invariant {settings.quantity}" if settings.affine_invariant else "depth"
    steps = f"{settings.steps} DDIM step{'s' * (settings.steps > 1)}"
    lines = [
        "# A depth model for diffusers",
        "",
        f"Predicts {kind} from one picture, in {steps} unless told otherwise. Made by `salticid export`.",
        "",
        "```python",
        "import diffusers",
        "",
        'pipeline = diffusers.MarigoldDepthPipeline.from_pretrained("this/folder")',
        'depth = pipeline(diffusers.utils.load_image("picture.jpg")).prediction  # (1, H, W, 1), in [0, 1]',
        "```",
    ]
    if differences := _differences(settings):
        lines += ["", "What the pipeline does otherwise than the training did:", "", *differences]
    return "\n".join(lines) + "\n"


def _differences(settings: MarigoldSettings) -> list[str]:
    found = []
    if settings.padded_prompt:
        found.append("- It embeds the empty prompt as 2 tokens; this model was trained with 77, padded.")
    if settings.start != "gaussian":
        what = "zeros" if settings.start == "zeros" else "the latent of the picture, scaled as the pipeline scales it"
        found.append(f"- It starts from Gaussian noise; this model was trained to start from {what}: pass `latents=`.")
    if not settings.affine_invariant:
        found.append("- It answers in [0, 1], which the training mapped from metres: undo that map by hand.")
    return found
