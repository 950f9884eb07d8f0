"""The conditioner: embeddings repeated over grids against a loop, dropout as a function of (seed, key), refusals."""

from itertools import product

import pytest
import torch
from torch import Tensor

from salticid.errors import ConfigError
from salticid.nets.conditioner import Conditioner, Embedder, Kind
from salticid.nets.embedders import FourierEmbedder
from salticid.nets.first_stage import FirstStage, FirstStageSettings

SHAPES: dict[Kind, tuple[int, ...]] = {"crossattn": (2, 5), "concat": (3, 4, 4), "vector": (6,), "reference": (3, 4, 4)}
"""Of one embedding."""


class Plain(Embedder):
    """The value itself, which is an embedding already."""

    def __init__(self, input_key: str, kind: Kind, ucg_rate: float = 0.0, width: int | None = None):
        super().__init__(input_key, kind, ucg_rate)
        self.size = width or SHAPES[kind][1 if kind == "crossattn" else 0]
        self.tokens = 2 if kind == "crossattn" else 1  # type: ignore[misc]

    @property
    def width(self) -> int:
        return self.size

    def embed(self, value: Tensor, step: int) -> Tensor:
        return value


class Number(Plain):
    """Says nothing of what is to be seen."""

    content = False


class Words(Plain):
    """The lengths of texts."""

    def embed(self, value: list[str], step: int) -> Tensor:  # type: ignore[override]
        return torch.tensor([[[float(len(text))] * 5] * 2 for text in value])


def conditioner(*embedders: Embedder) -> Conditioner:
    return Conditioner(embedders, "", FirstStage("", FirstStageSettings(kind="identity")))


def value(kind: Kind, lead: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(*lead, *SHAPES[kind], generator=torch.Generator().manual_seed(seed))


def test_kinds_have_widths_and_tokens():
    made = conditioner(
        Plain("a", "crossattn"),
        Plain("b", "crossattn"),
        Plain("c", "concat"),
        Plain("d", "concat", width=4),
        Number("e", "vector"),
        FourierEmbedder("f", 10),
        Plain("g", "reference"),
    )
    assert {kind: made.width(kind) for kind in SHAPES} == {"crossattn": 5, "concat": 7, "vector": 16, "reference": 3}
    assert made.tokens == 4, "one behind the other"
    assert [e.name for e in made.of_kind("vector")] == ["e.vector", "f.vector"]
    nothing = conditioner()
    assert [nothing.width(kind) for kind in SHAPES] == [0, 0, 0, 0]
    assert nothing.tokens == 0
    empty = nothing.assemble({}, (3,))
    assert (empty.crossattn, empty.concat, empty.vector, empty.reference, empty.image_only) == (None,) * 5


@pytest.mark.parametrize(
    ("grid", "lead"),
    [
        ((3,), (2, 1)),
        ((3,), (2, 3)),
        ((3, 2), (2, 1, 1)),
        ((3, 2), (2, 3, 1)),
        ((3, 2), (2, 1, 2)),
        ((3, 2), (2, 3, 2)),
        ((1, 2), (2, 1, 2)),
    ],
)
@pytest.mark.parametrize("kind", ["crossattn", "concat", "vector"])
def test_embeddings_are_repeated_as_a_loop_repeats_them(grid, lead, kind):
    """Batch outermost, views innermost; two embedders of one kind behind each other, in their order."""
    made = conditioner(Plain("a", kind), Plain("b", kind))
    values = {"a": value(kind, lead), "b": value(kind, (2, *[1] * len(grid)), seed=1)}
    embedded = made.embed(values, dims=len(grid) + 1)
    assert embedded["a.crossattn" if kind == "crossattn" else f"a.{kind}"].shape == values["a"].shape
    found = getattr(made.assemble(embedded, grid), kind)
    axis = -1 if kind == "vector" else 0
    expected = []
    for place in product(range(2), *map(range, grid)):
        own = tuple(i if size > 1 else 0 for i, size in zip(place, lead, strict=True))
        expected.append(torch.cat([values["a"][own], values["b"][(place[0], *[0] * len(grid))]], dim=axis))
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=0)


def test_references_keep_their_views():
    made = conditioner(Plain("a", "reference"), Plain("b", "reference"))
    values = {"a": value("reference", (2, 1, 4)), "b": value("reference", (2, 1, 4), seed=1)}
    found = made.assemble(made.embed(values, dims=3), (3, 4))
    assert found.reference is not None
    assert found.reference.shape == (2, 4, 6, 4, 4)
    torch.testing.assert_close(found.reference[1, 2, :3], values["a"][1, 0, 2], rtol=0, atol=0)
    torch.testing.assert_close(found.reference[1, 2, 3:], values["b"][1, 0, 2], rtol=0, atol=0)


def test_lists_are_of_whole_clips():
    made = conditioner(Words("caption", "crossattn"))
    embedded = made.embed({"caption": ["a", "four"]}, dims=3)
    assert embedded["caption.crossattn"].shape == (2, 1, 1, 2, 5)
    rows = made.assemble(embedded, (2, 3)).crossattn
    assert rows is not None
    assert rows[:, 0, 0].tolist() == [1.0] * 6 + [4.0] * 6


def test_what_is_known_is_not_embedded_again():
    known = {"a.vector": value("vector", (2, 1), seed=7)}
    found = conditioner(Plain("a", "vector")).embed({}, dims=2, known=known)
    assert found["a.vector"] is known["a.vector"]


# dropout ---------------------------------------------------------------------------------------------------------

RATE = 0.3


def dropped(keys: Tensor, seed: int = 0, *embedders: Embedder) -> dict[str, Tensor]:
    """Which embeddings of which clips are zero."""
    made = conditioner(
        *(embedders or (Plain("a", "vector", RATE), Plain("b", "crossattn", RATE), Plain("c", "vector")))
    )
    ones = {e.name: torch.ones(len(keys), 1, *SHAPES[e.kind]) for e in made.all}
    found = made.drop(ones, keys, seed)
    assert all(((v == 0).flatten(1).all(1) | (v == 1).flatten(1).all(1)).all() for v in found.values()), "as a whole"
    assert all((v == 1).all() for v in ones.values()), "what came in is left as it is"
    return {name: (v == 0).flatten(1).all(1) for name, v in found.items()}


def test_dropout_is_a_function_of_seed_and_key():
    keys = torch.arange(40)
    one = dropped(keys)
    for name, gone in one.items():
        assert torch.equal(torch.cat([dropped(part)[name] for part in keys.split(7)]), gone)
        assert torch.equal(dropped(keys.flip(0))[name], gone.flip(0))
    assert not torch.equal(dropped(keys, 1)["a.vector"], one["a.vector"])
    assert not one["c.vector"].any(), "a rate of 0"
    assert dropped(keys, 0, Plain("a", "vector", 1.0))["a.vector"].all()


def test_each_embedder_is_dropped_by_itself_and_in_its_share():
    """8000 clips: shares are within 4 standard deviations, 0.02, and so is the share of both, the product."""
    gone = dropped(torch.arange(8000))
    a, b = gone["a.vector"], gone["b.crossattn"]
    assert a.double().mean() == pytest.approx(RATE, abs=0.02)
    assert b.double().mean() == pytest.approx(RATE, abs=0.02)
    assert (a & b).double().mean() == pytest.approx(RATE**2, abs=0.02)
    assert not torch.equal(a, dropped(torch.arange(8000), 0, Plain("other", "vector", RATE))["other.vector"])


# unconditional, and pictures of their own --------------------------------------------------------------------------


def test_without_what_tells_of_the_content_or_without_some_names():
    made = conditioner(Plain("a", "vector"), Number("b", "vector"), Plain("a", "concat"))
    embedded = made.embed({"a": torch.ones(1, 1, 3, 4, 4), "b": torch.ones(1, 1, 6)}, dims=2)
    zero = {name for name, v in made.without(embedded).items() if not v.any()}
    assert zero == {"a.vector", "a.concat"}
    assert {name for name, v in made.without(embedded, ["b"]).items() if not v.any()} == {"b.vector"}
    assert all(v.any() for v in made.without(embedded, []).values())
    assert all(v.any() for v in embedded.values())


def test_the_content_of_pictures_of_their_own_is_zero():
    made = conditioner(Plain("a", "crossattn"), Number("b", "vector"))
    embedded = made.embed({"a": value("crossattn", (2, 1)), "b": value("vector", (2, 1))}, dims=2)
    alone = torch.tensor([[False, True, False], [True, True, True]])
    found, plain = made.assemble(embedded, (3,), alone), made.assemble(embedded, (3,))
    assert found.crossattn is not None
    assert plain.crossattn is not None
    assert found.image_only is alone
    assert not found.crossattn[alone.flatten()].any()
    torch.testing.assert_close(found.crossattn[~alone.flatten()], plain.crossattn[~alone.flatten()], rtol=0, atol=0)
    torch.testing.assert_close(found.vector, plain.vector, rtol=0, atol=0)
    assert made.assemble(embedded, (3,), torch.zeros(2, 3, dtype=torch.bool)).image_only is None


def test_two_batches_of_conditions_are_put_one_after_the_other():
    made = conditioner(Plain("a", "crossattn"), Plain("r", "reference"))
    values = {"a": value("crossattn", (2, 1, 1)), "r": value("reference", (2, 1, 2))}
    embedded = made.embed(values, dims=3)
    given, free = made.assemble(embedded, (3, 2)), made.assemble(made.without(embedded), (3, 2))
    both = given.after(free)
    assert both.grid == (3, 2)
    assert both.vector is None
    for name, rows in (("crossattn", 12), ("reference", 2)):
        together = getattr(both, name)
        assert not together[:rows].any(), "the other's come first"
        torch.testing.assert_close(together[rows:], getattr(given, name), rtol=0, atol=0)


# refusals --------------------------------------------------------------------------------------------------------


def test_the_same_twice_is_refused():
    with pytest.raises(ConfigError, match=r"recipe\.conditioner: a\.vector is there twice"):
        conditioner(Plain("a", "vector"), Number("a", "vector"))
    conditioner(Plain("a", "vector"), Plain("a", "concat"))


def test_tokens_of_two_widths_are_refused():
    with pytest.raises(ConfigError, match=r"tokens \(crossattn\) of widths \[5, 8\]; expected one width"):
        conditioner(Plain("a", "crossattn"), Plain("b", "crossattn", width=8))


def test_a_batch_without_what_is_read_is_refused():
    with pytest.raises(ConfigError, match="samples have no b, which Plain reads"):
        conditioner(Plain("b", "vector")).embed({"a": torch.ones(1, 1, 6)}, dims=2)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_is_a_share(rate):
    with pytest.raises(ConfigError, match=r"ucg_rate of a is .*; expected a share from 0 to 1"):
        Plain("a", "vector", rate)
