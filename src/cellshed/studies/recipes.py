"""Recipes of the models that ship: their image sets, settings and words; and the sets prepared."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from cellshed.config import validate
from cellshed.data.prepare import prepare
from cellshed.data.store import MANIFEST, Store, open_store
from cellshed.data.synthetic import MORPHOLOGIES, write_synthetic
from cellshed.files import write_text
from cellshed.settings import Fraction, Settings
from cellshed.spelling import nearest
from cellshed.studies.labelling import label_images

RECIPES = "models.yaml"
"""Name of the file that lists recipes, beside their settings."""


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
    """Of drawn images, and of the shares."""
    morphologies: tuple[str, ...] = tuple(MORPHOLOGIES)
    """Of drawn images; they are taken in turn. Named, so that more kinds change no model."""
    margin: Annotated[int, Field(ge=0)] = 0
    """Width in pixels of a frame where ground without a label is not annotated."""
    shares: tuple[float, float] = (0.0, 0.0)
    """Of a set without splits: shares of its images that become val and test."""
    cell_types: tuple[str, ...] = ()
    """Only these; all where none is named."""
    tuned_on: Annotated[int, Field(ge=0)] = 0
    """At most so many of its val images, evenly spread, decide on the decoder; 0: all."""
    use: Literal["all", "train", "test"] = "all"
    """train: neither choose nor score by it. test: score on its test images, or on all where it
    has no splits, and train on none of it."""
    pictures: bool = False
    """The licence allows to show its images in the card."""
    one_group: bool = False
    """Its cell types count as one for training.balance, and get less of the crops together."""
    least_sure: Fraction = 0.0
    """Above 0, its images have no labels: they get those that another model finds, if these are on
    average as sure as that; other images are left out."""
    doubt: bool = False
    """Ground of which that model isn't sure is not annotated, instead of background."""
    labelled_by: str = ""
    """Recipe of that model; empty: that of init."""


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
    teachers: tuple[str, ...] = ()
    """Recipes of models whose maps it learns beside the labels."""
    zooms: tuple[float, ...] = ()
    """Values of predict.zoom that tuning tries."""
    turns: Annotated[int, Field(ge=1, le=8)] = 1
    """Turned and mirrored copies of each val image that it is tuned on."""
    sets: dict[str, ImageSet]

    @model_validator(mode="after")
    def _someone_labels(self) -> Self:
        for name, settings in self.sets.items():
            if settings.least_sure and not self.labeller(settings):
                raise ValueError(
                    f"set '{name}' has least_sure: name the recipe that labels it in labelled_by"
                )
        return self

    def labeller(self, settings: ImageSet) -> str:
        """Return the recipe whose model labels a set of this one."""
        return settings.labelled_by or self.init

    def needs(self) -> list[str]:
        """Return the recipes whose models have to be there first."""
        labellers = [self.labeller(s) for s in self.sets.values() if s.least_sure]
        return [name for name in dict.fromkeys([self.init, *labellers, *self.teachers]) if name]


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


def stages(name: str, recipes: Path) -> dict[str, Recipe]:
    """Return a recipe after those that it starts from or learns of, by name."""
    recipe = read_recipe(recipes, name)
    before: dict[str, Recipe] = {}
    for other in recipe.needs():
        before |= stages(other, recipes)
    return before | {name: recipe}


def prepare_sets(
    recipe: Recipe, data: Path, work: Path, labeller: Callable[[str], Path] | None = None
) -> Iterator[Part]:
    """Yield the sets of a recipe; what is prepared already is taken as it is.

    Args:
        recipe: what to prepare.
        data: folder of the image sets.
        work: folder for the stores, and for images drawn or labelled on the way.
        labeller: makes the model of a recipe, which labels sets without labels; None: they are left
            out, unless they are prepared already.

    Raises:
        ValueError: a set was prepared by another recipe.
    """
    for name, settings in recipe.sets.items():
        folder = work / "stores" / name
        noted = work / "stores" / f"{name}.json"
        told = _what_prepares(name, settings)
        if not (folder / MANIFEST).is_file():
            label = None if labeller is None else partial(labeller, recipe.labeller(settings))
            source = _source(name, settings, data, work, label)
            if source is None:
                continue
            prepare(
                source,
                folder,
                splits=["train"] if settings.use == "train" else None,
                cell_types=settings.cell_types or None,
                val_share=settings.shares[0],
                test_share=settings.shares[1],
                margin=settings.margin,
                seed=settings.seed,
            )
            write_text(noted, json.dumps(told))
        elif not noted.is_file() or json.loads(noted.read_text("utf-8")) != told:
            raise ValueError(
                f"{folder}: not prepared as the recipe says now; remove it (and "
                f"{name} in {work}/drawn or {work}/labelled, if it is there) to have it made again"
            )
        yield Part(name, settings, _as_used(open_store(folder), settings))


def _what_prepares(name: str, settings: ImageSet) -> dict[str, Any]:
    """Return what a prepared set depends on."""
    told = settings.model_dump(
        mode="json", include={"synthetic", "shape", "seed", "shares", "cell_types", "least_sure"}
    )
    for name_of, value in settings.model_dump(include={"labelled_by", "margin", "doubt"}).items():
        if value:  # what came later leaves sets alone that were prepared before
            told[name_of] = value
    if settings.synthetic:
        told["morphologies"] = list(settings.morphologies)
    drawn = bool(settings.synthetic)
    use = settings.use if drawn or settings.use == "train" else "all"
    return told | {"folder": settings.folder or name, "use": use}


def _source(
    name: str, settings: ImageSet, data: Path, work: Path, labeller: Callable[[], Path] | None
) -> Path | None:
    """Return the folder that a set is prepared from, made if need be; None without a labeller."""
    folder = data / (settings.folder or name)
    if settings.synthetic:
        return _draw(work / "drawn" / name, settings)
    if not settings.least_sure:
        return folder
    labelled = work / "labelled" / name
    if labeller is not None and not labelled.exists():
        labelled.parent.mkdir(parents=True, exist_ok=True)
        least, doubt = settings.least_sure, settings.doubt
        label_images(labeller(), folder, labelled, least=least, doubt=doubt)
    return labelled if labelled.exists() else None


def _draw(folder: Path, settings: ImageSet) -> Path:
    if not folder.exists():
        n = settings.synthetic
        images = {"test": n} if settings.use == "test" else n
        write_synthetic(
            folder,
            images=images,
            seed=settings.seed,
            shape=settings.shape,
            morphologies=settings.morphologies,
        )
    return folder


def _as_used(store: Store, settings: ImageSet) -> Store:
    if settings.use == "test":
        store = _for_test(store)
    if settings.one_group:
        store = store.subset(replace(record, cell_type="") for record in store.records)
    return store


def _for_test(store: Store) -> Store:
    """Return the test images; all as such, of a store without splits."""
    whole = {record.split for record in store.records} == {"all"}
    tests = [r for r in store.records if whole or r.split == "test"]
    return store.subset(replace(record, split="test") for record in tests)
