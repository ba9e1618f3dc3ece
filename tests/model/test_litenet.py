"""EfficientNet-Lite0: timm's network, by its names, to the last digits."""

import subprocess
import sys

import pytest
import torch

from cellshed.model.backbones import BACKBONES
from cellshed.model.litenet import LEVELS, LiteNet


@pytest.mark.parametrize("last", ["C3", "C5"])
def test_the_same_weights_give_timm_s_maps(last: str) -> None:
    import timm

    levels = [level for level in LEVELS if level <= last]
    taps = tuple(range(len(levels)))
    theirs = timm.create_model("efficientnet_lite0", features_only=True, out_indices=taps).eval()
    ours = LiteNet(last).eval()
    weights = theirs.state_dict()
    names = list(ours.state_dict())
    assert [name for name in weights if name in names] == names  # the order too
    ours.load_state_dict({name: weights[name] for name in names})
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        found, expected = ours(image), theirs(image)
    for level, maps in zip(levels, expected, strict=True):
        torch.testing.assert_close(found[LEVELS[level]], maps)


def test_start_weights_are_as_wide_as_timm_s() -> None:
    import timm

    torch.manual_seed(0)
    weights = timm.create_model("efficientnet_lite0").state_dict()
    for name, tensor in LiteNet().state_dict().items():
        if tensor.ndim == 4 and tensor.numel() > 1000:
            assert tensor.std() == pytest.approx(float(weights[name].std()), rel=0.15)


def test_channels_of_each_level() -> None:
    backbone = BACKBONES["efficientnet_lite0"].build("efficientnet_lite0", ["C4", "C2"], False)
    maps = backbone(torch.zeros(1, 3, 64, 64))
    assert backbone.channels == {"C2": 24, "C4": 112}
    assert {name: found.shape[1] for name, found in maps.items()} == backbone.channels
    assert len(backbone.body.blocks) == 5  # nothing behind C4


def test_a_network_of_it_needs_no_timm() -> None:
    code = (
        "import sys; from cellshed.settings import ModelSettings;"
        "from cellshed.model import build_model;"
        "build_model(ModelSettings(backbone='efficientnet_lite0', pretrained='none'));"
        "assert not {'timm', 'torchvision', 'torch._dynamo'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
