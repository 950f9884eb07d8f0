"""All that a run is at the end of a step: what a checkpoint holds, and what resuming brings back bit for bit."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from salticid.engine import checkpoint as checkpoints
from salticid.engine import sharded
from salticid.engine.checkpoint import Content
from salticid.engine.ema import Ema
from salticid.engine.optim import evaluation_weights
from salticid.engine.parallel import Ranks
from salticid.engine.recipe import Phase, Recipe
from salticid.engine.step import PhaseRunner
from salticid.engine.weights import load_tensors, saved, trainable
from salticid.errors import CheckpointError, ConfigError


def parameters_by_phase(recipe: Recipe) -> dict[str, dict[str, nn.Parameter]]:
    """The trainable parameters that each phase owns, by name.

    Raises:
        ConfigError: a parameter belongs to no phase or to two, or a phase has none.
    """
    names = {id(p): name for name, p in trainable(recipe).items()}
    owners: dict[int, str] = {}
    groups: dict[str, dict[str, nn.Parameter]] = {}
    for phase in recipe.phases():
        own = {id(p): p for module in _modules(recipe, phase) for p in module.parameters() if p.requires_grad}
        if not own:
            raise ConfigError(f"phase {phase.name} has no trainable parameters in {', '.join(phase.modules)}")
        if shared := next((key for key in own if key in owners), None):
            raise ConfigError(f"{names[shared]} belongs to phases {owners[shared]} and {phase.name}; one must own it")
        owners |= dict.fromkeys(own, phase.name)
        groups[phase.name] = {name: own[key] for key, name in names.items() if key in own}
    if orphan := next((name for key, name in names.items() if key not in owners), None):
        raise ConfigError(f"{orphan} is trainable, but belongs to no phase of {type(recipe).__name__}: freeze it")
    return groups


def _modules(recipe: Recipe, phase: Phase) -> list[nn.Module]:
    try:
        return [recipe.get_submodule(name) for name in phase.modules]
    except AttributeError as error:
        raise ConfigError(f"phase {phase.name} of {type(recipe).__name__}: {error}") from error


@dataclass
class TrainState:
    """The state of a run between two steps."""

    recipe: Recipe
    runners: list[PhaseRunner]
    ema: Ema | None
    micro_batch: int
    step: int = 0
    """Steps done."""
    validated: int = 0
    """Step of the last complete validation."""
    failures: int = 0
    """Steps in a row that ended without an update, for numerical reasons."""
    counts: dict[str, int] = field(default_factory=lambda: {"empty": 0, "nonfinite": 0, "overflow": 0})
    """Phases without an update, by the reason."""
    replaced: dict[str, int] = field(default_factory=dict)
    """Unreadable samples (id: reason) and how often they were replaced."""
    best: dict[str, Any] | None = None
    """Best validation so far: `step`, `metric`, `value`."""

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name, phase after phase."""
        return {name: p for runner in self.runners for name, p in runner.parameters.items()}

    def weights(self) -> dict[str, Tensor]:
        """The trainable parameters as they are to be evaluated and averaged (see `optim.evaluation_weights`)."""
        weights: dict[str, Tensor] = {}
        for runner in self.runners:
            weights |= evaluation_weights(runner.optimizer, runner.parameters)
        return weights

    def follow(self) -> None:
        """Count a step, and let the EMA follow it."""
        if self.ema:
            self.ema.update(self.weights(), self.step)
        self.step += 1

    def content(self, config: str) -> Content:
        """What to save."""
        evaluated = self.weights()
        model = saved(self.recipe) | evaluated
        state = {name: value for runner in self.runners for name, value in runner.tensors().items()}
        for name, p in self.parameters.items():
            if evaluated[name] is not p:  # schedule-free: training goes on from other weights than it publishes
                state[f"weights.{name}"] = p.detach()
        return Content(self.step, model, self.ema.average if self.ema else None, state, self._progress(), config)

    def _progress(self) -> dict[str, Any]:
        return {
            "micro_batch": self.micro_batch,
            "validated": self.validated,
            "failures": self.failures,
            "counts": self.counts,
            "replaced": self.replaced,
            "best": self.best,
            "ema_updates": self.ema.updates if self.ema else 0,
            "phases": {runner.phase.name: runner.progress() for runner in self.runners},
        }

    def load(self, checkpoint: Path, progress: dict[str, Any], ranks: Ranks) -> None:
        """Become what was saved in `checkpoint`, verified before, whose manifest holds `progress`.

        Raises:
            CheckpointError: it belongs to another model or run.
        """
        if bool(self.ema) != (checkpoint / "ema.safetensors").exists():
            raise CheckpointError(f"{checkpoint} {'has no' if self.ema else 'has an'} EMA, unlike this run")
        if set(progress["phases"]) != {runner.phase.name for runner in self.runners}:
            raise CheckpointError(f"{checkpoint} has phases {sorted(progress['phases'])}, unlike this run")
        load_tensors(checkpoint / "model.safetensors", saved(self.recipe))
        if self.ema:
            load_tensors(checkpoint / "ema.safetensors", self.ema.average)
            self.ema.updates = progress["ema_updates"]
        self._load_optimizers(checkpoint / "state", progress, ranks)
        for name in ("validated", "failures", "counts", "replaced", "best"):
            setattr(self, name, progress[name])
        self.step = checkpoints.step_of(checkpoint)

    def _load_optimizers(self, directory: Path, progress: dict[str, Any], ranks: Ranks) -> None:
        stored = sharded.describe(directory)
        targets: dict[str, Tensor] = {}
        for runner in self.runners:
            targets |= runner.allocate(stored)
            runner.restore(progress["phases"][runner.phase.name])
        for name, p in self.parameters.items():
            if f"weights.{name}" in stored:
                targets[f"weights.{name}"] = p.detach()
        if unknown := sorted(set(stored) - set(targets)):
            raise CheckpointError(f"{directory} has {unknown[0]}, which this run has no place for")
        sharded.read(directory, targets, distributed=ranks.world > 1)
