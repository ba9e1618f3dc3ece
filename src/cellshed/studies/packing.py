"""Models to ship: made from a recipe, scored on its test images, packed with their card.

A recipe names the image sets, the settings and the words of a model. Making it prepares the sets,
trains, halves the weights' precision, tunes the decoder and the confidences of just these weights
on val, and scores them on each set's test images.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from cellshed.config import Config, Settings, load_config, nearest, validate
from cellshed.data.prepare import prepare
from cellshed.data.store import MANIFEST, Store, open_store
from cellshed.data.synthetic import write_synthetic
from cellshed.evaluation import evaluate
from cellshed.files import write_text
from cellshed.model.folder import find_model, read_card, read_weights, save_model, write_card
from cellshed.predict import load_model
from cellshed.report import figures
from cellshed.report.model_card import model_card
from cellshed.studies.tuning import tune
from cellshed.training.loop import Listener, train
from cellshed.training.run import read_environment

Scores = dict[str, Any]

SPLITS = ("train", "val", "test")
RECIPES = "models.yaml"
"""Name of the file that lists recipes, beside their settings."""
LARGEST = 12_000_000
"""Bytes of the weights file that may ship."""


class ImageSet(Settings):
    """One set of a recipe."""

    licence: str
    folder: str = ""
    """Below the folder of all sets; any layout that prepare knows."""
    synthetic: Annotated[int, Field(ge=0)] = 0
    """Draw so many images instead of reading a folder."""
    shape: tuple[int, int] = (520, 704)
    """Of drawn images: height and width."""
    seed: int = 0
    """Of drawn images."""
    shares: tuple[float, float] = (0.6, 0.2)
    """A set without splits: shares of its images, in the order of their names, that become train
    and val; the rest is test."""
    only_test: bool = False
    """Train on none of it; score on its test images, or on all where it has no splits."""
    pictures: bool = False
    """The licence allows to show its images in the card."""


class Recipe(Settings):
    """How a model is made."""

    summary: str
    """What it is good for, in one sentence."""
    licence: str
    """What may be done with the weights, as far as the training data tell."""
    settings: str
    """File of the training's settings, beside the recipe."""
    limits: str = ""
    """What it isn't good for, and its commonest mistakes, by people who looked at them."""
    sets: dict[str, ImageSet]


@dataclass(frozen=True)
class Part:
    """A set of a recipe, prepared."""

    name: str
    settings: ImageSet
    store: Store


def read_recipe(folder: str | Path, name: str) -> Recipe:
    """Read one recipe of a folder.

    Raises:
        ValueError: there is no such recipe, or it isn't one; the nearest name is offered.
    """
    path = Path(folder) / RECIPES
    if not path.is_file():
        raise ValueError(f"{folder}: no {RECIPES} in it; give the folder of the recipes")
    tree = yaml.safe_load(path.read_text("utf-8"))
    if name not in tree:
        raise ValueError(f"{path}: no recipe '{name}'; {nearest(name, tree)}")
    return validate(Recipe, tree[name], f"{path}, {name}")


def make_model(  # noqa: PLR0913  each is one option of the command line
    name: str,
    recipes: str | Path,
    data: str | Path,
    work: str | Path,
    out: str | Path,
    *,
    run: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    progress: Listener | None = None,
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
        say: told what is being done.
        progress: as of `train`.

    Raises:
        ValueError: something about the recipe, the sets or the run, with the remedy.
    """
    recipe = read_recipe(recipes, name)
    config = load_config(Path(recipes) / recipe.settings)
    work = Path(work)
    if run is not None:
        _check_run(Path(run), config)
    say("preparing the image sets")
    parts = list(_prepare(recipe, Path(data), work))
    learned = [part.store for part in parts if not part.settings.only_test]
    if run is None:
        run = work / "run"
        say(f"training into {run}")
        resume = (run / "config.yaml").is_file()
        train(config, learned, run, resume=resume, progress=progress)
    packed = work / name
    shutil.rmtree(packed, ignore_errors=True)
    say("tuning on val, with weights in half precision")
    _halve(Path(run), packed, name, recipe, _origin(Path(run), config, recipe, parts))
    tune(packed, learned)
    scores = {}
    for part in parts:
        say(f"scoring {part.name}, test images")
        scores[part.name] = _score(part, packed, work)
    _write_card(packed, recipe, scores, work)
    size = (packed / "model.safetensors").stat().st_size
    if size > LARGEST:
        raise ValueError(f"{packed}: {size / 1e6:.1f} MB of weights, at most 12 may ship")
    return _replace(packed, Path(out) / name)


def _check_run(run: Path, config: Config) -> None:
    """Refuse a run whose settings aren't the recipe's."""
    made = load_config(run / "config.yaml").model_dump()
    for section, wanted in config.model_dump().items():
        pairs = wanted if isinstance(wanted, dict) else {"": wanted}
        found = made[section] if isinstance(wanted, dict) else {"": made[section]}
        for key, value in pairs.items():
            if found[key] != value:
                raise ValueError(
                    f"{run} was made with {section}.{key} = {found[key]}, the recipe says {value}: "
                    "put the run's config.yaml in place of the recipe's settings, or train anew"
                )


def _prepare(recipe: Recipe, data: Path, work: Path) -> Iterator[Part]:
    for name, settings in recipe.sets.items():
        folder = work / "stores" / name
        if not (folder / MANIFEST).is_file():
            source = data / (settings.folder or name)
            if settings.synthetic:
                source = work / "drawn" / name
                if not source.exists():
                    n = settings.synthetic
                    images = {"test": n} if settings.only_test else n
                    write_synthetic(source, images=images, seed=settings.seed, shape=settings.shape)
            prepare(source, folder)
        yield Part(name, settings, _with_splits(open_store(folder), settings))


def _with_splits(store: Store, settings: ImageSet) -> Store:
    """Return a store whose images all belong to train, val or test."""
    whole = {record.split for record in store.records} == {"all"}
    if settings.only_test:
        tests = [r for r in store.records if whole or r.split == "test"]
        return store.subset(replace(record, split="test") for record in tests)
    if not whole:
        return store
    n = len(store)
    first, second = settings.shares
    ends = (round(first * n), round((first + second) * n))
    return store.subset(
        replace(record, split=SPLITS[sum(k >= end for end in ends)])
        for k, record in enumerate(sorted(store.records, key=lambda record: record.name))
    )


def _origin(run: Path, config: Config, recipe: Recipe, parts: Sequence[Part]) -> dict[str, Any]:
    """Return what is needed to make the model again."""
    text = config.model_dump_json().encode()
    return {
        "commit": str(read_environment(run).get("commit", "unknown")),
        "settings": recipe.settings,
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


def _score(part: Part, packed: Path, work: Path) -> Scores:
    out = work / "scores" / part.name
    return evaluate(part.store, load_model(packed), out, split="test", gallery=1)


def _write_card(packed: Path, recipe: Recipe, scores: Mapping[str, Scores], work: Path) -> None:
    """Put the scores into model.yaml, and write card.md with its figures."""
    card = read_card(packed)
    tests = {name: _headline(result) for name, result in scores.items()}
    card = card.model_copy(update={"scores": {**card.scores, "test": tests}})
    bins = {
        name: result["pooled"]["reliability"]
        for name, result in scores.items()
        if result["pooled"].get("reliability")
    }
    drawn = figures.reliability(bins, "How often confident cells are right, IoU 0.5")
    figures.save(drawn, packed / "reliability.svg")
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
