"""Embedders: sinusoids in closed form, CLIP of pictures and texts against transformers, classes, unscaled latents."""

import math

import pytest
import torch

from salticid.errors import ConfigError
from salticid.nets.conditioner import Conditioner
from salticid.nets.diffusers_folder import shipped
from salticid.nets.embedders import ClassEmbedder, ClipImageEmbedder, FourierEmbedder, LatentEmbedder, TextEmbedder
from salticid.nets.first_stage import FirstStage, FirstStageSettings

BASE = "tiny-video"


@pytest.fixture(scope="module")
def stage() -> FirstStage:
    return FirstStage(BASE, FirstStageSettings())


def pictures(count: int, size: int = 24) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_numbers_are_told_as_sinusoids_cosines_first():
    found = FourierEmbedder("fps_id", 8).embed(torch.tensor([0.0, 6.0, 127.0]), 0)
    assert found.shape == (3, 8)
    for row, number in zip(found.tolist(), (0.0, 6.0, 127.0), strict=True):
        angles = [number * 10_000 ** (-i / 4) for i in range(4)]
        assert row == pytest.approx([math.cos(a) for a in angles] + [math.sin(a) for a in angles], abs=1e-5)
    token = FourierEmbedder("fps_id", 8, kind="crossattn").embed(torch.tensor([6.0]), 0)
    torch.testing.assert_close(token[:, 0], found[1:2])
    assert not FourierEmbedder.content


@pytest.mark.parametrize("dim", [0, 1, 7])
def test_sinusoids_are_of_an_even_number(dim):
    with pytest.raises(ConfigError, match=f"dim of fps_id is {dim}; expected an even number"):
        FourierEmbedder("fps_id", dim)


@pytest.mark.parametrize("trainable", [False, True])
def test_pictures_are_told_by_the_base_s_image_encoder(stage, trainable):
    """Frozen, it is no part of the model; trainable, its weights are, and learn."""
    from salticid.nets.stable_video import make_image_encoder

    embedder = ClipImageEmbedder(trainable=trainable)
    made = Conditioner([embedder], BASE, stage)
    encoder = make_image_encoder(BASE)
    found = embedder.embed(pictures(2), 0)
    assert found.shape == (2, 1, encoder.width)
    torch.testing.assert_close(found[:, 0], encoder(pictures(2)))
    assert embedder.width == made.width("crossattn") == encoder.width
    assert found.requires_grad == trainable
    assert bool(list(made.parameters())) == bool(list(made.state_dict())) == trainable
    assert all(p.requires_grad for p in made.parameters())
    assert bool(embedder.frozen_networks()) != trainable
    with torch.no_grad():
        assert not embedder.embed(pictures(1), 0).requires_grad


def test_a_base_of_its_own_that_is_not_there_is_named_by_its_key(stage):
    with pytest.raises(ConfigError, match=r"recipe\.conditioner: nowhere-at-all"):
        Conditioner([ClipImageEmbedder(base="nowhere-at-all")], BASE, stage)


def test_latents_are_modes_without_the_scale(stage):
    embedder = LatentEmbedder()
    made = Conditioner([embedder], BASE, stage)
    found = embedder.embed(pictures(3), 0)
    assert stage.vae is not None
    mode = stage.vae.network.network.encode(pictures(3)).latent_dist.mean
    torch.testing.assert_close(found, mode)
    torch.testing.assert_close(found * stage.scale, stage.encode(pictures(3)))
    assert abs(stage.scale - 1) > 0.1
    assert made.width("concat") == 4
    assert not made.state_dict(), "the first stage is the model's"


def test_classes_are_learned_vectors():
    for kind in ("vector", "crossattn"):
        embedder = ClassEmbedder(5, 6, kind=kind)
        made = Conditioner([embedder], "", FirstStage("", FirstStageSettings(kind="identity")))
        found = embedder.embed(torch.tensor([3, 0]), 0)
        assert found.shape == ((2, 6) if kind == "vector" else (2, 1, 6))
        torch.testing.assert_close(found.flatten(1), embedder.table.weight[[3, 0]])
        assert found.requires_grad
        assert embedder.width == made.width(kind) == 6
    assert ClassEmbedder(5, 6, trainable=False).trainable is False
    with pytest.raises(ConfigError, match="classes of label is 0; expected at least 1"):
        ClassEmbedder(0, 6)


def test_what_is_not_trainable_is_frozen(stage):
    embedder = ClassEmbedder(5, 6, trainable=False)
    made = Conditioner([embedder], BASE, stage)
    assert [p.requires_grad for p in made.parameters()] == [False]


def test_texts_are_told_as_77_states_of_clip():
    from transformers import CLIPTextModel, CLIPTokenizer

    texts = ["a toy", "", "a blue room " * 40]
    embedder = TextEmbedder("tiny")
    found = embedder.embed(texts, 0)
    folder = shipped("tiny")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32).eval()
    tokens = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = encoder(tokens).last_hidden_state
    assert found.shape == (3, embedder.tokens, embedder.width)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not list(embedder.parameters())
    with pytest.raises(ConfigError, match=r"recipe\.conditioner: nowhere: no such folder"):
        TextEmbedder("nowhere")
