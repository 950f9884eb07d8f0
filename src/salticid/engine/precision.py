"""In which precision a network computes. Parameters, gradients and optimiser are float32 in all of them."""

import logging
from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]
WantedPrecision = Literal["auto", "fp32", "bf16", "fp16"]
"""`auto`: bf16 where the device multiplies it natively, fp32 elsewhere."""

log = logging.getLogger(__name__)


def autocast(device: torch.device, precision: Precision, enabled: bool = True) -> torch.autocast:
    """The autocast of a precision."""
    dtype = {"fp32": torch.bfloat16, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.type, dtype, enabled=enabled and precision != "fp32")


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively. Where it does not, torch emulates it: on a CPU with AVX2 alone
    a convolution then takes some thirty times as long as in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    features = getattr(torch.cpu, "get_capabilities", dict)()  # new in torch 2.12
    return any(there is True for name, there in features.items() if "bf16" in name)


def settle(wanted: WantedPrecision, device: torch.device) -> Precision:
    """The precision that a run is trained in; a remark where the device will be slow in it."""
    if wanted == "bf16" and not has_bf16(device):
        log.warning("this device emulates bf16, which can be many times slower than trainer.precision fp32")
    return settled(wanted, device)


def settled(wanted: WantedPrecision, device: torch.device) -> Precision:
    """`settle`, without the remark."""
    if wanted == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    return wanted


def for_inference(trained: WantedPrecision, device: torch.device) -> Precision:
    """The precision to run a model in that was trained in another place: as there, but for a bf16 that this device
    would emulate, for which float32 is as good and quick."""
    if trained in ("auto", "bf16"):
        return "bf16" if has_bf16(device) else "fp32"
    return trained
