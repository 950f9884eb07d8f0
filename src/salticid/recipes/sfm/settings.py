"""Settings of the sfm recipe, and the refusal of values that make no sense."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from salticid.errors import require
from salticid.nets.motion.encoder import Norm

Stage = Literal["depth", "flow", "appearance", "alternating"]
PoseKind = Literal["pair", "shared", "cost_volume"]
Measure = Literal["depth", "distance"]


@dataclass(frozen=True)
class Networks:
    """What the networks are made of."""

    backbone: str = "resnet18"
    """Of all encoders, by its name in timm; `pose_backbone` for another one of the pose."""
    pose_backbone: str | None = None
    pretrained: bool | Path = False
    """Start encoders from timm's weights (a hub download), or from a file of them."""
    normalise: bool = True
    """Take (x − 0.45)/0.225 of the pictures, as Monodepth2; AF-SfMLearner does not."""
    norm: Norm = "batch"
    """`batch`; `sync`, over all GPUs; `frozen` statistics; or `group`. The last two learn the same on any number of
    GPUs; `sync` does where each takes its part of a step at once."""
    pose: PoseKind = "pair"
    """`pair`: an encoder of two frames; `shared`: the depth encoder's maps of each; `cost_volume`: how far the features
    of one frame have moved in the other, which finds the direction of motion long before the others do."""
    pose_order: Literal["temporal", "source_target"] = "temporal"
    """In which order two frames are shown: as they were filmed, and inverted where that is not from the target to the
    source (Monodepth2); or always source, then target (AF-SfMLearner)."""
    pose_scale: float = 0.01
    """What rotation and translation are multiplied by; AF-SfMLearner: 0.001."""
    pose_rate: float = 1.0
    """Factor of the learning rate of the pose network: what depth learns from a wrong motion is wrong."""
    intrinsics: Literal["given", "learnt"] = "given"
    """`learnt`: a head of the pose network corrects focal lengths and principal point of the data."""

    def __post_init__(self) -> None:
        for key in ("pose_scale", "pose_rate"):
            require(f"recipe.networks.{key}", getattr(self, key), getattr(self, key) > 0, "a number above 0")


@dataclass(frozen=True)
class Weights:
    """What the terms of the loss are multiplied by; 0 leaves a term out, and what is needed for it alone."""

    photometric: float = 1.0
    """λ_depth of the document: 0.85 (1 − SSIM)/2 + 0.15 |difference| between the target and a warped frame."""
    smoothness: float = 1e-3
    """λ_smooth: of disparity (over its mean), halved at each coarser scale."""
    flow: float = 1.0
    """λ_flow: photometric loss of optical flow."""
    flow_smoothness: float = 1e-3
    appearance: float = 0.01
    """|refined target − frame warped by flow|."""
    appearance_smoothness: float = 0.01
    pose: float = 0.0
    """λ_pose: |rotation error| (rad) + |translation error| (m) against true poses."""
    depth: float = 0.0
    """|ln depth − ln true depth|."""
    velocity: float = 0.0
    """|length of translation − distance travelled| (m), which makes the scale metric (Guizilini et al. 2020)."""
    consistency: float = 0.0
    """Disagreement of the depths of two frames (Bian et al. 2019)."""
    distillation: float = 0.0
    """|disparity − teacher's|, after a least-squares scale and shift."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            require(f"recipe.weights.{field.name}", value, value >= 0, "0 or more")


@dataclass(frozen=True)
class Photometric:
    """How warped frames are compared with the target."""

    minimum: bool = True
    """Per pixel the best of the frames counts, not their mean."""
    automask: bool = True
    """Pixels that look most alike where nothing is moved do not teach."""
    automask_start: float = 0.0
    """Share of the training after which it begins: early on, before depth means anything, standing still nearly always
    wins, and a small network learns from what is left that everything is near."""
    valid_only: bool = False
    """Leave out what another frame does not show; needed for fisheyes, whose circle ends inside the picture."""
    scales: int = 4
    """Scales of the decoders that are compared, at full resolution."""

    def __post_init__(self) -> None:
        start = self.automask_start
        require("recipe.photometric.automask_start", start, 0 <= start <= 1, "a share of the training, 0 to 1")
        require("recipe.photometric.scales", self.scales, 1 <= self.scales <= 4, "1 to 4")


@dataclass(frozen=True)
class DepthRange:
    """The depth (or distance), m or whatever the poses' unit is, that disparities 1 and 0 stand for."""

    near: float = 0.1
    far: float = 100.0
    measure: Measure = "depth"
    """z, or the `distance` along the ray, for lenses that see beyond a right angle."""
    relative: bool = False
    """Depth in units of its average over the picture, without a nearest or farthest: inverse depth is the odds
    d/(1 − d) of disparity d over their mean (in the manner of Wang et al. 2018). The scale of the scene, which bare
    video does not tell, can no longer drift, and everything cannot become near. It may differ from frame to frame."""

    def __post_init__(self) -> None:
        require("recipe.range.near", self.near, 0 < self.near < self.far, f"above 0, below far ({self.far})")


@dataclass(frozen=True)
class Protocol:
    """How depth is compared with the truth."""

    scale: Literal["median", "given"] = "median"
    """Each picture's depth is multiplied by true median / own median; or by `factor`."""
    factor: float = 1.0
    """5.4 for a Monodepth2 trained on stereo."""

    def __post_init__(self) -> None:
        require("recipe.protocol.factor", self.factor, self.factor > 0, "a number above 0")
