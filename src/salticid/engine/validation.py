"""Validation in the middle of a run."""

from salticid.data.order import Order
from salticid.data.source import Source
from salticid.engine.evaluation import Weights, evaluate, preview
from salticid.engine.log import RunLog
from salticid.engine.parallel import Ranks
from salticid.engine.settings import Settings
from salticid.engine.signals import StopFlag
from salticid.engine.state import TrainState
from salticid.engine.weights import swapped


class Judge:
    """Knows when validation is due, and does it."""

    def __init__(
        self, source: Source, order: Order, settings: Settings, log: RunLog, ranks: Ranks, stop: StopFlag
    ) -> None:
        self.source, self.order, self.settings = source, order, settings
        self.log, self.ranks, self.stop = log, ranks, stop

    def due(self, step: int) -> bool:
        """Whether to validate after `step` steps: every N steps, every N epochs, and after the last."""
        config = self.settings.validation
        if config.samples == 0 or len(self.source) == 0:
            return False
        if step == self.settings.trainer.steps or (config.every_steps and step % config.every_steps == 0):
            return True
        if not config.every_epochs:
            return False
        now, before = self.order.epochs_after(step), self.order.epochs_after(step - 1)
        return now // config.every_epochs > before // config.every_epochs

    def judge(self, state: TrainState, limit: int | None = None) -> dict[str, float]:
        """Evaluate and show the model; returns the metrics by name, and by `raw/` and `ema/` name.

        Raises:
            Stopped: a signal came; nothing has been logged.
        """
        weights = state.weights()
        kinds: list[tuple[Weights, dict]] = []
        wanted = self.settings.validation.weights
        if state.ema and state.ema.updates and wanted != "raw":
            kinds.append(("ema", state.ema.weights()))
        if wanted != "ema" or not kinds:
            kinds.insert(0, ("raw", weights))
        metrics: dict[str, float] = {}
        for kind, values in kinds:
            with swapped(state.parameters, values):
                found = self._evaluate(state, kind, limit)
            metrics |= found | {f"{kind}/{name}": value for name, value in found.items()}
        return metrics

    def _evaluate(self, state: TrainState, kind: Weights, limit: int | None) -> dict[str, float]:
        config, trainer, device = self.settings.validation, self.settings.trainer, self.ranks.device
        common = {"device": device, "seed": trainer.seed, "precision": state.runners[0].precision}
        result = evaluate(
            state.recipe,
            self.source,
            batch=config.batch or state.micro_batch,
            workers=trainer.workers,
            limit=limit or config.samples,
            ranks=self.ranks,
            stop=lambda: self.stop.raised,
            **common,
        )
        picture = preview(state.recipe, self.source, config.previews, **common) if config.previews else None
        skipped = {"skipped": result.skipped} if result.skipped else {}
        self.log.event("validation", state.step, weights=kind, metrics=result.metrics, **skipped)
        if picture is not None:
            self.log.picture(state.step, kind, picture, state.recipe.legend())
        return result.metrics
