"""Losses of the heads, by the kind that each target names.

Mean squared error for distances, class-weighted cross-entropy for one-hot classes; the latter
scaled by 0.01 unless told otherwise, as in Greenwald et al. 2022 (Mesmer). Each pixel
has a weight of its own, 0 where nobody knows what it is (see cellshed.pixel_weights).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from cellshed.settings import TrainingSettings
from cellshed.spelling import nearest
from cellshed.targets import TARGETS

DEFAULT_WEIGHTS = {"mse": 1.0, "cross_entropy": 0.01}
"""Factor of a head's loss by the kind of the loss."""


def squared_error(prediction: Tensor, target: Tensor, pixels: Tensor | None = None) -> Tensor:
    """Return the weighted mean over pixels of (prediction - target)**2.

    Args:
        prediction: (N, 1, H, W).
        target: (N, 1, H, W).
        pixels: weights (N, 1, H, W); None: all weigh 1.
    """
    return _mean((prediction - target.to(prediction.dtype)) ** 2, pixels)


def balancing_weights(target: Tensor, pixels: Tensor | None = None) -> Tensor:
    """Return weights (C,) that make the classes of a batch count alike.

    w_c = total / (C * (count_c + 1)), the counts taken over the whole batch, as the reference
    has it; a class that doesn't occur gets a huge weight that nothing multiplies.

    Args:
        target: one-hot (N, C, H, W).
        pixels: weights (N, 1, H, W); None: all weigh 1.
    """
    counted = target if pixels is None else target * pixels
    counts = counted.sum(dim=(0, 2, 3), dtype=torch.float32)
    return counts.sum() / (len(counts) * (counts + 1))


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weights: Tensor | None = None,
    pixels: Tensor | None = None,
) -> Tensor:
    """Return the weighted mean over pixels of -w_c log p_c, where c is a pixel's class.

    Args:
        logits: (N, C, H, W), before softmax.
        target: one-hot (N, C, H, W); or, as floats, the classes' probabilities t_c, and the mean is
            that of the sum of -w_c t_c log p_c.
        weights: (C,), or None for equal weights. The mean isn't divided by the weights' sum.
        pixels: weights (N, 1, H, W); None: all weigh 1.
    """
    wanted = target if target.is_floating_point() else target.argmax(dim=1)
    each = functional.cross_entropy(logits, wanted, weights, reduction="none")
    return _mean(each[:, None], pixels)


def head_losses(
    logits: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    settings: TrainingSettings,
    pixels: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return each head's unscaled loss.

    Args:
        logits: head name -> (N, C, H, W), before activation.
        targets: head name -> (N, C, H, W).
        settings: class_weights and distance_loss matter.
        pixels: weights (N, 1, H, W); None: all weigh 1.
    """
    return {
        name: _KINDS[TARGETS[name].loss](logits[name].float(), targets[name], settings, pixels)
        for name in logits
    }


def taught_losses(
    losses: Mapping[str, Tensor],
    logits: Mapping[str, Tensor],
    maps: Mapping[str, Tensor],
    settings: TrainingSettings,
) -> dict[str, Tensor]:
    """Return each head's loss by its labels, mixed with that by what teachers say.

    Classes weigh as they come in the teachers' part: teachers that learned with balanced classes
    say rare ones more often already.

    Args:
        losses: by the labels, see head_losses.
        logits: head name -> (N, C, H, W), before activation.
        maps: the teachers', head name -> (N, C, H, W).
        settings: teacher_share and distance_loss matter.
    """
    share = settings.teacher_share
    plain = settings.model_copy(update={"class_weights": "none"})
    by_teachers = head_losses(logits, maps, plain)
    return {name: (1 - share) * loss + share * by_teachers[name] for name, loss in losses.items()}


def loss_weights(heads: tuple[str, ...], settings: TrainingSettings) -> dict[str, float]:
    """Return the factor of each head's loss: the settings' where given, else its kind's.

    Factors of heads that the model lacks wait for one that has them: studies vary the heads.

    Raises:
        ValueError: the settings name something that can't be a head.
    """
    for name in settings.loss_weights:
        if name not in TARGETS:
            hint = nearest(name, TARGETS)
            raise ValueError(f"training.loss_weights.{name}: there is no such head; {hint}")
    return {
        name: settings.loss_weights.get(name, DEFAULT_WEIGHTS[TARGETS[name].loss]) for name in heads
    }


def _mean(each: Tensor, pixels: Tensor | None) -> Tensor:
    """Return the weighted mean of what each pixel of (N, 1, H, W) has; without any weight, 0."""
    if pixels is None:
        return each.mean()
    # What isn't finite where the weight is 0 would spoil a product.
    weighed = torch.where(pixels > 0, each * pixels, 0)
    return weighed.sum() / pixels.sum().clamp_min(1)


def _mse_of_logits(
    logits: Tensor, target: Tensor, settings: TrainingSettings, pixels: Tensor | None
) -> Tensor:
    found = functional.relu(logits)
    if settings.distance_loss == "one_sided":
        found = torch.where(target > 0, logits, found)
    return squared_error(found, target, pixels)


def _cross_entropy_of_logits(
    logits: Tensor, target: Tensor, settings: TrainingSettings, pixels: Tensor | None
) -> Tensor:
    balanced = settings.class_weights == "balanced"
    weights = balancing_weights(target, pixels) if balanced else None
    return cross_entropy(logits, target, weights, pixels)


_KINDS: dict[str, Callable[[Tensor, Tensor, TrainingSettings, Tensor | None], Tensor]] = {
    "mse": _mse_of_logits,
    "cross_entropy": _cross_entropy_of_logits,
}
