"""The feature pyramid's ways of fusion."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cellshed.model.pyramid import Pyramid
from cellshed.settings import ModelSettings


def _cascade(blocks: int = 0) -> Pyramid:
    settings = ModelSettings(fusion="cascade", pyramid_width=4, pyramid_blocks=blocks)
    torch.manual_seed(0)
    return Pyramid({"C3": 3, "C4": 5}, settings).eval()


def test_a_cascade_makes_each_level_of_the_coarser_one() -> None:
    pyramid = _cascade()
    c3, c4 = torch.randn(1, 3, 8, 8), torch.randn(1, 5, 4, 4)
    p4 = F.relu(pyramid.norms["p4"](pyramid.outputs["p4"](pyramid.laterals["c4"](c4))))
    enlarged = F.interpolate(p4, scale_factor=2, mode="bilinear", align_corners=False)
    merged = pyramid.laterals["c3"](c3) + enlarged
    p3 = F.relu(pyramid.norms["p3"](pyramid.outputs["p3"](merged)))
    torch.testing.assert_close(pyramid({"C3": c3, "C4": c4}), p3)


def test_a_cascade_has_the_levels_of_the_backbone_alone() -> None:
    assert list(_cascade().outputs) == ["p4", "p3"]  # though pyramid_levels go on to P7


def test_without_the_coarser_level_a_cascade_still_sees_the_finer_one() -> None:
    pyramid = _cascade()
    c3, c4 = torch.randn(1, 3, 8, 8), torch.randn(1, 5, 4, 4)
    nn.init.zeros_(pyramid.norms["p4"].weight)
    before = pyramid({"C3": c3, "C4": c4})
    assert torch.equal(before, pyramid({"C3": c3, "C4": 2 * c4}))
    assert not torch.equal(before, pyramid({"C3": 2 * c3, "C4": c4}))


def test_residual_blocks_begin_as_the_identity() -> None:
    without, with_blocks = _cascade(), _cascade(blocks=2)
    left = with_blocks.load_state_dict(without.state_dict(), strict=False)
    assert left.missing_keys
    assert all(name.startswith("blocks.") for name in left.missing_keys)
    features = {"C3": torch.randn(1, 3, 8, 8), "C4": torch.randn(1, 5, 4, 4)}
    assert torch.equal(with_blocks(features), without(features))


def test_every_level_has_its_blocks() -> None:
    pyramid = _cascade(blocks=2)
    assert {name: len(blocks) for name, blocks in pyramid.blocks.items()} == {"p3": 2, "p4": 2}
    features = {"C3": torch.randn(1, 3, 8, 8), "C4": torch.randn(1, 5, 4, 4)}
    before = pyramid(features)
    for name in ("p4", "p3"):  # neither leaves the result as it is
        nn.init.ones_(pyramid.blocks[name][1].norm2.weight)
        assert not torch.equal(before, before := pyramid(features))


def test_blocks_belong_to_a_cascade() -> None:
    with pytest.raises(ValueError, match="pyramid_blocks 1 with fusion sum"):
        ModelSettings(fusion="sum", pyramid_blocks=1)
