"""Networks and configurations in the folders of a diffusers pipeline."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from salticid.errors import UserError

Half = Literal["fp16", "bf16"]
HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def write_network(network: Any, folder: Path, half: Half | None) -> None:
    """A network of diffusers."""
    network.save_config(folder)
    write_weights(network.state_dict(), folder / "diffusion_pytorch_model.safetensors", half)


def write_weights(tensors: Mapping[str, Tensor], file: Path, half: Half | None) -> None:
    """In half precision, but for integers; None: as they are.

    Raises:
        UserError: a weight is not finite, or too large for fp16.
    """
    stored = {}
    for name, value in tensors.items():
        to = HALVES[half] if half and value.is_floating_point() else value.dtype
        stored[name] = value.detach().to("cpu", to).contiguous()
        if value.is_floating_point() and not stored[name].isfinite().all():
            raise UserError(f"{file.parent.name}: {name} is not finite in {str(to).removeprefix('torch.')}")
    save_file(stored, file, metadata={"format": "pt"})


def write_transformer(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], folder: Path, half: Half | None
) -> None:
    """A network of transformers."""
    folder.mkdir()
    write_weights(tensors, folder / "model.safetensors", half)
    kept = {name: value for name, value in config.items() if name != "dtype"}
    # Else transformers would take it in the precision of the file, where diffusers takes the rest in float32.
    write_json(folder / "config.json", kept | {"torch_dtype": "float32"})


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
