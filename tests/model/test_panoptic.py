"""PanopticNet: what every backbone gives, the reference's sizes, and the form for inference."""

import pytest
import torch
from torch import nn

from cellshed.model import BACKBONES, PanopticNet, build_model
from cellshed.settings import ModelSettings

SMALL = {
    "pyramid_width": 16,
    "head_width": 8,
    "head_hidden": 8,
    "fusion": "sum",
    "pyramid_levels": ("P3", "P4", "P5"),
}
LIGHT = [name for name, entry in BACKBONES.items() if not entry.heavy]
HEAVY = [name for name, entry in BACKBONES.items() if entry.heavy]


def _net(**changes: object) -> PanopticNet:
    return build_model(ModelSettings.model_validate(SMALL | changes), seed=0)


def _parameters(module: nn.Module) -> int:
    """Count as Keras does: trainable ones and the running statistics of batch norms."""
    total = sum(p.numel() for p in module.parameters())
    return total + sum(b.numel() for name, b in module.named_buffers() if "running" in name)


def _contract(name: str, channels: int) -> None:
    net = _net(backbone=name, in_channels=channels).train()
    image = torch.randn(2, channels, 64, 96)
    logits = net.logits(image)
    assert {k: tuple(v.shape) for k, v in logits.items()} == {
        "inner_distance": (2, 1, 64, 96),
        "pixelwise": (2, 3, 64, 96),
    }
    sum(v.square().mean() for v in logits.values()).backward()
    used = [p for p in net.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in used)
    for level, width in net.backbone.channels.items():
        found = net.backbone(torch.randn(1, 3, 64, 96))[level]
        stride = 2 ** int(level[1])
        assert tuple(found.shape) == (1, width, 64 // stride, 96 // stride)


@pytest.mark.parametrize("name", LIGHT)
def test_every_backbone_keeps_the_contract(name: str) -> None:
    _contract(name, channels=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_heavy_backbones_keep_it_too(name: str) -> None:
    _contract(name, channels=1)


@pytest.mark.parametrize("channels", [2, 3])
def test_any_number_of_input_channels(channels: int) -> None:
    _contract("resnet18", channels)


def test_any_timm_network_serves_as_backbone() -> None:
    assert "C3" in _net(backbone="mobilenetv3_small_050").backbone.channels


def test_maps_are_probabilities_and_distances() -> None:
    maps = _net(backbone="featurenet").eval()(torch.randn(1, 1, 64, 64))
    torch.testing.assert_close(maps["pixelwise"].sum(1), torch.ones(1, 64, 64))
    assert (maps["inner_distance"] >= 0).all()


@pytest.mark.parametrize("fusion", ["finest", "sum", "cascade"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("backbone", ["resnet18", "residual", "efficientnet_lite0", "featurenet"])
def test_the_form_for_inference_gives_the_same_maps(
    backbone: str, stride: int, fusion: str
) -> None:
    net = _net(backbone=backbone, fusion=fusion, head_stride=stride)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):  # statistics that folding must get right
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    net.eval()
    image = torch.randn(1, 1, 96, 64)
    with torch.inference_mode():
        plain, fused = net(image), net.for_inference()(image)
    for name in plain:
        torch.testing.assert_close(fused[name], plain[name], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_parameter_counts_of_the_reference_form() -> None:
    net = build_model(ModelSettings())  # ResNet50, C3-C5, heads on P3 alone
    assert _parameters(net.heads["inner_distance"]) == 230_337
    assert _parameters(net.heads["pixelwise"]) == 230_595
    assert _parameters(net.conv_channels) == 12
    # laterals of C5, C4, C3 and the 3x3 convolution of P3; P4 to P7 reach no output
    assert _parameters(net.pyramid) == 524_544 + 262_400 + 131_328 + 590_080
    # Keras' ResNet50 has 26,560 biases of convolutions that torchvision's design lacks
    assert _parameters(net) == 25_557_008 - 26_560


@pytest.mark.slow
def test_depthwise_pyramid_of_the_reference() -> None:
    lite = build_model(ModelSettings(separable=True))
    assert _parameters(build_model(ModelSettings())) - _parameters(lite) == 590_080 - 2_560


def test_levels_that_are_summed_but_not_of_the_backbone() -> None:
    net = _net(backbone="featurenet", pyramid_levels=("P3", "P4", "P5", "P6", "P7")).eval()
    assert net(torch.randn(1, 1, 96, 160))["pixelwise"].shape == (1, 3, 96, 160)  # P6: 1.5 x 2.5


def test_every_summed_level_reaches_the_heads() -> None:
    net = _net(backbone="featurenet", pyramid_levels=("P3", "P4", "P5", "P6")).eval()
    image = torch.randn(1, 1, 64, 64)
    before = net.logits(image)["pixelwise"]
    for level, conv in net.pyramid.outputs.items():
        kept = conv.bias.detach().clone()
        nn.init.constant_(conv.bias, 3.0)
        assert not torch.allclose(net.logits(image)["pixelwise"], before), level
        conv.bias.data.copy_(kept)


def test_a_shuffled_finish_gives_each_pixel_its_own_logit() -> None:
    net = _net(backbone="featurenet", head_stride=2, head_finish="shuffle", heads=("foreground",))
    head = net.heads["foreground"].eval()
    nn.init.zeros_(head.last.weight)
    head.last.bias.data = torch.arange(8.0)
    logits = head(torch.zeros(1, 16, 1, 1))  # one pixel of P3 is 8x8 pixels of the image
    assert logits.shape == (1, 2, 8, 8)
    assert logits[0, 0, :2, :4].tolist() == [[0, 1, 0, 1], [2, 3, 2, 3]]
    assert logits[0, 1, :2, :4].tolist() == [[4, 5, 4, 5], [6, 7, 6, 7]]


def test_momentum_of_the_norms_is_a_setting() -> None:
    net = _net(backbone="resnet18", norm_momentum=0.25)
    momenta = {m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)}
    assert momenta == {0.25}


def test_the_random_state_of_torch_is_left_alone() -> None:
    before = torch.get_rng_state()
    _net(backbone="featurenet")
    assert torch.equal(torch.get_rng_state(), before)


def test_location_is_seen_and_can_be_left_out() -> None:
    with_it, without = _net(backbone="featurenet"), _net(backbone="featurenet", location=False)
    assert with_it.conv_channels.in_channels == 3
    assert without.conv_channels.in_channels == 1


@pytest.mark.parametrize("norm", ["frozen", "group"])
def test_statistics_that_are_to_be_held_stay(norm: str) -> None:
    net = _net(backbone="resnet18", norm=norm).train()
    before = {k: v.clone() for k, v in net.backbone.state_dict().items() if "running" in k}
    net.logits(torch.randn(2, 1, 64, 64))
    after = net.backbone.state_dict()
    assert before
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_same_seed_gives_the_same_weights() -> None:
    one, two = (_net(backbone="resnet18").state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet5"}, "did you mean 'resnet50'"),
        ({"heads": ("pixelwize",)}, "did you mean 'pixelwise'"),
        ({"backbone_levels": ("C1", "C2", "C9")}, "C9"),
        ({"backbone": "convnext_atto", "backbone_levels": ("C1", "C2")}, "no level C1; it has C2"),
        ({"backbone": "vit_tiny_patch16_224"}, "images of any size"),
        ({"backbone": "featurenet", "pyramid_levels": ("P2", "P3")}, "P2 needs C2"),
        ({"backbone": "featurenet", "pyramid_levels": ("P3", "P7")}, "P7 needs C5 and P6"),
        ({"backbone": "featurenet", "pyramid_levels": ("P4", "P5")}, "lack P3"),
        (
            {
                "backbone": "featurenet",
                "head_stride": 8,
                "backbone_levels": ("C2", "C3"),
                "pyramid_levels": ("P2", "P3"),
            },
            "head_stride 8 is coarser",
        ),
        ({"pretrained": "nowhere.pth", "backbone": "resnet18"}, r"nowhere\.pth"),
        ({"pretrained": "package:no_such_package", "backbone": "resnet18"}, "no_such_package"),
    ],
)
def test_unknown_parts_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _net(**changes)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 1, 100, 64), "pad it to 128x64"), ((1, 2, 64, 64), r"takes \(N, 1, H, W\)")],
)
def test_wrong_input_tells_the_size_to_pad_to(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _net(backbone="featurenet")(torch.randn(shape))
