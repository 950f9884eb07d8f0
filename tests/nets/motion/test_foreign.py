"""Checkpoints of Monodepth2 and AF-SfMLearner: random weights under exactly their names and shapes."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from salticid.errors import UserError
from salticid.nets.motion import DepthDecoder, FrameEncoder, PoseDecoder, PositionDecoder, TransformDecoder
from salticid.nets.motion.foreign import foreign_names, load

CHANNELS = (64, 64, 128, 256, 512)
DECODERS = {DepthDecoder: (1, ".conv"), PositionDecoder: (2, ""), TransformDecoder: (3, ".conv")}
COARSE_TO_FINE = [(512, 256), (512, 256), (256, 128), (256, 128), (128, 64), (128, 64), (64, 32), (96, 32), (32, 16)]


def encoder_shapes(images: int) -> dict[str, tuple[int, ...]]:
    """Of `encoder.pth`, `pose_encoder.pth` and so on with a ResNet-18."""
    shapes: dict[str, tuple[int, ...]] = {}

    def block(conv, norm, outputs, inputs, kernel):
        shapes[f"encoder.{conv}.weight"] = (outputs, inputs, kernel, kernel)
        shapes.update({f"encoder.{norm}.{k}": (outputs,) for k in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"encoder.{norm}.num_batches_tracked"] = ()

    block("conv1", "bn1", 64, 3 * images, 7)
    width = 64
    for layer, outputs in enumerate((64, 128, 256, 512), start=1):
        for number in (0, 1):
            at = f"layer{layer}.{number}"
            block(f"{at}.conv1", f"{at}.bn1", outputs, width, 3)
            block(f"{at}.conv2", f"{at}.bn2", outputs, outputs, 3)
            if width != outputs:
                block(f"{at}.downsample.0", f"{at}.downsample.1", outputs, width, 1)
            width = outputs
    return shapes | {"encoder.fc.weight": (1000, 512), "encoder.fc.bias": (1000,)}


def decoder_shapes(kind: type) -> dict[str, tuple[int, ...]]:
    """Of `depth.pth`, `position.pth` or `transform.pth`."""
    outputs, inside = DECODERS[kind]
    sizes = {f"decoder.{n}.conv.conv": size for n, size in enumerate([*COARSE_TO_FINE, (16, 16)])}
    sizes |= {f"decoder.{10 + n}{inside}": (width, outputs) for n, width in enumerate((16, 32, 64, 128))}
    weights = {f"{name}.weight": (b, a, 3, 3) for name, (a, b) in sizes.items()}
    return weights | {f"{name}.bias": (b,) for name, (_, b) in sizes.items()}


def pose_shapes() -> dict[str, tuple[int, ...]]:
    """Of `pose.pth`."""
    sizes = [(512, 256, 1), (256, 256, 3), (256, 256, 3), (256, 12, 1)]
    weights = {f"net.{n}.weight": (b, a, k, k) for n, (a, b, k) in enumerate(sizes)}
    return weights | {f"net.{n}.bias": (b,) for n, (_, b, _) in enumerate(sizes)}


def random(shapes):
    made = {}
    for name, shape in shapes.items():
        scale = (2 / torch.Size(shape[1:]).numel()) ** 0.5 if len(shape) > 1 else 0.1
        made[name] = torch.randn(shape) * scale if shape else torch.tensor(5)
        if name.endswith("running_var"):
            made[name] = made[name].abs() + 0.5
    return made


@pytest.fixture
def save(tmp_path):
    def write(tensors, name="file.pth"):
        torch.save(tensors, tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize("images", [1, 2])
def test_encoders_are_loaded(save, images):
    theirs = random(encoder_shapes(images))
    assert len(theirs) == 122
    encoder = FrameEncoder(images=images)
    load(encoder, save({**theirs, "height": 192, "width": 640, "use_stereo": False}, "encoder.pth"), key="recipe.depth")
    names = foreign_names(encoder)
    assert set(names.values()) | {"encoder.fc.weight", "encoder.fc.bias"} == set(theirs)
    for ours, value in encoder.backbone.state_dict().items():
        if not ours.endswith("num_batches_tracked"):
            assert torch.equal(value, theirs[names[ours]])
    assert all(p.requires_grad for p in encoder.parameters())


def reference(tensors, inside, maps):
    """Their decoder on their names, before the last activation; scale 0 first."""

    def convolution(name, x, mode):
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode=mode), tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    x, outputs = maps[4], []
    for step, level in enumerate((4, 3, 2, 1, 0)):
        x = F.elu(convolution(f"decoder.{2 * step}.conv.conv", x, "reflect")).repeat_interleave(2, 2)
        x = x.repeat_interleave(2, 3)
        x = torch.cat([x, maps[level - 1]], dim=1) if level else x
        x = F.elu(convolution(f"decoder.{2 * step + 1}.conv.conv", x, "reflect"))
        if level < 4:
            outputs.insert(0, convolution(f"decoder.{10 + level}{inside}", x, "reflect" if inside else "constant"))
    return outputs


@pytest.mark.parametrize("kind", DECODERS)
def test_decoders_are_loaded_and_compute_the_same(save, kind):
    """Against the plain formula under their names, 1e-4; their flow is (y, x), ours is (x, y)."""
    theirs = random(decoder_shapes(kind))
    assert len(theirs) == 28
    decoder = kind(CHANNELS)
    load(decoder, str(save(theirs)), key="recipe.depth")
    names = foreign_names(decoder)
    assert set(names) == set(decoder.state_dict())
    assert set(names.values()) == set(theirs)
    maps = [torch.randn(2, n, 64 // s, 96 // s) for n, s in zip(CHANNELS, (2, 4, 8, 16, 32), strict=True)]
    activate = {DepthDecoder: torch.sigmoid, TransformDecoder: torch.tanh, PositionDecoder: lambda x: x.flip(1)}[kind]
    with torch.no_grad():
        for got, expected in zip(decoder(maps, (64, 96)), reference(theirs, DECODERS[kind][1], maps), strict=True):
            torch.testing.assert_close(got, activate(expected), rtol=1e-4, atol=1e-4)


def test_pose_decoders_are_loaded(save):
    theirs = random(pose_shapes())
    decoder = PoseDecoder(CHANNELS)
    load(decoder, save(theirs), key="recipe.pose")
    names = foreign_names(decoder)
    assert set(names.values()) == set(theirs)
    assert all(torch.equal(value, theirs[names[name]]) for name, value in decoder.state_dict().items())
    image = torch.randn(1, 512, 3, 5)
    x = image
    for n, padding in enumerate((0, 1, 1, 0)):
        x = F.conv2d(x, theirs[f"net.{n}.weight"], theirs[f"net.{n}.bias"], padding=padding)
        x = x if n == 3 else x.relu()
    expected = 0.01 * x.mean(dim=(2, 3)).reshape(1, 2, 6)
    torch.testing.assert_close(torch.cat(decoder(image), dim=-1), expected, rtol=1e-4, atol=1e-6)


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return Path.touch, (self.proof,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder.6.conv.conv.bias": None}, "has no decoder.6.conv.conv.bias; expected"),
        ({"decoder.14.conv.weight": torch.zeros(1)}, "has decoder.14.conv.weight, which does not belong there"),
        ({"decoder.10.conv.weight": torch.zeros(2, 16, 3, 3)}, "decoder.10.conv.weight in .*depth.pth has shape"),
    ],
)
def test_other_weights_are_refused(save, change, message):
    tensors = {
        name: value for name, value in (random(decoder_shapes(DepthDecoder)) | change).items() if value is not None
    }
    with pytest.raises(UserError, match=f"^recipe.depth: .*{message}") as refusal:
        load(DepthDecoder(CHANNELS), save(tensors, "depth.pth"), key="recipe.depth")
    assert "depth.pth" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_files_of_other_networks_are_refused(save, resnet):
    pose = save(random(encoder_shapes(2)), "pose_encoder.pth")
    with pytest.raises(
        UserError, match=r"encoder.conv1.weight in .*pose_encoder.pth has shape \(64, 6, 7, 7\), not \("
    ):
        load(resnet, pose, key="recipe.depth")
    flow = save(random(decoder_shapes(PositionDecoder)), "position.pth")
    with pytest.raises(UserError, match=r"position.pth has no decoder.10.conv.weight; expected .*TransformDecoder"):
        load(TransformDecoder(CHANNELS), flow, key="recipe.depth")
    with pytest.raises(UserError, match=r"pose_encoder.pth is for a ResNet, but the encoder is a convnext_atto"):
        load(FrameEncoder("convnext_atto", images=2), pose, key="recipe.pose")
    with pytest.raises(UserError, match=r"^recipe.pose: .*nowhere.pth: no such file"):
        load(resnet, pose.with_name("nowhere.pth"), key="recipe.pose")


def test_a_file_with_code_is_not_run(save, tmp_path):
    file = save(random(pose_shapes()) | {"height": Evil(tmp_path / "proof")})
    with pytest.raises(UserError, match=r"file.pth is not a file of weights that can be read safely"):
        load(PoseDecoder(CHANNELS), file, key="recipe.pose")
    assert not (tmp_path / "proof").exists()
