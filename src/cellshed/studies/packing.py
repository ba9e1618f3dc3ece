"""Models to ship: made from a recipe, scored on its test images, packed with their card.

A recipe names the image sets, the settings and the words of a model. Making it prepares the sets,
trains, halves the weights' precision, tunes the decoder and the confidences of just these weights
on val, and scores them on each set's test images.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cellshed.config import load_config
from cellshed.data.store import Store
from cellshed.evaluation import evaluate
from cellshed.files import write_text
from cellshed.model.folder import find_model, read_card, read_weights, save_model, write_card
from cellshed.predict import load_model
from cellshed.progress import Progress
from cellshed.report import figures
from cellshed.report.drawing import save
from cellshed.report.model_card import model_card
from cellshed.settings import Config
from cellshed.studies.recipes import Part, Recipe, prepare_sets, read_recipe, stages
from cellshed.studies.tuning import tune
from cellshed.training.loop import Listener, train
from cellshed.training.run import read_environment

Scores = dict[str, Any]
Sizes = dict[str, float]
"""At one scale: "scale", "f1", and "f1_diameter" with the diameter told."""

SPLITS = ("train", "val", "test")
SCALES = (0.5, 0.75, 1.5, 2.0)
"""Images of the sets that a model learned from are scored at these sizes too."""
LARGEST = 12_000_000
"""Bytes of the weights file that may ship."""


@dataclass(frozen=True)
class Display:
    """Where making a model tells what it does; nowhere unless told so."""

    say: Callable[[str], None] = lambda _: None
    """Told of each step."""
    training: Callable[[], AbstractContextManager[Listener | None]] = nullcontext
    """Opens what `train` reports to."""
    bar: Callable[[str], AbstractContextManager[Progress | None]] = lambda _: nullcontext()
    """Opens what a long step of some name reports (done, in all) to."""


SILENT = Display()


def make_model(  # noqa: PLR0913  each is one option of the command line
    name: str,
    recipes: str | Path,
    data: str | Path,
    work: str | Path,
    out: str | Path,
    *,
    run: str | Path | None = None,
    display: Display = SILENT,
) -> Path:
    """Make a model by its recipe, or pack one that a run has made by it, and write its folder.

    What is done already, prepared sets and an interrupted training, is gone on with.

    Args:
        name: of the recipe and of the model.
        recipes: folder with models.yaml and the settings.
        data: folder of the image sets.
        work: folder for stores, run and scores.
        out: folder of models; OUT/NAME is replaced once the new one is whole.
        run: run folder to pack, made with the recipe's settings; None: train.
        display: where it tells what it does.

    Raises:
        ValueError: something about the recipe, the sets or the run, with the remedy.
    """
    recipe = read_recipe(recipes, name)
    work = Path(work)
    say = display.say
    say("preparing the image sets")
    list(prepare_sets(recipe, Path(data), work))  # a missing folder shows before hours of training
    if run is None:
        run = _train(name, Path(recipes), Path(data), work, display)
    else:
        _check_run(Path(run), load_config(Path(recipes) / recipe.settings))
    parts = list(prepare_sets(recipe, Path(data), work))
    if missing := recipe.sets.keys() - {part.name for part in parts}:
        raise ValueError(
            f"{work}: {', '.join(sorted(missing))} has no labels yet, which the training makes: "
            "leave out --run"
        )
    packed = work / name
    say("tuning on val, with weights in half precision")
    _halve(Path(run), packed, name, recipe, _origin(Path(run), name, Path(recipes), parts))
    _tune(packed, recipe, parts, display)
    scores = {}
    for part in parts:
        if part.settings.use != "train":
            say(f"scoring {part.name}, test images")
            scores[part.name] = _score(part, packed, work, display)
    say("scoring test images of other sizes")
    learned = [part for part in parts if _is_learned(part)]
    sizes = {part.name: _at_scales(part, packed, work, display) for part in learned}
    _write_card(packed, recipe, scores, sizes, work)
    size = (packed / "model.safetensors").stat().st_size
    if size > LARGEST:
        raise ValueError(f"{packed}: {size / 1e6:.1f} MB of weights, at most 12 may ship")
    return _replace(packed, Path(out) / name)


def _train(name: str, recipes: Path, data: Path, work: Path, display: Display) -> Path:
    """Train by a recipe and those that it builds on, in turn; return the last run folder."""
    runs = work / "runs"
    labeller = partial(_labeller, recipes, data, work, display)
    for stage, recipe in stages(name, recipes).items():
        parts = prepare_sets(recipe, data, work, labeller)
        learned = [part.store for part in parts if part.settings.use != "test"]
        config = load_config(recipes / recipe.settings)
        display.say(f"training into {runs / stage}")
        with display.training() as listener:
            train(
                config,
                learned,
                runs / stage,
                resume=(runs / stage / "config.yaml").is_file(),
                init=runs / recipe.init if recipe.init else None,
                teachers=[runs / other for other in recipe.teachers],
                progress=listener,
            )
    return runs / name


def _labeller(recipes: Path, data: Path, work: Path, display: Display, name: str) -> Path:
    """Return the model of a run that has ended, tuned, to label images for the next."""
    packed = work / "labellers" / name
    display.say(f"tuning {name}, which labels images for the next")
    recipe = read_recipe(recipes, name)
    _halve(work / "runs" / name, packed, name, recipe, {})
    _tune(packed, recipe, list(prepare_sets(recipe, data, work)), display)
    return packed


_OF_THE_START = (("licence", ""), ("model", "pretrained"))
"""Settings that change when a training starts from another model."""


def _check_run(run: Path, config: Config) -> None:
    """Refuse a run by other settings than the recipe's; what this leaves open is of the start."""
    made = load_config(run / "config.yaml").model_dump(mode="json")
    for section, wanted in config.model_dump(mode="json", exclude_unset=True).items():
        pairs = wanted if isinstance(wanted, dict) else {"": wanted}
        found = made[section] if isinstance(wanted, dict) else {"": made[section]}
        for key, value in pairs.items():
            if found[key] != value and (section, key) not in _OF_THE_START:
                raise ValueError(
                    f"{run} was made with {section}.{key} = {found[key]}, the recipe says {value}: "
                    "put the run's config.yaml in place of the recipe's settings, or train anew"
                )


def _origin(run: Path, name: str, recipes: Path, parts: Sequence[Part]) -> dict[str, Any]:
    """Return what is needed to make the model again."""
    files = [stage.settings for stage in stages(name, recipes).values()]
    text = b"".join((recipes / file).read_bytes() for file in files)
    return {
        "commit": str(read_environment(run).get("commit", "unknown")),
        "settings": files,
        "settings_sha256": hashlib.sha256(text).hexdigest(),
        "sets": {part.name: _describe(part) for part in parts},
    }


def _describe(part: Part) -> dict[str, Any]:
    counts = {
        split: {
            "images": sum(record.split == split for record in part.store.records),
            "cells": sum(r.n_cells for r in part.store.records if r.split == split),
        }
        for split in SPLITS
    }
    return {"licence": part.settings.licence, "hash": part.store.hash, **counts}


def _halve(run: Path, packed: Path, name: str, recipe: Recipe, origin: Mapping[str, Any]) -> None:
    """Write the run's best model with kernels in half precision."""
    shutil.rmtree(packed, ignore_errors=True)
    best = find_model(run)
    card = read_card(best).model_copy(
        update={
            "name": name,
            "summary": recipe.summary,
            "licence": recipe.licence,
            "recipe": dict(origin),
        }
    )
    save_model(packed, read_weights(best), card, half=True)


def _tune(packed: Path, recipe: Recipe, parts: Sequence[Part], display: Display) -> None:
    stores = [_tuned_on(part) for part in parts if _is_learned(part)]
    with display.bar("tuning") as progress:
        tune(packed, stores, zooms=recipe.zooms, turns=recipe.turns, progress=progress)


def _tuned_on(part: Part) -> Store:
    """Return the val images of a set that its recipe tunes on."""
    val = [record for record in part.store.records if record.split == "val"]
    count = min(part.settings.tuned_on or len(val), len(val))
    return part.store.subset(
        val[i] for i in np.linspace(0, len(val) - 1, count).round().astype(int)
    )


def _score(part: Part, packed: Path, work: Path, display: Display) -> Scores:
    out = work / "scores" / part.name
    model = load_model(packed)
    with display.bar("scoring") as progress:
        return evaluate(part.store, model, out, split="test", gallery=1, progress=progress)


def _is_learned(part: Part) -> bool:
    """Whether the model was trained on the set, chosen by it and is scored on it."""
    return part.settings.use == "all"


def _at_scales(part: Part, packed: Path, work: Path, display: Display) -> list[Sizes]:
    """Return object F1 on enlarged and reduced test images, diameter untold and told."""
    model = load_model(packed)
    trained = model.card.data["cell_diameter"]
    rows: list[Sizes] = []
    for scale in SCALES:
        row = {"scale": scale}
        out = work / "scores" / f"{part.name}-x{scale:g}"
        for key, told in (("f1", None), ("f1_diameter", scale * trained)):
            named = f"{part.name}, {scale:g} times" + (", told" if told else "")
            with display.bar(named) as progress:
                found = evaluate(
                    part.store,
                    model.with_diameter(told),
                    out,
                    split="test",
                    scale=scale,
                    gallery=0,
                    progress=progress,
                )
            row[key] = _headline(found)["f1"]
        rows.append(row)
    return rows


def _write_card(
    packed: Path,
    recipe: Recipe,
    scores: Mapping[str, Scores],
    sizes: Mapping[str, list[Sizes]],
    work: Path,
) -> None:
    """Put the scores into model.yaml, and write card.md with its figures."""
    card = read_card(packed)
    tests = {name: _headline(result) for name, result in scores.items()}
    told = {**card.scores, "test": tests, "sizes": dict(sizes)}
    card = card.model_copy(update={"scores": told})
    bins = {
        name: result["pooled"]["reliability"]
        for name, result in scores.items()
        if result["pooled"].get("reliability")
    }
    drawn = figures.reliability(bins, "How often confident cells are right, IoU 0.5")
    save(drawn, packed / "reliability.svg")
    pictures = []
    for name in (name for name, settings in recipe.sets.items() if settings.pictures):
        for picture in scores[name]["gallery"]:
            source = work / "scores" / name / picture["file"]
            file = f"{name}-{source.name}"
            shutil.copyfile(source, packed / file)
            pictures.append({"file": file, "caption": picture["caption"]})
    text = model_card(card.model_dump(mode="json"), scores, pictures, recipe.limits)
    write_text(packed / "card.md", text)
    write_card(packed, card)


def _headline(result: Scores) -> dict[str, Any]:
    pooled = result["pooled"]
    f1 = round(pooled["thresholds"]["0.50"]["f1"], 4)
    ends = pooled["intervals"].get("f1@0.50", [f1, f1])
    return {
        "f1": f1,
        "interval": [round(float(end), 4) for end in ends],
        "images": len(result["images"]),
        "cells": pooled["n_true"],
    }


def _replace(packed: Path, final: Path) -> Path:
    """Move a whole model folder to its place, in place of an earlier one."""
    final.parent.mkdir(parents=True, exist_ok=True)
    arriving = final.with_name(f".{final.name}.part")
    shutil.rmtree(arriving, ignore_errors=True)
    shutil.copytree(packed, arriving, ignore=shutil.ignore_patterns("tuning.*"))
    if final.exists():
        shutil.rmtree(final)
    arriving.rename(final)
    return final
