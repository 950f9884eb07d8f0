"""The conditioner: what a UNet is told beside the noisy latents, as a list of embedders (generative-models' term).

Rows of a clip lie on a grid: (T,) frames of SVD, (T, V) frames × views of SV4D. A value that an embedder reads is
(B, *grid, …) with 1 where it is the same for all frames or views; its embedding is repeated there, in training as in
sampling.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from salticid.diffusion.noise import keyed_uniform
from salticid.errors import ConfigError, require
from salticid.nets.first_stage import FirstStage

Kind = Literal["crossattn", "concat", "vector", "reference"]
"""Where an embedding goes: tokens that the rows attend to, channels behind the noisy latent, a vector beside the time,
latents that SV4D's frame attention looks at."""


class Embedder(nn.Module, ABC):
    """A value of the batch → an embedding of one kind.

    Args:
        input_key: of the batch, or of what the recipe derives from it.
        kind: where the embedding goes.
        ucg_rate: share of the training clips for which it is zero, so that guidance has something to compare with;
            drawn for each embedder by itself.
        trainable: learns with the UNet; otherwise frozen.
    """

    content: ClassVar[bool] = True
    """Whether it says what is to be seen, and so is missing where guidance compares with nothing."""
    costly: ClassVar[bool] = False
    """Whether its embeddings are worth keeping on the disk, where it is frozen."""
    tokens: ClassVar[int] = 1
    """Of `crossattn`: m."""

    def __init__(self, input_key: str, kind: Kind, ucg_rate: float = 0.0, trainable: bool = False):
        super().__init__()
        require(f"recipe.conditioner: ucg_rate of {input_key}", ucg_rate, 0 <= ucg_rate <= 1, "a share from 0 to 1")
        self.input_key, self.kind, self.ucg_rate, self.trainable = input_key, kind, ucg_rate, trainable

    @property
    def name(self) -> str:
        return f"{self.input_key}.{self.kind}"

    def connect(self, base: str, first_stage: FirstStage) -> None:
        """Make networks that are those of the recipe; called once, before anything else."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels of the embedding: d of tokens and vectors, c of latents."""

    @abstractmethod
    def embed(self, value: Any, step: int) -> Tensor:
        """Values (n, …), or a list of n, → (n, m, d) tokens, (n, d) vectors or (n, c, h, w) latents.

        Args:
            step: of the training run, from 0; −1 outside of training.
        """

    def frozen_networks(self) -> Sequence[nn.Module]:
        """What its embeddings depend on, beside the value."""
        return ()


@dataclass(frozen=True)
class Conditions:
    """What a UNet is told of the rows of a batch, N = B · prod(grid); None: nothing of that kind."""

    grid: tuple[int, ...]
    """(T,) or (T, V)."""
    crossattn: Tensor | None = None
    """(N, m, d)"""
    concat: Tensor | None = None
    """(N, c, h, w)"""
    vector: Tensor | None = None
    """(N, d)"""
    reference: Tensor | None = None
    """(B, V, c, h, w)"""
    image_only: Tensor | None = None
    """(B, T) of bool: rows that are pictures of their own."""

    def after(self, other: Self) -> Self:
        """Those of both batches, `other`'s first."""
        names = [field.name for field in fields(self) if isinstance(getattr(self, field.name), Tensor)]
        return replace(self, **{name: torch.cat([getattr(other, name), getattr(self, name)]) for name in names})


Embedded = dict[str, Tensor]
"""By embedder's name, (B, *grid or ones, …)."""


class Conditioner(nn.Module):
    """All embedders of a recipe.

    Raises:
        ConfigError: two of them do the same, or widths of tokens differ.
    """

    def __init__(self, embedders: Sequence[Embedder], base: str, first_stage: FirstStage):
        super().__init__()
        names = [embedder.name for embedder in embedders]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"recipe.conditioner: {twice} is there twice")
        for embedder in embedders:
            embedder.connect(base, first_stage)
            if not embedder.trainable:
                embedder.requires_grad_(False)
        self.embedders = nn.ModuleList(embedders)
        widths = {e.width for e in self.of_kind("crossattn")}
        if len(widths) > 1:
            raise ConfigError(f"recipe.conditioner: tokens (crossattn) of widths {sorted(widths)}; expected one width")

    def check(self, names: Collection[str]) -> None:
        """Raise ConfigError unless values of these names are all that embedders read."""
        for embedder in self.all:
            _check_has(names, embedder)

    def of_kind(self, kind: Kind) -> list[Embedder]:
        return [embedder for embedder in self.all if embedder.kind == kind]

    @property
    def all(self) -> list[Embedder]:
        return list(self.embedders)  # type: ignore[arg-type]

    @property
    def tokens(self) -> int:
        """That each row attends to."""
        return sum(embedder.tokens for embedder in self.of_kind("crossattn"))

    def width(self, kind: Kind) -> int:
        """Channels of all embeddings of a kind together; of tokens, which lie one behind the other, their width."""
        widths = [embedder.width for embedder in self.of_kind(kind)]
        return (widths[0] if widths else 0) if kind == "crossattn" else sum(widths)

    def embed(
        self, values: Mapping[str, Any], dims: int, step: int = -1, known: Mapping[str, Tensor] | None = None
    ) -> Embedded:
        """The embeddings of a batch.

        Args:
            values: (B, *grid or ones, …) by input key; lists of B.
            dims: of batch and grid together.
            step: as in `Embedder.embed`.
            known: embeddings that need not be computed, by name.

        Raises:
            ConfigError: the batch has not what an embedder reads.
        """
        known = known or {}
        return {
            embedder.name: known[embedder.name]
            if embedder.name in known
            else self.embed_one(embedder, values, dims, step)
            for embedder in self.all
        }

    def embed_one(self, embedder: Embedder, values: Mapping[str, Any], dims: int, step: int = -1) -> Tensor:
        """The embedding of one embedder; as in `embed`."""
        _check_has(values, embedder)
        value = values[embedder.input_key]
        lead = (len(value), *[1] * (dims - 1))
        if isinstance(value, Tensor):
            lead, value = value.shape[:dims], value.flatten(0, dims - 1)
        return embedder.embed(value, step).unflatten(0, lead)

    def drop(self, embedded: Embedded, keys: Tensor, seed: int) -> Embedded:
        """Zero, for every embedder by itself, in its share of the clips: a pure function of (seed, key)."""
        dropped = dict(embedded)
        for embedder in self.all:
            if embedder.ucg_rate:
                value = embedded[embedder.name]
                chance = keyed_uniform(keys, seed=seed, stream=f"ucg {embedder.name}", device=value.device)
                kept = (chance >= embedder.ucg_rate).view(-1, *[1] * (value.ndim - 1))
                dropped[embedder.name] = torch.where(kept, value, 0.0)
        return dropped

    def without(self, embedded: Embedded, names: Collection[str] | None = None) -> Embedded:
        """The unconditional variant: embeddings of these input keys (None: of all content) are zero."""
        zero = {e.name for e in self.all if (e.content if names is None else e.input_key in names)}
        return {name: torch.zeros_like(value) if name in zero else value for name, value in embedded.items()}

    def assemble(self, embedded: Embedded, grid: tuple[int, ...], image_only: Tensor | None = None) -> Conditions:
        """The embeddings, each repeated over the grid, those of a kind behind each other.

        What pictures of their own (`image_only`, (B, T)) are to show nobody tells: their content is zero, for it was
        that of another picture, the clip's first.
        """
        alone = None if image_only is None or not image_only.any() else image_only

        def rows(embedder: Embedder) -> Tensor:
            value = embedded[embedder.name]
            if alone is not None and embedder.content:
                value = torch.where(alone.view(*alone.shape, *[1] * (value.ndim - alone.ndim)), 0.0, value)
            return value.expand(-1, *grid, *value.shape[len(grid) + 1 :]).flatten(0, len(grid))

        def together(kind: Kind) -> Tensor | None:
            parts = [rows(embedder) for embedder in self.of_kind(kind)]
            return torch.cat(parts, dim=-1 if kind == "vector" else 1) if parts else None

        references = [embedded[embedder.name][:, 0] for embedder in self.of_kind("reference")]
        return Conditions(
            grid,
            crossattn=together("crossattn"),
            concat=together("concat"),
            vector=together("vector"),
            reference=torch.cat(references, dim=2) if references else None,
            image_only=alone,
        )


def _check_has(names: Collection[str], embedder: Embedder) -> None:
    if embedder.input_key not in names:
        raise ConfigError(
            f"recipe.conditioner: samples have no {embedder.input_key}, which {type(embedder).__name__} reads"
        )
