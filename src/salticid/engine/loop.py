"""The one training loop: steps, and what comes between them."""

import math
from pathlib import Path
from time import perf_counter
from typing import Literal

import torch

from salticid.data.loader import Batches, train_batches
from salticid.data.order import Order
from salticid.data.source import Data
from salticid.engine import checkpoint as checkpoints
from salticid.engine.ema import Ema
from salticid.engine.evaluation import Stopped
from salticid.engine.log import RunLog
from salticid.engine.pace import StepBatches, Stopwatch
from salticid.engine.parallel import Parallel, Ranks, shard
from salticid.engine.recipe import Clock, Recipe
from salticid.engine.settings import Settings
from salticid.engine.signals import StopFlag
from salticid.engine.state import TrainState, parameters_by_phase
from salticid.engine.step import PhaseRunner, Report
from salticid.engine.validation import Judge
from salticid.engine.weights import trainable
from salticid.errors import CheckpointError, ConfigError, UserError

Status = Literal["finished", "interrupted"]

MAX_FAILURES = 100
"""Steps in a row without an update after which a run gives up, whatever its policy."""


class Run:
    """A recipe being trained by this process."""

    def __init__(
        self,
        recipe: Recipe,
        data: Data,
        directory: Path,
        settings: Settings,
        log: RunLog,
        config: str,
        ranks: Ranks,
        stop: StopFlag,
    ) -> None:
        trainer = settings.trainer
        if trainer.batch % ranks.world:
            raise ConfigError(f"trainer.batch is {trainer.batch}; it must be a multiple of the {ranks.world} ranks")
        self.recipe, self.settings, self.log, self.config = recipe, settings, log, config
        self.ranks, self.stop, self.stopping = ranks, stop, False
        self.folder = directory / "checkpoints"
        self.train, self.val = data.train(), data.val()
        self.order = Order(len(self.train), trainer.batch, trainer.seed)
        self.state = self._build()
        self.judge = Judge(self.val, self.order, settings, log, ranks, stop)

    def _build(self) -> TrainState:
        """Bring the recipe to its device and its ranks, and make its optimisers."""
        trainer, recipe, ranks = self.settings.trainer, self.recipe, self.ranks
        if ranks.device.type == "cuda":
            torch.set_float32_matmul_precision("high" if trainer.tf32 else "highest")
            if trainer.deterministic:
                torch.use_deterministic_algorithms(True, warn_only=True)
        recipe.to(ranks.device)
        if trainer.channels_last:
            recipe.to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]
        recipe.train()
        ranks.equalise(recipe)
        if trainer.checkpoint_activations:
            recipe.checkpoint_activations()
        if trainer.compile:
            for block in recipe.blocks():
                block.compile()
        if ranks.world > 1 and trainer.parallel == "fsdp":
            shard(recipe, ranks)
        groups = parameters_by_phase(recipe)
        parallel = Parallel(recipe, groups, ranks)
        runners = [
            PhaseRunner(
                phase,
                groups[phase.name],
                self.settings.optimizer.build(groups[phase.name].values()),
                parallel,
                batch=trainer.batch,
                precision=trainer.precision,
                clip=trainer.clip,
            )
            for phase in recipe.phases()
        ]
        ema = Ema(self.settings.ema, dict(trainable(recipe))) if self.settings.ema else None
        local = trainer.batch // ranks.world
        return TrainState(recipe, runners, ema, min(int(trainer.micro_batch or local), local))

    # ---- beginning ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start from step 0.

        Raises:
            ConfigError: the directory has checkpoints of another run.
        """
        if self.ranks.broadcast(bool(checkpoints.listing(self.folder))):
            raise ConfigError(f"{self.folder} has checkpoints: resume that run, or give this one another name")

    def resume(self) -> None:
        """Go on from the newest checkpoint that is whole; from step 0, if the run was killed before its first.

        Raises:
            CheckpointError: there are checkpoints, and none is whole or fits.
        """
        if self.ranks.first:
            checkpoints.sweep(self.folder)
        found, rejected = self.ranks.broadcast(checkpoints.newest(self.folder) if self.ranks.first else (None, []))
        if found is None and rejected:
            raise CheckpointError(f"no checkpoint in {self.folder} is whole: {'; '.join(rejected)}")
        if found is not None:
            self.state.load(found, checkpoints.read_manifest(found)["progress"], self.ranks)
        self.log.rewind(self.state.step)
        for reason in rejected:
            self.log.event("checkpoint_rejected", self.state.step, message=f"passed over: {reason}")
        self.log.event("resumed", self.state.step, message=f"resumed from {found.name if found else 'the beginning'}")

    # ---- the loop -------------------------------------------------------------------------------------------

    def loop(self) -> Status:
        """Take steps until the last, or until a signal."""
        state, steps = self.state, self.settings.trainer.steps
        batches = self._batches(range(state.step, steps))
        self.stopwatch = Stopwatch(state.step, batches)
        if state.step:
            self._validate_if_due()
        try:
            while state.step < steps and not self.stopping:
                self._step(batches)
                if not self.stopping:
                    self._validate_if_due()
                if self.stopping or state.step == steps or state.step % self.settings.checkpoint.every == 0:
                    self.save()
        finally:
            batches.close()
        return "interrupted" if self.stopping else "finished"

    def _batches(self, steps: range) -> Batches:
        trainer = self.settings.trainer
        return train_batches(
            self.train,
            self.order,
            steps,
            micro_batch=self.state.micro_batch,
            seed=trainer.seed,
            rank=self.ranks.rank,
            world=self.ranks.world,
            workers=trainer.workers,
            pin=self.ranks.device.type == "cuda",
        )

    def _step(self, batches: Batches) -> None:
        """Run every phase once, and tell the log."""
        state, trainer = self.state, self.settings.trainer
        self.ranks.equalise_buffers(self.recipe)
        clock = Clock(state.step, trainer.steps, trainer.seed)
        lr = self.settings.optimizer.lr * self.settings.schedule.factor(state.step, trainer.steps)
        count = math.ceil(self.order.batch / self.ranks.world / state.micro_batch)
        several = len(state.runners) > 1
        micro_batches = StepBatches(batches, count, self.ranks.device, trainer.channels_last, keep=several)
        reports: dict[str, Report] = {}
        for runner in state.runners:
            if clock.step >= runner.phase.start:
                reports[runner.phase.name] = runner.run(micro_batches, clock, lr)
        micro_batches.finish()
        ema_decay = state.ema.config.decay_at(state.step) if state.ema else None
        state.follow()
        self._account(reports)
        self.stopping, any_replaced = self.ranks.any(self.stop.raised, bool(micro_batches.replaced))
        if any_replaced:
            self._note_replaced(micro_batches.replaced)
        if self.log.wants(state.step):
            self.log.step(state.step, _values(reports, lr, ema_decay))
            self.log.speed(state.step, self.stopwatch.figures(state.step, trainer.batch, self.ranks.device))
        self.log.tick(state.step)

    def _account(self, reports: dict[str, Report]) -> None:
        """Count phases that made no update, and give up where the policy or the patience says so.

        Raises:
            UserError: the loss or a gradient is not finite.
        """
        state = self.state
        failed = {name: r for name, r in reports.items() if r.outcome in ("nonfinite", "overflow")}
        state.failures = state.failures + 1 if failed else 0
        for runner in state.runners:
            if report := reports.get(runner.phase.name):
                runner.settle(report)
                if report.outcome != "updated":
                    state.counts[report.outcome] += 1
                    self._tell_skipped(runner.phase.name, report)
        if state.failures >= MAX_FAILURES:
            raise UserError(
                f"no update in {MAX_FAILURES} steps in a row, up to step {state.step}: the run has diverged"
            )

    def _tell_skipped(self, phase: str, report: Report) -> None:
        ids = [name for names in self.ranks.gather(report.suspects) for name in names]
        found = f"loss {report.loss:.4g}, gradient norm {report.grad_norm:.4g}"
        reason = {
            "empty": "nothing in the batch has any weight",
            "overflow": "gradients overflow fp16; the loss scale is halved",
        }.get(report.outcome, f"not finite: {found}")
        self.log.event("skipped", self.state.step, phase=phase, reason=reason, ids=ids)
        if report.outcome == "nonfinite" and self.settings.trainer.on_nonfinite == "stop":
            raise UserError(
                f"step {self.state.step}, phase {phase}: {found}; samples: {', '.join(ids)}. The newest checkpoint is "
                "from before; trainer.on_nonfinite: skip leaves such steps out"
            )

    def _note_replaced(self, replaced: list[str]) -> None:
        everyone = [entry for entries in self.ranks.gather(replaced) for entry in entries]
        for entry in everyone:
            self.state.replaced[entry] = self.state.replaced.get(entry, 0) + 1
        self.log.event("replaced", self.state.step, ids=everyone)

    # ---- between steps --------------------------------------------------------------------------------------

    def _validate_if_due(self) -> None:
        """Validate where it is due and not yet done; a signal meanwhile leaves it to the resumed run."""
        if not self.judge.due(self.state.step) or self.state.validated == self.state.step:
            return
        try:
            with self.stopwatch.away():
                metrics = self.judge.judge(self.state)
        except Stopped:
            self.stopping = True
            return
        self.state.validated = self.state.step
        config = self.settings.checkpoint
        if config.best_metric is None:
            return
        if config.best_metric not in metrics:
            raise ConfigError(f"checkpoint.best_metric is {config.best_metric}; there are {', '.join(sorted(metrics))}")
        value = metrics[config.best_metric]
        if config.better(value, self.state.best["value"] if self.state.best else None):
            self.state.best = {"step": self.state.step, "metric": config.best_metric, "value": value}
            self.save()

    def save(self) -> Path | None:
        """Write a checkpoint of this step, unless there is one, and remove old ones."""
        state, config = self.state, self.settings.checkpoint
        start = perf_counter()
        path = checkpoints.save(self.folder, state.content(self.config), self.ranks)
        if self.ranks.first:
            best = state.best
            if best:
                checkpoints.write_best(self.folder, best)
            checkpoints.prune(self.folder, config.keep_last, state.step, best["step"] if best else None)
        self.log.event("checkpoint", state.step, file=path.name, seconds=round(perf_counter() - start, 3))
        return path


def _values(reports: dict[str, Report], lr: float, ema_decay: float | None) -> dict[str, float]:
    """One flat line: with several phases, their names come first (`discriminator/loss`), and `loss` is the sum."""
    values: dict[str, float] = {"loss": math.fsum(r.loss for r in reports.values())}
    for name, report in reports.items():
        prefix = f"{name}/" if len(reports) > 1 else ""
        if prefix:
            values[f"{prefix}loss"] = report.loss
        values |= {f"{prefix}{term}": value for term, value in report.terms.items()}
        values[f"{prefix}grad_norm"] = report.grad_norm
    values["lr"] = lr
    return values | ({"ema_decay": ema_decay} if ema_decay is not None else {})
