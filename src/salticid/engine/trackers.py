"""Writers for TensorBoard, Weights & Biases and trackio, imported only when asked for."""

import importlib
import secrets
from abc import ABC, abstractmethod
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from torch import Tensor

from salticid.errors import UserError

if TYPE_CHECKING:
    from salticid.engine.log import LogConfig


class Tracker(ABC):
    """One place that follows a run besides `log.jsonl`."""

    @abstractmethod
    def open(self, start: int) -> None:
        """Begin writing after `start` steps; what a former process wrote beyond them does not count."""

    @abstractmethod
    def scalars(self, step: int, values: dict[str, float]) -> None: ...

    @abstractmethod
    def picture(self, step: int, name: str, pixels: Tensor) -> None:
        """`pixels` is uint8 (H, W, 3) on the CPU."""

    def flush(self) -> None:  # noqa: B027 - not every tracker can
        """Make what was written so far survive a kill."""

    @abstractmethod
    def close(self, status: str) -> None: ...


def trackers(run_dir: Path, config: "LogConfig") -> list[Tracker]:
    """Those that the configuration asks for.

    Raises:
        UserError: a package is missing; the message says what to install.
    """
    found: list[Tracker] = []
    if config.tensorboard:
        found.append(TensorBoard(run_dir))
    if config.wandb is not None:
        found.append(WandB(run_dir, config.wandb))
    if config.trackio is not None:
        found.append(Trackio(run_dir, config.trackio))
    return found


class TensorBoard(Tracker):
    """Event files in `<run>/tensorboard`."""

    def __init__(self, run_dir: Path) -> None:
        _require("tensorboard", key="log.tensorboard", extra="log")
        self._folder = run_dir / "tensorboard"
        self._writer: Any = None

    def open(self, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # purge_step hides, for the reader, what a killed process wrote at later steps
        self._writer = SummaryWriter(str(self._folder), purge_step=start + 1)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, pixels: Tensor) -> None:
        self._writer.add_image(name, pixels.numpy(), step, dataformats="HWC")

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def close(self, status: str) -> None:
        self._writer.close()


class WandB(Tracker):
    """A run on Weights & Biases, continued under the same id after a resume.

    Its own step counter cannot go back, so the x axis is a logged `step`: steps taken again after a resume
    fall on the same place with the same values.
    """

    def __init__(self, run_dir: Path, project: str) -> None:
        self._wandb = _require("wandb", key="log.wandb", extra="wandb")
        self._run_dir = run_dir
        self._project = project
        self._run: Any = None

    def open(self, start: int) -> None:
        note = self._run_dir / "wandb_id.txt"
        if not note.exists():
            note.write_text(secrets.token_hex(6))
        try:
            self._run = self._wandb.init(
                project=self._project,
                name=self._run_dir.name,
                id=note.read_text().strip(),
                resume="allow",
                dir=str(self._run_dir),
            )
        except self._wandb.Error as error:  # not logged in, no such project …
            raise UserError(f"log.wandb: {error}") from error
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self._run.log({"step": step, **values})

    def picture(self, step: int, name: str, pixels: Tensor) -> None:
        self._run.log({"step": step, name: self._wandb.Image(pixels.numpy())})

    def close(self, status: str) -> None:
        self._run.finish(exit_code=0 if status == "finished" else 1)


class Trackio(Tracker):
    """A run in trackio's local dashboard; steps taken again after a kill are in it twice."""

    def __init__(self, run_dir: Path, project: str) -> None:
        self._trackio = _require("trackio", key="log.trackio", extra="trackio")
        self._name = run_dir.name
        self._project = project
        self._run: Any = None

    def open(self, start: int) -> None:
        resume = "allow" if start else "never"
        self._run = self._trackio.init(project=self._project, name=self._name, resume=resume)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def picture(self, step: int, name: str, pixels: Tensor) -> None:
        self._run.log({name: self._trackio.Image(pixels.numpy())}, step=step)

    def close(self, status: str) -> None:
        self._run.finish()


def _require(package: str, *, key: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(f'{key}: the package {package} is not installed; pip install "salticid[{extra}]"') from error
