"""Losses: hand-worked values and the reference's recordings."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cellshed.settings import TrainingSettings
from cellshed.training.losses import (
    balancing_weights,
    cross_entropy,
    head_losses,
    loss_weights,
    squared_error,
)


def _one_hot(classes: list[list[int]], n: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), n).permute(2, 0, 1)[None].float()


def test_squared_error_by_hand() -> None:
    prediction, target = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
    assert squared_error(prediction, target).item() == pytest.approx((1 + 4) / 2)


def test_balancing_weights_by_hand() -> None:
    target = _one_hot([[0, 0, 0, 1]], 3)  # counts 3, 1, 0 of 4
    torch.testing.assert_close(
        balancing_weights(target), torch.tensor([4 / (3 * 4), 4 / (3 * 2), 4 / (3 * 1)])
    )


def test_cross_entropy_by_hand() -> None:
    target = _one_hot([[0, 1]], 2)
    logits = torch.tensor([[[[0.8, 0.3]], [[0.2, 0.7]]]]).log()
    weights = torch.tensor([2.0, 3.0])
    expected = (2 * -math.log(0.8) + 3 * -math.log(0.7)) / 2
    assert cross_entropy(logits, target, weights).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.realdata
def test_cross_entropy_equals_the_recording(reference: Path) -> None:
    recorded = np.load(reference / "misc.npz")
    target = torch.from_numpy(recorded["loss/y_true"]).permute(0, 3, 1, 2)
    logits = torch.from_numpy(recorded["loss/y_pred"]).permute(0, 3, 1, 2).log()
    loss = cross_entropy(logits, target, balancing_weights(target))
    assert loss.item() == pytest.approx(float(np.mean(recorded["loss/wcce"])), rel=2e-6)
    plain = cross_entropy(logits, target)
    assert plain.item() == pytest.approx(float(np.mean(recorded["loss/cce"])), rel=2e-6)


@pytest.mark.realdata
def test_cross_entropy_without_a_class_equals_the_recording(reference: Path) -> None:
    recorded = np.load(reference / "misc.npz")
    # The recording took class 0 away and left its pixels without any: ours sees the others.
    target = torch.from_numpy(recorded["loss/y_true"]).permute(3, 0, 1, 2).flatten(1)
    prediction = torch.from_numpy(recorded["loss/y_pred"]).permute(3, 0, 1, 2).flatten(1)
    others = target[0] == 0
    target, logits = target[None, :, None, others], prediction[None, :, None, others].log()
    loss = cross_entropy(logits, target, balancing_weights(target)) * others.float().mean()
    expected = float(np.mean(recorded["loss/wcce_missing_class"]))
    assert loss.item() == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize(("kind", "expected"), [("relu", 1 / 4), ("one_sided", 16 / 4)])
def test_distances_below_zero_count_only_inside_cells(kind: str, expected: float) -> None:
    # Background found as -3 is right; a cell's 1 found as -3 is wrong by 1, or by 4.
    logits = {"inner_distance": torch.tensor([[[[-3.0, -3.0], [-3.0, -3.0]]]])}
    targets = {"inner_distance": torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]])}
    settings = TrainingSettings.model_validate({"distance_loss": kind})
    loss = head_losses(logits, targets, settings)["inner_distance"]
    assert loss.item() == expected


def test_a_head_below_zero_still_learns() -> None:
    logits = torch.full((1, 1, 2, 2), -3.0, requires_grad=True)
    targets = {"inner_distance": torch.ones(1, 1, 2, 2)}
    for kind, slope in (("relu", 0.0), ("one_sided", 2 * (-3 - 1) / 4)):
        settings = TrainingSettings.model_validate({"distance_loss": kind})
        loss = head_losses({"inner_distance": logits}, targets, settings)["inner_distance"]
        (gradient,) = torch.autograd.grad(loss, logits)
        assert (gradient == slope).all()


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_unknown_pixels_have_no_part_in_any_loss(weights: str) -> None:
    # The right half is unknown: as if the image were its left half alone.
    random = torch.Generator().manual_seed(0)
    logits = {
        "inner_distance": torch.randn(2, 1, 4, 6, generator=random),
        "pixelwise": torch.randn(2, 3, 4, 6, generator=random),
    }
    classes = torch.randint(0, 3, (2, 4, 6), generator=random)
    targets = {
        "inner_distance": torch.rand(2, 1, 4, 6, generator=random),
        "pixelwise": torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2),
    }
    known = (torch.arange(6) < 3).expand(2, 1, 4, 6).float()
    logits["pixelwise"][..., 3:] = torch.inf
    settings = TrainingSettings.model_validate({"class_weights": weights})
    whole = head_losses(logits, targets, settings, known)
    half = head_losses(
        {name: each[..., :3] for name, each in logits.items()},
        {name: each[..., :3] for name, each in targets.items()},
        settings,
    )
    for name, loss in half.items():
        assert whole[name].item() == pytest.approx(loss.item(), rel=1e-6)


def test_a_pixel_of_weight_two_counts_as_two_pixels() -> None:
    logits = {"pixelwise": torch.randn(1, 3, 1, 2), "inner_distance": torch.randn(1, 1, 1, 2)}
    targets = {"pixelwise": _one_hot([[0, 2]], 3), "inner_distance": torch.rand(1, 1, 1, 2)}
    settings = TrainingSettings()
    weighed = head_losses(logits, targets, settings, torch.tensor([[[[2.0, 1.0]]]]))
    repeated = head_losses(
        {name: each[..., [0, 0, 1]] for name, each in logits.items()},
        {name: each[..., [0, 0, 1]] for name, each in targets.items()},
        settings,
    )
    for name, loss in repeated.items():
        assert weighed[name].item() == pytest.approx(loss.item(), rel=1e-6)


def test_without_known_pixels_there_is_no_loss_and_no_slope() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    targets = {"pixelwise": _one_hot([[0, 1], [2, 0]], 3)}
    nothing = torch.zeros(1, 1, 2, 2)
    loss = head_losses({"pixelwise": logits}, targets, TrainingSettings(), nothing)["pixelwise"]
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert not gradient.any()


def test_default_and_given_loss_weights() -> None:
    heads = ("inner_distance", "pixelwise")
    assert loss_weights(heads, TrainingSettings()) == {"inner_distance": 1.0, "pixelwise": 0.01}
    settings = TrainingSettings(loss_weights={"pixelwise": 0.5})
    assert loss_weights(heads, settings)["pixelwise"] == 0.5


def test_a_weight_for_a_head_that_the_model_lacks_waits() -> None:
    settings = TrainingSettings(loss_weights={"pixelwise": 0.5})
    assert loss_weights(("inner_distance", "foreground"), settings) == {
        "inner_distance": 1.0,
        "foreground": 0.01,
    }


def test_a_weight_for_what_is_no_head_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'pixelwise'"):
        loss_weights(("pixelwise",), TrainingSettings(loss_weights={"pixelwize": 1.0}))
