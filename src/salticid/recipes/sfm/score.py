"""How good depth, motion and flow are, beside what can be known without looking."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.data.source import Batch, Sample, Source
from salticid.evaluate import trajectory
from salticid.evaluate.alignment import Alignment
from salticid.evaluate.depth import depth_metrics
from salticid.evaluate.flow import flow_metrics
from salticid.evaluate.trajectory import direction_errors, rotation_errors
from salticid.geometry import se3
from salticid.recipes.baselines import mean_map
from salticid.recipes.sfm.settings import Protocol

SNIPPET = 5
"""Frames."""


def depth_records(made: dict[str, Tensor], batch: Batch, protocol: Protocol) -> dict[str, Tensor]:
    """Metrics `metric/name` (B,) of depths (B, 1, H, W). Where the truth has another size, disparity is resized, as in
    Monodepth2."""
    truth, valid = batch["depth"], batch["valid"]
    align = Alignment("median" if protocol.scale == "median" else "none", "depth")
    records = {}
    for name, depth in made.items():
        fitting = 1 / F.interpolate(1 / depth, truth.shape[-2:], mode="bilinear", align_corners=False)
        metres = align(protocol.factor * fitting.expand_as(truth), truth, valid, limits=batch["limits"])
        records |= {f"{metric}/{name}": values for metric, values in depth_metrics(metres, truth, valid).items()}
    return records


def motion_records(to_source: Tensor, poses: Tensor) -> dict[str, Tensor]:
    """Errors (B,) of motions (B, K, 4, 4), target to source, against poses (B, K + 1, 4, 4), source to target: degrees
    between the directions of translation, and of rotation, means over sources (NaN where none moves); and the rotation
    error of a camera that never turns (`identity`)."""
    true = se3.inverse(poses[:, 1:].double())
    made = to_source[:, : true.shape[1]].double()
    ours, theirs = made.flatten(0, 1), true.flatten(0, 1)
    errors = {
        "direction/model": direction_errors(ours, theirs),
        "rotation/model": rotation_errors(ours, theirs),
        "rotation/identity": rotation_errors(torch.eye(4).to(ours).expand_as(ours), theirs),
    }
    return {name: values.rad2deg().view(made.shape[:2]).nanmean(dim=1) for name, values in errors.items()}


def flow_records(name: str, flow: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Errors (B,) of flows (B, K, 2, H, W), means over sources, where both frames show a pixel; and of no flow."""
    wanted, seen = batch["flow"].flatten(0, 1), batch["flow_valid"].flatten(0, 1)
    ours = flow[:, : batch["flow"].shape[1]].flatten(0, 1)
    records = {}
    for shown, values in ((name, ours), ("still", torch.zeros_like(ours))):
        found = flow_metrics(values, wanted, seen)
        records |= {f"{metric}/{shown}": x.view(len(flow), -1).nanmean(dim=1) for metric, x in found.items()}
    return records


def chain_record(to_source: Tensor, batch: Batch, offsets: tuple[int, ...]) -> dict[str, Tensor]:
    """What `trajectory_metrics` makes trajectories of: sequence and number of the frame, and the pose of the next frame
    in it, ours and true: (B, 26). Nothing where no source is the next frame."""
    if 1 not in offsets:
        return {}
    k = offsets.index(1)
    ours, true = se3.inverse(to_source[:, k - 1].double()), batch["poses"][:, k].double()
    rows = [batch["place"].double(), ours[:, :3].flatten(1), true[:, :3].flatten(1)]
    return {"chain": torch.cat(rows, dim=1)}


def trajectory_metrics(chain: Tensor) -> dict[str, float]:
    """Of the records (N, 26) of all samples: over every run of at least five consecutive frames, the root mean square
    of positions after a similarity (`ate`, mean over runs) and Monodepth2's error of five-frame snippets (`snippet`),
    both in metres. Empty without such runs."""
    place, ours, true = chain[:, :2].long(), *(_matrices(chain[:, 2 + 12 * i : 14 + 12 * i]) for i in range(2))
    follows = (place[1:, 0] == place[:-1, 0]) & (place[1:, 1] == place[:-1, 1] + 1)
    ends = [-1, *(~follows).nonzero()[:, 0].tolist(), len(place) - 1]
    whole: list[float] = []
    snippets: list[Tensor] = []
    for before, last in pairwise(ends):
        run = slice(before + 1, last + 1)
        if last - before + 1 < SNIPPET:
            continue
        estimate, truth = trajectory.chain(ours[run]), trajectory.chain(true[run])
        whole.append(trajectory.ate(estimate, truth))
        snippets.append(trajectory.snippet_errors(estimate, truth, SNIPPET))
    if not whole:
        return {}
    return {"ate/model": sum(whole) / len(whole), "snippet/model": float(torch.cat(snippets).mean())}


def _matrices(rows: Tensor) -> Tensor:
    """(N, 12) → (N, 4, 4)."""
    last = torch.tensor([0.0, 0.0, 0.0, 1.0]).to(rows).expand(len(rows), 1, 4)
    return torch.cat([rows.view(-1, 3, 4), last], dim=1)


def mean_disparity(source: Source, size: int) -> Tensor:
    """Mean of 1/depth over its median (1, 1, size, size), where depth is valid; 1 where it never is: what is known of a
    picture's depth, up to scale, without looking at it."""

    def relative(sample: Sample) -> tuple[Tensor, Tensor]:
        depth, valid = sample["depth"][None], sample["valid"][None]
        disparity = 1 / depth.where(valid, 1.0)
        return (disparity / disparity[valid].median() if valid.any() else disparity), valid

    mean, seen = mean_map(source, size, relative)
    return mean.where(seen, 1.0)
