"""The one training loop: steps, and what comes between them."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Literal

from salticid.data.loader import Batches, train_batches
from salticid.data.source import Data
from salticid.engine import checkpoint as checkpoints
from salticid.engine.build import build
from salticid.engine.evaluation import Stopped
from salticid.engine.log import RunLog
from salticid.engine.pace import StepBatches, Stopwatch
from salticid.engine.parallel import Ranks
from salticid.engine.recipe import Clock, Recipe
from salticid.engine.settings import Settings
from salticid.engine.signals import StopFlag
from salticid.engine.step import Report
from salticid.engine.validation import Judge
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
        micro_batch: int | None = None,
    ) -> None:
        """`micro_batch`: samples at a time, by the word of the first rank; None: all of a rank."""
        trainer = settings.trainer
        self.recipe, self.settings, self.log, self.config = recipe, settings, log, config
        self.ranks, self.stop, self.stopping = ranks, stop, False
        self.folder = directory / checkpoints.FOLDER
        self.train, self.val = data.train(), data.val()
        self.order = self.train.order(trainer.batch, trainer.seed)
        local = trainer.batch // ranks.world
        self.state = build(recipe, settings, ranks, min(ranks.broadcast(micro_batch) or local, local))
        self.judge = Judge(self.val, self.order, settings, log, ranks, stop)

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
            progress = checkpoints.read_manifest(found)["progress"]
            self.state.load(found, progress, self.ranks)
            if self.settings.trainer.micro_batch == "auto":
                # Another size would mean another order of summation: the same run, but not bit for bit.
                self.state.micro_batch = min(progress["micro_batch"], self.order.batch // self.ranks.world)
        pending = self._validation_is_due()
        self.log.rewind(self.state.step, again=("validation", "picture") if pending else ())
        for reason in rejected:
            self.log.event("checkpoint_rejected", self.state.step, message=f"passed over: {reason}")
        self.log.event("resumed", self.state.step, message=f"resumed from {found.name if found else 'the beginning'}")

    # ---- the loop -------------------------------------------------------------------------------------------

    def loop(self) -> Status:
        """Take steps until the last, or until a signal; validate and save in between. A run of no steps is saved as
        it begins, if it has not been."""
        state, steps, every = self.state, self.settings.trainer.steps, self.settings.checkpoint.every
        if steps == 0:
            if not self.ranks.broadcast(bool(checkpoints.listing(self.folder))):
                self.save()
            return "finished"
        with self.steps(steps) as step:
            if state.step and self._validation_is_due():
                self._catch_up()
            while state.step < steps and not self.stopping:
                step()
                improved = not self.stopping and self._validate()
                if improved or self.stopping or state.step == steps or state.step % every == 0:
                    self.save()
        return "interrupted" if self.stopping else "finished"

    @contextmanager
    def steps(self, until: int) -> Iterator[Callable[[], None]]:
        """Gives a function that takes the next step, up to step `until`; data workers live as long as the block."""
        batches = self._batches(range(self.state.step, until))
        self.stopwatch = Stopwatch(self.state.step, batches)
        try:
            yield lambda: self._step(batches)
        finally:
            batches.close()

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
            self.log.step(state.step, _values(reports, len(state.runners) > 1, lr, ema_decay))
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

    def _validation_is_due(self) -> bool:
        return self.judge.due(self.state.step) and self.state.validated < self.state.step

    def _validate(self) -> bool:
        """Validate where that is due; returns whether the model is better than ever. A signal meanwhile leaves it all
        to the resumed run."""
        if not self._validation_is_due():
            return False
        try:
            with self.stopwatch.away():
                metrics = self.judge.judge(self.state)
        except Stopped:
            self.stopping = True
            return False
        self.state.validated = self.state.step
        return self._is_best(metrics)

    def _catch_up(self) -> None:
        """Do the validation that a signal cut short, and note it in the checkpoint that this run is resumed from: after
        the last step no other will be written."""
        self._validate()
        if self.stopping:
            return
        self.ranks.together(self.log.sync)
        self.ranks.together(lambda: self._amend() if self.ranks.first else None)
        self._tidy()

    def _amend(self) -> None:
        state = self.state
        checkpoints.amend(checkpoints.place_of(self.folder, state.step), validated=state.validated, best=state.best)

    def _is_best(self, metrics: dict[str, float]) -> bool:
        config, state = self.settings.checkpoint, self.state
        value = self.score(metrics)
        if value is None or not config.better(value, state.best["value"] if state.best else None):
            return False
        state.best = {"step": state.step, "metric": config.best_metric, "value": value}
        return True

    def score(self, metrics: dict[str, float]) -> float | None:
        """The metric by which checkpoints are compared; None where it is that of an average that has not begun.

        Raises:
            ConfigError: there is no metric of that name.
        """
        name = self.settings.checkpoint.best_metric
        if name is None:
            return None
        average = self.state.ema
        waiting = name.startswith("ema/") and not (average and average.updates)
        if (name.removeprefix("ema/") if waiting else name) not in metrics:
            raise ConfigError(f"checkpoint.best_metric is {name}; there are {', '.join(sorted(metrics))}")
        return None if waiting else metrics[name]

    def save(self) -> None:
        """Write a checkpoint of this step, and remove old ones."""
        start = perf_counter()
        self.ranks.together(self.log.sync)
        path = checkpoints.save(self.folder, self.state.content(self.config), self.ranks)
        self._tidy()
        self.log.event("checkpoint", self.state.step, file=path.name, seconds=round(perf_counter() - start, 3))

    def _tidy(self) -> None:
        """Note the best checkpoint, and remove those that are neither the last nor the best."""
        if self.ranks.first:
            best = self.state.best
            if best:
                checkpoints.write_best(self.folder, best)
            keep_last = self.settings.checkpoint.keep_last
            checkpoints.prune(self.folder, keep_last, self.state.step, best["step"] if best else None)


def _values(reports: dict[str, Report], several: bool, lr: float, ema_decay: float | None) -> dict[str, float]:
    """One flat line: with several phases, their names come first (`discriminator/loss`), and `loss` is the sum."""
    values: dict[str, float] = {"loss": math.fsum(r.loss for r in reports.values())}
    for name, report in reports.items():
        prefix = f"{name}/" if several else ""
        if several:
            values[f"{prefix}loss"] = report.loss
        values |= {f"{prefix}{term}": value for term, value in report.terms.items()}
        values[f"{prefix}grad_norm"] = report.grad_norm
    values["lr"] = lr
    return values | ({"ema_decay": ema_decay} if ema_decay is not None else {})
