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
from typing import Annotated, Any, Literal

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
from cellshed.report.drawing import save
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
    shares: tuple[float, float] = (0.0, 0.0)
    """Of a set without splits: shares of its images that become val and test."""
    cell_types: tuple[str, ...] = ()
    """Only these; all where none is named."""
    use: Literal["all", "train", "test"] = "all"
    """train: neither choose nor score by it. test: score on its test images, or on all where it
    has no splits, and train on none of it."""
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
    init: str = ""
    """Recipe whose model the training starts from; it is made first. A set that both name is
    described alike."""
    zooms: tuple[float, ...] = ()
    """Values of predict.zoom that tuning tries."""
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
    work = Path(work)
    say("preparing the image sets")
    parts = list(_prepare(recipe, Path(data), work))
    if run is None:
        run = _train(name, Path(recipes), Path(data), work, say, progress)
    else:
        _check_run(Path(run), load_config(Path(recipes) / recipe.settings))
    packed = work / name
    shutil.rmtree(packed, ignore_errors=True)
    say("tuning on val, with weights in half precision")
    _halve(Path(run), packed, name, recipe, _origin(Path(run), name, Path(recipes), parts))
    learned = [part.store for part in parts if part.settings.use == "all"]
    tune(packed, learned, zooms=recipe.zooms)
    scores = {}
    for part in parts:
        if part.settings.use != "train":
            say(f"scoring {part.name}, test images")
            scores[part.name] = _score(part, packed, work)
    _write_card(packed, recipe, scores, work)
    size = (packed / "model.safetensors").stat().st_size
    if size > LARGEST:
        raise ValueError(f"{packed}: {size / 1e6:.1f} MB of weights, at most 12 may ship")
    return _replace(packed, Path(out) / name)


def _train(
    name: str,
    recipes: Path,
    data: Path,
    work: Path,
    say: Callable[[str], None],
    progress: Listener | None,
) -> Path:
    """Train by a recipe and those that it starts from, in turn; return the last run folder."""
    run = None
    for stage in _stages(name, recipes):
        learned = [p.store for p in _prepare(stage, data, work) if p.settings.use != "test"]
        config = load_config(recipes / stage.settings)
        start, run = run, work / "runs" / Path(stage.settings).stem
        say(f"training into {run}")
        resume = (run / "config.yaml").is_file()
        train(config, learned, run, resume=resume, init=start, progress=progress)
    assert run is not None
    return run


_OF_THE_START = (("licence", ""), ("model", "pretrained"))
"""Settings that change when a training starts from another model."""


def _check_run(run: Path, config: Config) -> None:
    """Refuse a run whose settings aren't the recipe's."""
    made = load_config(run / "config.yaml").model_dump()
    for section, wanted in config.model_dump().items():
        pairs = wanted if isinstance(wanted, dict) else {"": wanted}
        found = made[section] if isinstance(wanted, dict) else {"": made[section]}
        for key, value in pairs.items():
            if found[key] != value and (section, key) not in _OF_THE_START:
                raise ValueError(
                    f"{run} was made with {section}.{key} = {found[key]}, the recipe says {value}: "
                    "put the run's config.yaml in place of the recipe's settings, or train anew"
                )


def _prepare(recipe: Recipe, data: Path, work: Path) -> Iterator[Part]:
    """Yield the sets of a recipe; what is prepared already is taken as it is."""
    for name, settings in recipe.sets.items():
        folder = work / "stores" / name
        if not (folder / MANIFEST).is_file():
            source = data / (settings.folder or name)
            if settings.synthetic:
                source = _draw(work / "drawn" / name, settings)
            prepare(
                source,
                folder,
                splits=["train"] if settings.use == "train" else None,
                cell_types=settings.cell_types or None,
                val_share=settings.shares[0],
                test_share=settings.shares[1],
            )
        store = open_store(folder)
        yield Part(name, settings, _for_test(store) if settings.use == "test" else store)


def _draw(folder: Path, settings: ImageSet) -> Path:
    if not folder.exists():
        n = settings.synthetic
        images = {"test": n} if settings.use == "test" else n
        write_synthetic(folder, images=images, seed=settings.seed, shape=settings.shape)
    return folder


def _for_test(store: Store) -> Store:
    """Return the test images; all as such, of a store without splits."""
    whole = {record.split for record in store.records} == {"all"}
    tests = [r for r in store.records if whole or r.split == "test"]
    return store.subset(replace(record, split="test") for record in tests)


def _origin(run: Path, name: str, recipes: Path, parts: Sequence[Part]) -> dict[str, Any]:
    """Return what is needed to make the model again."""
    stages = list(_stages(name, recipes))
    text = "".join(load_config(recipes / stage.settings).model_dump_json() for stage in stages)
    return {
        "commit": str(read_environment(run).get("commit", "unknown")),
        "settings": [stage.settings for stage in stages],
        "settings_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "sets": {part.name: _describe(part) for part in parts},
    }


def _stages(name: str, recipes: Path) -> Iterator[Recipe]:
    """Yield a recipe after those that it starts from."""
    recipe = read_recipe(recipes, name)
    if recipe.init:
        yield from _stages(recipe.init, recipes)
    yield recipe


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
