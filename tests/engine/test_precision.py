import logging

import pytest
import torch

from salticid.engine import precision
from salticid.engine.precision import autocast, for_inference, has_bf16, settle

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("features", "native"),
    [
        ({"avx2": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({}, False),
    ],
)
def test_a_cpu_tells_whether_it_multiplies_bf16(monkeypatch, features, native):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    assert has_bf16(CPU) is native
    assert settle("auto", CPU) == ("bf16" if native else "fp32")


@pytest.mark.parametrize("native", [True, False])
def test_what_is_asked_for_is_kept_and_remarked_on_where_it_is_slow(monkeypatch, caplog, native):
    monkeypatch.setattr(precision, "has_bf16", lambda device: native)
    with caplog.at_level(logging.WARNING):
        assert [settle(p, CPU) for p in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]
    assert [("emulates bf16" in r.message) for r in caplog.records] == ([] if native else [True])


@pytest.mark.parametrize("native", [True, False])
def test_emulated_bf16_is_not_used_for_inference(monkeypatch, native):
    monkeypatch.setattr(precision, "has_bf16", lambda device: native)
    half = "bf16" if native else "fp32"
    assert [for_inference(p, CPU) for p in ("auto", "bf16", "fp32", "fp16")] == [half, half, "fp32", "fp16"]


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_autocast_computes_in_the_precision(name, dtype):
    layer = torch.nn.Linear(2, 2)
    with autocast(CPU, name):
        assert layer(torch.ones(1, 2)).dtype == dtype
    with autocast(CPU, name, enabled=False):
        assert layer(torch.ones(1, 2)).dtype == torch.float32
