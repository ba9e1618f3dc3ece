"""The reference's network: its layers written out plainly, and its recorded maps."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cellshed.model import PanopticNet, build_model
from cellshed.model.blocks import location, upsample
from cellshed.model.heads import Head
from cellshed.model.pyramid import Pyramid
from cellshed.settings import ModelSettings, TrainingSettings
from cellshed.training.losses import head_losses, loss_weights
from cellshed.training.optimizers import KerasAdam, clip_each_variable

Weights = dict[str, Tensor]
HEADS = {"inner_distance": 0, "pixelwise": 1}  # by the number that the reference gives them
WIDTHS = {
    "resnet50": {"C3": 512, "C4": 1024, "C5": 2048},
    "densenet201": {"C3": 512, "C4": 1792, "C5": 1920},
    "efficientnetb0": {"C3": 240, "C4": 672, "C5": 1280},
    "efficientnetb7": {"C3": 480, "C4": 1344, "C5": 2560},
}


def _parameters(module: nn.Module) -> int:
    """Count as Keras does: trainable ones and the running statistics of batch norms."""
    total = sum(p.numel() for p in module.parameters())
    return total + sum(b.numel() for name, b in module.named_buffers() if "running" in name)


def _close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


# Written out plainly


def test_location_by_hand() -> None:
    rows, columns = location(torch.zeros(2, 1, 3, 5))[1]
    assert rows[:, 2].tolist() == [0, 0.5, 1]
    assert columns[1].tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_enlarging_by_hand() -> None:
    line = torch.tensor([0.0, 4.0, 0.0]).view(1, 1, 1, 3)
    assert upsample(line)[0, 0, 1].tolist() == [0, 1, 3, 3, 1, 0]


def _pyramid(features: Mapping[str, Tensor], net: Pyramid) -> Tensor:
    """1x1 convolutions, added from coarse to fine, then a 3x3 convolution of the finest."""
    merged = None
    for level in sorted(features, reverse=True):
        lateral = net.laterals[level.lower()](features[level])
        if merged is not None:
            lateral = lateral + F.interpolate(merged, scale_factor=2, mode="bilinear")
        merged = lateral
    assert merged is not None
    result: Tensor = net.outputs[f"p{net.finest}"](merged)
    return result


def _head(x: Tensor, head: Head) -> Tensor:
    """[3x3 convolution, doubling] n times, then at full resolution 1x1, norm, ReLU, 1x1."""
    for conv in head.convs:
        x = F.conv2d(x, conv.weight, conv.bias, padding=1)
        x = F.interpolate(x, scale_factor=2, mode="bilinear")
    x = F.conv2d(x, head.hidden.weight, head.hidden.bias)
    norm = head.hidden_norm
    x = F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training,
        norm.momentum, norm.eps,
    )  # fmt: skip
    return F.conv2d(F.relu(x), head.last.weight, head.last.bias)


@pytest.mark.parametrize("levels", [("C3", "C4", "C5"), ("C1", "C2", "C3", "C4", "C5")])
def test_the_pyramid_is_the_plain_layers(levels: tuple[str, ...]) -> None:
    widths = {level: 5 + int(level[1]) for level in levels}
    net = Pyramid(widths, ModelSettings(pyramid_width=12))
    sides = {level: 64 >> int(level[1]) for level in levels}
    features = {k: torch.randn(2, widths[k], sides[k], 2 * sides[k]) for k in levels}
    torch.testing.assert_close(net(features), _pyramid(features, net))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("level", [1, 3])
def test_a_head_is_the_plain_layers(level: int, training: bool) -> None:
    torch.manual_seed(0)
    settings = ModelSettings(head_width=8, head_hidden=12)
    ours, plain = Head(16, 3, level, settings), Head(16, 3, level, settings)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    plain.load_state_dict(ours.state_dict())
    source = torch.randn(2, 16, 8, 12)
    wanted = torch.randn(2, 3, 8 << level, 12 << level)
    results = []
    for head, forward in ((ours, Head.forward), (plain, lambda head, x: _head(x, head))):
        x = source.clone().requires_grad_()
        found = forward(head.train(training), x)
        (found * wanted).mean().backward()
        results.append([found, x.grad, *(p.grad for p in head.parameters())])
    for one, other in zip(*results, strict=True):
        _close(one, other)
    _close(ours.hidden_norm.running_var, plain.hidden_norm.running_var)


@pytest.mark.parametrize(("backbone", "counts"), {
    "resnet50": (524_544, 262_400, 131_328),
    "densenet201": (491_776, 459_008, 131_328),
    "efficientnetb0": (327_936, 172_288, 61_696),
    "efficientnetb7": (655_616, 344_320, 123_136),
}.items())  # fmt: skip
def test_sizes_of_pyramid_and_heads(backbone: str, counts: tuple[int, int, int]) -> None:
    net = Pyramid(WIDTHS[backbone], ModelSettings())
    laterals = tuple(_parameters(net.laterals[level]) for level in ("c5", "c4", "c3"))
    assert laterals == counts
    assert _parameters(net) == sum(counts) + 590_080
    lite = Pyramid(WIDTHS[backbone], ModelSettings(separable=True))
    assert _parameters(lite) == sum(counts) + 2_560
    for channels, total in ((1, 230_337), (2, 230_466), (3, 230_595)):
        assert _parameters(Head(256, channels, 3, ModelSettings())) == total


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        ("featurenet", 1_161_776),
        ("densenet201", 20_447_440),
        ("mobilenetv2", 3_009_744),
        # Keras' own normalisation of EfficientNet's input: mean and variance of three, and a count
        ("efficientnet_b0", 5_662_515 - 7),
        ("efficientnet_b7", 66_271_783 - 7),
    ],
)
def test_sizes_of_whole_networks(backbone: str, size: int) -> None:
    assert _parameters(build_model(ModelSettings(backbone=backbone))) == size


def test_pyramid_levels_change_nothing_when_heads_see_the_finest_alone() -> None:
    default = Pyramid(WIDTHS["resnet50"], ModelSettings())
    one = Pyramid(WIDTHS["resnet50"], ModelSettings(pyramid_levels=("P3",)))
    assert list(default.outputs) == list(one.outputs) == ["p3"]
    real = Pyramid(WIDTHS["resnet50"], ModelSettings(fusion="sum"))
    assert sorted(real.outputs) == ["p3", "p4", "p5", "p6", "p7"]


def test_training_mode_of_an_efficientnet_holds_no_chance() -> None:
    backbone = build_model(ModelSettings(backbone="efficientnet_b0"), seed=0).backbone.train()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        one, two = backbone(x), backbone(x)
    assert all(torch.equal(one[level], two[level]) for level in one)


def test_an_efficientnet_without_c5_holds_nothing_that_it_does_not_use() -> None:
    settings = ModelSettings(
        backbone="efficientnet_b0", backbone_levels=("C3", "C4"), pyramid_levels=("P3", "P4")
    )
    net = build_model(settings, seed=0)
    maps = net.logits(torch.randn(2, settings.in_channels, 64, 64))
    sum(found.sum() for found in maps.values()).backward()
    assert [name for name, p in net.backbone.named_parameters() if p.grad is None] == []


# Recorded


def _weights(spec: list[tuple[str, list[int]]], gain: float) -> Weights:
    """Make the weights that the recordings were made with, and put them as torch has them."""
    weights = {}
    for i, (name, shape) in enumerate(spec):
        z = np.random.default_rng(1000 + i).standard_normal(shape).astype(np.float32)
        kind = name.rsplit("/", 1)[-1]
        if kind == "gamma":
            z = 1 + 0.1 * z
        elif kind in ("beta", "moving_mean"):
            z = 0.1 * z
        elif kind == "moving_variance":
            z = 1 + 0.2 * np.abs(z)
        elif kind == "bias":
            z = 0.05 * z
        elif kind == "depthwise_kernel":
            z = (z * np.sqrt(gain / (shape[0] * shape[1]))).transpose(2, 3, 0, 1)
        elif kind == "kernel":
            z = (z * np.sqrt(gain / np.prod(shape[:-1]))).transpose(3, 2, 0, 1)
        weights[name] = torch.from_numpy(np.ascontiguousarray(z, dtype=np.float32))
    return weights


def _recorded(reference: Path, name: str) -> tuple[dict[str, Tensor], Weights, int]:
    with np.load(reference / "forward.npz") as file:
        spec = json.loads(str(file["spec_json"]))[name]
        maps = {
            key.split("/")[1]: torch.from_numpy(file[key]).permute(0, 3, 1, 2)
            for key in file.files
            if key.startswith(f"{name}/") and file[key].ndim == 4
        }
    return maps, _weights(spec["weights"], spec["g"]), spec["S"]


def _set_conv(conv: nn.Module, weights: Weights, name: str) -> None:
    kernel = weights.get(f"{name}/kernel", weights.get(f"{name}/depthwise_kernel"))
    assert kernel is not None
    state = {"weight": kernel}
    if f"{name}/bias" in weights:
        state["bias"] = weights[f"{name}/bias"]
    conv.load_state_dict(state)


def _set_norm(norm: nn.Module, weights: Weights, name: str) -> None:
    names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean",
             "moving_variance": "running_var"}  # fmt: skip
    state = {mine: weights[f"{name}/{theirs}"] for theirs, mine in names.items()}
    norm.load_state_dict(state | {"num_batches_tracked": torch.tensor(0)})


def _set_pyramid(pyramid: Pyramid, weights: Weights) -> None:
    for level, lateral in pyramid.laterals.items():
        _set_conv(lateral, weights, f"{level.upper()}_reduced")
    _set_conv(pyramid.outputs["p3"], weights, "P3")


def _set_head(head: Head, weights: Weights, number: int) -> None:
    for k, conv in enumerate(head.convs):
        _set_conv(conv, weights, f"conv_{k}_semantic_upsample_{number}")
    _set_conv(head.hidden, weights, f"conv_0_semantic_{number}")
    _set_norm(head.hidden_norm, weights, f"batch_normalization_0_semantic_{number}")
    _set_conv(head.last, weights, f"conv_1_semantic_{number}")


def _set_backbone(backbone: nn.Module, weights: Weights) -> None:
    """Give layers in their order the weights in theirs."""
    names = [n.rsplit("/", 1)[0] for n in weights if n.endswith(("/kernel", "/gamma"))]
    convs = iter(n for n in names if f"{n}/kernel" in weights and n != "conv_channels")
    norms = iter(n for n in names if f"{n}/gamma" in weights)
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d):
            _set_conv(layer, weights, next(convs))
        elif isinstance(layer, nn.BatchNorm2d):
            _set_norm(layer, weights, next(norms))


def _set_network(net: PanopticNet, weights: Weights) -> None:
    _set_conv(net.conv_channels, weights, "conv_channels")
    _set_backbone(net.backbone, weights)
    _set_pyramid(net.pyramid, weights)
    for name, number in HEADS.items():
        _set_head(net.heads[name], weights, number)


@pytest.mark.realdata
def test_location_and_enlarging_equal_the_recordings(reference: Path) -> None:
    recorded = {
        key: torch.from_numpy(value).permute(0, 3, 1, 2)
        for key, value in np.load(reference / "misc.npz").items()
        if key.startswith("layer/")
    }
    torch.testing.assert_close(location(recorded["layer/in"]), recorded["layer/location2d"])
    torch.testing.assert_close(upsample(recorded["layer/up_in"]), recorded["layer/up_bilinear"])


@pytest.mark.realdata
@pytest.mark.parametrize("name", [*WIDTHS, "resnet50_lite", "featurenet"])
def test_pyramid_and_heads_equal_the_recordings(reference: Path, name: str) -> None:
    maps, weights, _ = _recorded(reference, name)
    widths = WIDTHS.get(name.removesuffix("_lite"), {"C3": 32, "C4": 32, "C5": 32})
    settings = ModelSettings(separable=name.endswith("_lite"))
    pyramid = Pyramid(widths, settings).eval()
    _set_pyramid(pyramid, weights)
    pyramid.laterals = nn.ModuleDict({level: nn.Identity() for level in pyramid.laterals})
    with torch.inference_mode():
        shared = pyramid({level: maps[f"{level}_reduced"] for level in widths})
        _close(shared, maps["P3"])
        for target, number in HEADS.items():
            channels = maps[f"semantic_{number}"].shape[1]
            head = Head(256, channels, 3, settings).eval()
            _set_head(head, weights, number)
            logits = head(shared)
            _close(
                F.relu(logits) if target == "inner_distance" else logits.softmax(1),
                maps[f"semantic_{number}"],
            )
            if target == "inner_distance":
                _close(logits, maps["semantic_0_prerelu"])


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "backbone"), [("featurenet",) * 2, ("densenet201",) * 2])
def test_whole_networks_equal_the_recordings(reference: Path, name: str, backbone: str) -> None:
    maps, weights, side = _recorded(reference, name)
    net = build_model(ModelSettings(backbone=backbone)).eval()
    _set_network(net, weights)
    image = np.random.default_rng(7).random((1, side, side, 1)).astype(np.float32)
    x = torch.from_numpy(image).permute(0, 3, 1, 2)
    with torch.inference_mode():
        _close(net.conv_channels(torch.cat([x, location(x)], 1)), maps["conv_channels"])
        for form in (net, net.for_inference()):
            found = form(x)
            for target, number in HEADS.items():
                _close(found[target], maps[f"semantic_{number}"])


@pytest.mark.realdata
def test_training_steps_equal_the_recorded_ones(reference: Path) -> None:
    _, weights, side = _recorded(reference, "featurenet")
    recorded = np.load(reference / "forward.npz")["featurenet/train_losses(total,s0,s1)x6"]
    rng = np.random.default_rng(8)
    image, distance = rng.random((2, side, side, 1)), rng.random((2, side, side, 1))
    classes = np.eye(3)[rng.integers(0, 3, (2, side, side))]
    x, y0, y1 = (
        torch.from_numpy(a.astype(np.float32)).permute(0, 3, 1, 2)
        for a in (image, distance, classes)
    )
    net = build_model(ModelSettings(backbone="featurenet")).train()
    _set_network(net, weights)
    optimizer = KerasAdam(net.parameters(), lr=5e-4)
    settings = TrainingSettings(distance_loss="relu")
    factors = loss_weights(tuple(HEADS), settings)
    for step, (total, *parts) in enumerate(recorded):
        losses = head_losses(net.logits(x), {"inner_distance": y0, "pixelwise": y1}, settings)
        scaled = [factors[name] * losses[name] for name in HEADS]
        # A ReLU or maximum that rounding decides the other way: it grows from step to step.
        near = {"rel": 1e-5 if step == 0 else 1e-3 if step < 3 else 4e-2}
        assert [s.item() for s in (sum(scaled), *scaled)] == pytest.approx([total, *parts], **near)
        optimizer.zero_grad()
        sum(scaled).backward()
        clip_each_variable(net.parameters(), 1e-3)
        optimizer.step()
