"""The sfm recipe: what the engine asks of it, on the model and the objectives beside this file."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.data.motion import LENSES
from salticid.data.source import Batch, Data, Source, first_readable
from salticid.engine.recipe import Clock, Loss, Phase, Recipe
from salticid.errors import ConfigError, require
from salticid.nets.motion import FrameEncoder, PoseDecoder
from salticid.nets.motion.cost_volume import CostVolumePose
from salticid.nets.motion.decoder import UNetDecoder
from salticid.recipes.sfm import pictures
from salticid.recipes.sfm.appearance import AppearanceObjective, FlowObjective, RefinedFlowObjective
from salticid.recipes.sfm.exporting import export_motion
from salticid.recipes.sfm.frames import Frames
from salticid.recipes.sfm.initial import load_published
from salticid.recipes.sfm.model import LensHead, MotionModel
from salticid.recipes.sfm.objective import DepthObjective
from salticid.recipes.sfm.predict import Output, Predictor, predict_motion
from salticid.recipes.sfm.score import (
    chain_record,
    depth_records,
    flow_records,
    mean_disparity,
    motion_records,
    trajectory_metrics,
)
from salticid.recipes.sfm.settings import DepthRange, Networks, Photometric, Protocol, Stage, Weights
from salticid.recipes.sfm.synthesis import synthesise
from salticid.recipes.sfm.teacher import Teacher

MAP = 32
"""Height and width of the mean disparity map that is kept as a baseline."""
NEEDED = {"depth": ("depth", "valid"), "pose": ("poses",), "velocity": ("travel",)}
"""What samples must hold for a term of the loss."""
METRIC = ("depth", "pose", "velocity", "consistency")
"""Terms of the loss that compare lengths of different frames."""


class SfmRecipe(Recipe):
    """Depth, camera motion, optical flow and appearance flow from bare video (Godard et al. 2019, Monodepth2; Shao et
    al. 2022, AF-SfMLearner).

    Args:
        stage: what is trained. `depth`: depth and motion, as Monodepth2. `flow`: optical flow, AF-SfMLearner's first
            stage. `appearance`: its second, depth, motion and appearance flow, beside a frozen flow from `initial`.
            `alternating`: flow and the rest in turns, in every step.
        offsets: of the frames in a sample, the target's 0 first; those of the data.
        networks: backbones and pose network.
        range: depth that the networks can tell.
        photometric: how frames are compared.
        weights: of the terms of the loss.
        initial: a folder with files of Monodepth2 or AF-SfMLearner (`encoder.pth`, `depth.pth`, …), or a checkpoint of
            a run of this recipe, to start from; what it does not have starts anew.
        teacher: a depth model to distil (folder or hub id, for transformers); needs weights.distillation.
        protocol: of evaluation.
    """

    def __init__(
        self,
        stage: Stage = "depth",
        offsets: Sequence[int] = (0, -1, 1),
        networks: Networks = Networks(),
        range: DepthRange = DepthRange(),  # the key of the configuration
        photometric: Photometric = Photometric(),
        weights: Weights = Weights(),
        initial: Path | None = None,
        teacher: str | None = None,
        protocol: Protocol = Protocol(),
    ):
        super().__init__()
        require(
            "recipe.stage", stage, stage != "appearance" or initial is not None, "recipe.initial with a flow for it"
        )
        distils = bool(weights.distillation)
        require("recipe.teacher", teacher, distils == (teacher is not None), "a teacher with weights.distillation")
        if range.relative:
            for term in METRIC:
                value = getattr(weights, term)
                require(f"recipe.weights.{term}", value, not value, "0 with range.relative, which has no common scale")
        self.stage, self.offsets, self.weights, self.protocol = stage, tuple(offsets), weights, protocol
        self.initial, self.teacher_name = initial, teacher
        self.model = MotionModel(networks, range, stage)
        if stage == "appearance" and self.model.flow is not None:
            self.model.flow.requires_grad_(False)
        self.motion = (
            DepthObjective(weights, photometric)
            if stage == "depth"
            else AppearanceObjective(weights, photometric.scales)
        )
        self.flow = FlowObjective(weights) if stage == "flow" else RefinedFlowObjective(weights)
        self.register_buffer("mean_disparity", torch.zeros(1, 1, MAP, MAP))
        """Of training: what can be known of a picture's depth without looking at it. 0: training has no true depth."""
        self.register_buffer("lens", torch.full((max(LENSES),), torch.nan))
        """Of training, for prediction where it is told none: intrinsics, then NaN."""
        self.register_buffer("size", torch.zeros(2, dtype=torch.int64))
        """Of training: height and width."""
        self.training_source: Source | None = None

    def phases(self) -> tuple[Phase, ...]:
        motion = tuple(
            f"model.{name}"
            for name in ("depth", "pose", "appearance", "lens_head")
            if getattr(self.model, name) is not None
        )
        flow = Phase("flow", ("model.flow",))
        rest = Phase("motion", motion, lr_scales={"model.pose": self.model.settings.pose_rate})
        return {"flow": (flow,), "alternating": (flow, rest)}.get(self.stage, (rest,))

    def check(self, data: Data) -> None:
        sample = first_readable(data.train(), data.val())
        for name in ("frames", "intrinsics", "jitter"):
            if name not in sample:
                raise ConfigError(f"data: samples have no {name}; expected films, such as salticid.world.WorldMotion")
        stereo = "stereo_pose" in sample
        require("recipe.range.relative", True, not (stereo and self.model.range.relative), "false with stereo pairs")
        if len(sample["frames"]) != len(self.offsets) + stereo:
            found, partner = len(sample["frames"]), " and a stereo partner" if stereo else ""
            raise ConfigError(f"data: {found} frames a sample; expected those of recipe.offsets{partner}")
        if len(sample["intrinsics"]) not in LENSES:
            raise ConfigError(
                f"data: intrinsics of {len(sample['intrinsics'])} numbers; expected one of {list(LENSES)}"
            )
        for term, names in NEEDED.items():
            if getattr(self.weights, term) and (missing := [name for name in names if name not in sample]):
                raise ConfigError(f"recipe.weights.{term}: samples have no {missing[0]}")
        self.training_source = data.train()

    def start(self, *, fresh: bool) -> None:
        if self.teacher_name is not None and isinstance(self.motion, DepthObjective):
            self.motion.teacher = self.teacher = Teacher(self.teacher_name)
        if not fresh:
            return
        self.model.load_pretrained()
        if self.initial is not None:
            load_published(self.model, self.initial, frozen_flow=self.stage == "appearance")
        if self.training_source is not None:
            sample = first_readable(self.training_source)
            if "depth" in sample:
                self.mean_disparity.copy_(mean_disparity(self.training_source, MAP))
            self.size.copy_(torch.tensor(sample["frames"].shape[-2:]))
            self.lens[: len(sample["intrinsics"])] = sample["intrinsics"]

    def frames(self, batch: Batch) -> Frames:
        return Frames.of(batch, self.offsets)

    def loss(self, phase: str, batch: Batch, clock: Clock) -> Loss:
        objective = self.flow if phase == "flow" else self.motion
        return objective(self.model, self.frames(batch), batch, clock)

    def blocks(self) -> list[nn.Module]:
        """What is called as a module: encoders apart from decoders, since a shared one serves depth and pose."""
        kinds = (FrameEncoder, UNetDecoder, PoseDecoder, CostVolumePose, LensHead)
        return [module for module in self.model.modules() if isinstance(module, kinds)]

    def checkpoint_activations(self) -> None:
        self.model.checkpoint_activations()

    # --- evaluation

    def evaluate(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        frames, model, records = self.frames(batch), self.model, {}
        maps = None if model.depth is None else model.disparities(frames.seen[:, 0])
        if maps is not None:
            depth = model.to_depth(maps[0])
            if "depth" in batch:
                records |= depth_records({"model": depth} | self.baselines(frames.size), batch, self.protocol)
            if frames.offsets and ("poses" in batch or "flow" in batch):
                records |= self.motion_records(frames, depth, batch)
        if model.flow is not None and "flow" in batch:
            flow = model.flows(frames)[0].unflatten(0, (len(frames.seen), -1))
            records |= flow_records("flow", flow, batch)
        if not records and frames.offsets:  # bare video: how well the target is put together from its neighbours
            made = pictures.reconstructed(model, frames, batch, maps)
            records["photometric/model"] = made.error.mean(dim=(1, 2, 3))
        return records

    def motion_records(self, frames: Frames, depth: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Of the way of the camera, and of the flow that it makes with depth."""
        motions, records = self.model.motions(frames, batch.get("stereo_pose")), {}
        if "poses" in batch:
            records |= motion_records(motions.to_source, batch["poses"])
            records |= chain_record(motions.to_source, batch, self.offsets)
        if "flow" in batch:
            rigid = synthesise(frames.sources, depth[:, 0, None], motions, self.model.range.measure).pixels[:, 0]
            records |= flow_records("rigid", pictures.displacement(rigid), batch)
        return records

    def baselines(self, size: tuple[int, int]) -> dict[str, Tensor]:
        """One depth everywhere, and the mean map of training where it is known: (1, 1, H, W) each, up to scale."""
        constant = {"constant": self.mean_disparity.new_ones(1, 1, *size)}
        if not self.mean_disparity.any():
            return constant
        mean = F.interpolate(self.mean_disparity, size, mode="bilinear", antialias=True)
        return {"mean-map": 1 / mean.clamp(min=1e-6)} | constant

    def summarise(self, records: dict[str, Tensor]) -> dict[str, float]:
        chain = records.pop("chain", None)
        metrics = {name: float(values.nanmean()) for name, values in records.items()}
        return metrics | ({} if chain is None else trajectory_metrics(chain))

    def predict(  # type: ignore[override]  # a recipe's own options are flags of `salticid predict`
        self,
        inputs: list[Path],
        output: Path,
        *,
        size: tuple[int, int] | None = None,
        intrinsics: Sequence[float] | None = None,
        outputs: Sequence[Output] = ("png16", "npy", "colour"),
        every: int = 5,
    ) -> list[Path]:
        """The depth of pictures; of videos, and of folders whose pictures are frames of one, the way of the camera too.

        Args:
            size: height and width at which pictures are looked at; null: those of training.
            intrinsics: of the camera, in pixels of the input, as many as its model has; null: those of training.
            outputs: files written of each picture.
            every: so manieth frame goes into the point cloud of a film.
        """
        predictor = Predictor(self, size, intrinsics)
        return predict_motion(predictor, inputs, output, outputs=outputs, every=every)

    def export(self, output: Path, *, onnx: bool = True) -> list[Path]:  # type: ignore[override]
        """Depth, pose and flow networks as `torch.export` programs and, with `onnx`, as ONNX files, checked against
        what they came from.

        Args:
            onnx: write ONNX too.
        """
        return export_motion(self.model, tuple(self.size.tolist()), output, onnx=onnx)

    def preview(self, batch: Batch, *, seed: int) -> Tensor:
        return pictures.preview(self.model, self.frames(batch), batch)

    def legend(self) -> str:
        return pictures.legend(self.model)
