"""Training that starts from another model: what of its settings goes on to the new one."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellshed.config import with_overrides
from cellshed.data.diameters import middle_diameter_of
from cellshed.data.store import Store
from cellshed.model.folder import ModelCard, find_model, load_weights, read_card
from cellshed.model.panoptic import PanopticNet
from cellshed.scale import FOR_ALL, scales_for_size
from cellshed.settings import CalibrationSettings, Config, ModelSettings, Settings
from cellshed.training.split import of_splits

_SECTIONS = ("model", "normalize", "targets", "decode", "predict")


def starting_model(config: Any, init: str | Path | None) -> Path | None:
    """Return the folder of the model that a training starts from; None: from random weights.

    Args:
        config: settings, or the name of a preset or YAML file.
        init: model that is asked for; where none is, finetune takes the shipped one.
    """
    if init is None and config != "finetune":
        return None
    return find_model(init)


def check_statistics(model: ModelSettings, init: Path | None) -> None:
    """Refuse to hold the statistics of norms that have seen no image yet."""
    if model.norm != "batch" and init is None and model.pretrained == "none":
        raise ValueError(
            f"model.norm = {model.norm} holds the statistics of batch norms, and these have seen "
            "no image yet: start from a model (--init), from model.pretrained, or set "
            "model.norm=batch"
        )


def settings_from(config: Config, folder: Path) -> Config:
    """Return settings with those of an initial model wherever the settings say nothing themselves.

    What was read from a file, a preset or an override says something; a default doesn't. Its
    backbone's start weights aren't needed any more, and its training data's licence is added.

    Args:
        config: of the training.
        folder: model folder of the initial model.
    """
    card = read_card(folder)
    if "scales" in config.predict.model_fields_set:  # as for a model that has learned
        card = card.model_copy(update={"predict": card.predict.model_copy(update=FOR_ALL)})
    sections = {name: _merged(getattr(card, name), getattr(config, name)) for name in _SECTIONS}
    sections["model"] = sections["model"].model_copy(update={"pretrained": "none"})
    licence = config.licence or "not stated"
    if card.licence != config.licence:
        licence += f"; initial model: {card.licence or 'not stated'}"
    return config.model_copy(update={**sections, "licence": licence})


def looks_of_its_own(config: Config) -> bool:
    """Tell whether settings say themselves at which scales images are looked at."""
    return bool({"zoom", "scales", "scales_by_size"} & config.predict.model_fields_set)


def at_one_size(config: Config, stores: Sequence[Store]) -> Config:
    """Return settings that show cells in training at the scale at which images are looked at.

    An initial model with predict.zoom looks at images at that zoom, and augment.zoom goes about it.
    One with predict.scales_by_size has learned cells of one size, and finds others at other scales.
    What goes on from it learns the cells that it is shown: so it is shown them at the scale that
    suits them, and later looks at all images at that scale, whatever is found in a first look.

    Args:
        config: with the initial model's settings.
        stores: annotated images, of which those of split "test" don't count; half of the others'
            cells' area is in cells smaller than the diameter that decides.
    """
    predict = config.predict
    if predict.scales_by_size:
        known = of_splits(stores, "train", "val", "all")
        first, *rest = scales_for_size(predict.zoom * middle_diameter_of(known), predict)
        scales = (1.0, *(scale / first for scale in rest))
        looks = {"zoom": predict.zoom * first, "scales": scales, **FOR_ALL}
        predict = predict.model_copy(update=looks)
    low, high = config.augment.zoom
    zoom = (low * predict.zoom, high * predict.zoom)
    augment = config.augment.model_copy(update={"zoom": zoom})
    return config.model_copy(update={"predict": predict, "augment": augment})


def take_weights(net: PanopticNet, folder: Path) -> list[str]:
    """Put an initial model's weights into a network, warn of what doesn't fit, and return it."""
    anew = load_weights(net, folder, partly=True)
    if anew:
        warnings.warn(
            f"not taken from {folder}, because model settings differ: {', '.join(anew)}",
            stacklevel=2,
        )
    return anew


def inherited(card: ModelCard, anew: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a card says of a model that a training started from or was taught by.

    Args:
        card: of the initial model.
        anew: heads and pyramid layers that were not taken from it.
    """
    said = {"name": card.name, "recipe": card.recipe, "data": card.data}
    return said | ({"anew": list(anew)} if anew else {})


def calibration_left(
    card: ModelCard | None, config: Config, step: int
) -> CalibrationSettings | None:
    """Return the initial model's calibration, which holds for its own weights and decoder alone.

    Args:
        card: of the initial model, if there is one.
        config: of the training.
        step: how many steps were taken.
    """
    if card is None or step or card.decode != config.decode:
        return None
    return card.calibration


def _merged(before: Settings, now: Settings) -> Settings:
    return with_overrides(
        before, _deep(before.model_dump(), now.model_dump(exclude_unset=True)), "settings"
    )


def _deep(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree with the values of another put over its own."""
    merged = dict(before)
    for key, value in now.items():
        inner = isinstance(value, dict) and isinstance(before.get(key), dict)
        merged[key] = _deep(before[key], value) if inner else value
    return merged
