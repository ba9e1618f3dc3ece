"""Packing: a recipe becomes a model folder with its card; a run by other settings is refused."""

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from safetensors import safe_open

from cellshed.config import load_config, to_yaml
from cellshed.data.images import write_labels
from cellshed.data.store import open_store
from cellshed.data.synthetic import synthetic_field
from cellshed.model.folder import CARD, WEIGHTS, find_model, read_card
from cellshed.predict import load_model
from cellshed.studies import packing
from cellshed.studies.packing import make_model
from cellshed.studies.recipes import ImageSet, prepare_sets, read_recipe, stages
from cellshed.training.run import read_environment

RECIPE = {
    "tiny": {
        "summary": "Drawn cells.",
        "licence": "BSD-3-Clause",
        "settings": "tiny.yaml",
        "limits": "Too small to segment anything.",
        "sets": {
            "livecell": {"licence": "none needed"},
            "shown": {
                "licence": "BSD-3-Clause",
                "synthetic": 3,
                "shape": [96, 96],
                "use": "test",
                "pictures": True,
            },
        },
    }
}


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "models.yaml").write_text(yaml.safe_dump(RECIPE))
    config = load_config("debug", ["training.epochs=1", "training.device=cpu"])
    (folder / "tiny.yaml").write_text(to_yaml(config))
    return folder


def test_a_recipe_becomes_a_model_with_its_card(
    recipes: Path, tiny_livecell: Path, tmp_path: Path
) -> None:
    work, out = tmp_path / "work", tmp_path / "models"
    told: list[str] = []
    bars: list[str] = []
    steps: list[tuple[int, int]] = []

    def bar(step: str) -> nullcontext[Callable[[int, int], None]]:
        bars.append(step)
        return nullcontext(lambda done, total: steps.append((done, total)))

    display = packing.Display(say=told.append, bar=bar)
    made = make_model("tiny", recipes, tiny_livecell.parent, work, out, display=display)
    assert made == out / "tiny"
    assert told[:2] == ["preparing the image sets", f"training into {work / 'runs' / 'tiny'}"]
    assert bars[:3] == ["tuning", "scoring", "scoring"]
    assert bars[3:5] == ["livecell, 0.5 times", "livecell, 0.5 times, told"]
    assert all(0 < done <= total for done, total in steps)
    card = read_card(made)
    assert (card.name, card.summary, card.licence) == ("tiny", "Drawn cells.", "BSD-3-Clause")
    assert set(card.scores["test"]) == {"livecell", "shown"}
    assert card.recipe["settings"] == ["tiny.yaml"]
    assert card.recipe["commit"] == read_environment(work / "runs" / "tiny")["commit"]
    assert card.recipe["sets"]["shown"]["train"] == {"images": 0, "cells": 0}
    assert card.recipe["sets"]["shown"]["test"]["images"] == 3
    with safe_open(made / WEIGHTS, "numpy") as file:
        assert file.metadata()["settings_sha256"] == card.recipe["settings_sha256"]
    assert [row["scale"] for row in card.scores["sizes"]["livecell"]] == [0.5, 0.75, 1.5, 2]
    text = (made / "card.md").read_text()
    for words in (
        "Drawn cells.",
        "| **livecell** |",
        "Too small to segment",
        "shown to it at scale 1.",
        "| livecell, told |",
        "reliability.svg",
    ):
        assert words in text
    pictures = [path.name for path in made.glob("*.png")]
    assert pictures
    assert all(name.startswith("shown-") and name in text for name in pictures)
    load_model(made)

    again = make_model("tiny", recipes, tiny_livecell.parent, work, out, run=work / "runs" / "tiny")
    assert (again / CARD).read_text() == yaml.safe_dump(
        yaml.safe_load((made / CARD).read_text()), sort_keys=False
    )
    (recipes / "tiny.yaml").write_text(to_yaml(load_config("debug", ["training.lr=1"])))
    with pytest.raises(ValueError, match=r"training\.lr|training\.epochs"):
        make_model("tiny", recipes, tiny_livecell.parent, work, out, run=work / "runs" / "tiny")


def _write_ten(folder: Path) -> None:
    """Write a set of ten images with one cell each, without splits."""
    labels = np.zeros((96, 96), np.int32)
    labels[4:20, 4:20] = 1
    for k in range(10):
        write_labels(folder / "images" / f"{k}.tif", labels + k)
        write_labels(folder / "labels" / f"{k}.tif", labels)


@pytest.mark.slow
def test_a_model_may_start_from_another(recipes: Path, tiny_livecell: Path, tmp_path: Path) -> None:
    tree = RECIPE["tiny"] | {"init": "tiny", "teachers": ["tiny"], "settings": "second.yaml"}
    drawn = {"licence": "BSD-3-Clause", "synthetic": 8, "shape": [96, 96], "use": "train"}
    tree |= {"sets": RECIPE["tiny"]["sets"] | {"drawn": drawn | {"cell_types": ["SynRound"]}}}  # type: ignore[operator]
    (recipes / "models.yaml").write_text(yaml.safe_dump(RECIPE | {"second": tree}))
    (recipes / "second.yaml").write_text((recipes / "tiny.yaml").read_text())
    work = tmp_path / "work"
    made = make_model("second", recipes, tiny_livecell.parent, work, tmp_path / "models")
    card = read_card(made)
    assert card.recipe["settings"] == ["tiny.yaml", "second.yaml"]
    assert [told["name"] for told in card.data["teachers"]] == ["tiny"]
    assert set(card.scores["test"]) == {"livecell", "shown"}
    assert {r.split for r in open_store(work / "stores" / "drawn").records} == {"train"}
    first = (work / "runs" / "second" / "history.csv").read_text().splitlines()[1]
    assert first.startswith("0,0")  # the initial model is the first candidate


def test_a_set_without_splits_is_parted_by_shares(
    recipes: Path, tiny_livecell: Path, tmp_path: Path
) -> None:
    _write_ten(tmp_path / "data" / "set")
    for name, options, wanted in (
        ("dealt", {"shares": [0.2, 0.3]}, {"train": 5, "val": 2, "test": 3}),
        ("tests", {"use": "test"}, {"test": 10}),
    ):
        image_set = ImageSet.model_validate({"licence": "none", "folder": "set"} | options)
        recipe = read_recipe(recipes, "tiny").model_copy(update={"sets": {name: image_set}})
        (part,) = prepare_sets(recipe, tmp_path / "data", tmp_path / "work")
        assert Counter(record.split for record in part.store.records) == wanted

    other = recipe.model_copy(update={"sets": {"dealt": image_set}})
    with pytest.raises(ValueError, match=r"dealt: not prepared as the recipe says now; remove it"):
        list(prepare_sets(other, tmp_path / "data", tmp_path / "work"))


@pytest.mark.parametrize(("tuned_on", "chosen"), [(0, 6), (3, 3), (9, 6)])
def test_a_set_lends_at_most_some_val_images_to_tuning(
    tuned_on: int, chosen: int, recipes: Path, tmp_path: Path
) -> None:
    _write_ten(tmp_path / "data" / "set")
    image_set = ImageSet(licence="none", folder="set", shares=(0.6, 0), tuned_on=tuned_on)
    recipe = read_recipe(recipes, "tiny").model_copy(update={"sets": {"set": image_set}})
    (part,) = prepare_sets(recipe, tmp_path / "data", tmp_path / "work")
    found = packing._tuned_on(part).records
    val = [record for record in part.store.records if record.split == "val"]
    assert len(found) == chosen
    assert set(found) <= set(val)
    assert {found[0], found[-1]} == {val[0], val[-1]}


def test_a_set_without_labels_gets_those_of_the_teacher(recipes: Path, tmp_path: Path) -> None:
    """Images that the teacher isn't sure of stay out; it is asked once."""
    images = tmp_path / "data" / "bare"
    images.mkdir(parents=True)
    for k in range(2):
        tifffile.imwrite(images / f"cells{k}.tif", synthetic_field(k, "round", (128, 128))[0])
    tifffile.imwrite(images / "empty.tif", np.full((96, 96), 128, np.uint8))
    asked = []

    def teacher(name: str) -> Path:
        asked.append(name)
        return find_model("phase")

    bare = ImageSet(licence="none", use="train", least_sure=0.3, labelled_by="other")
    recipe = read_recipe(recipes, "tiny").model_copy(update={"sets": {"bare": bare}})
    assert list(prepare_sets(recipe, tmp_path / "data", tmp_path / "work")) == []
    for _ in range(2):
        (part,) = prepare_sets(recipe, tmp_path / "data", tmp_path / "work", teacher)
        assert [(r.name, r.split) for r in part.store.records] == [
            ("cells0", "train"),
            ("cells1", "train"),
        ]
    assert asked == ["other"]
    assert all(record.n_cells > 3 for record in part.store.records)

    sure = recipe.model_copy(update={"sets": {"bare": bare.model_copy(update={"least_sure": 1.0})}})
    with pytest.raises(ValueError, match=r"ask for less"):
        list(prepare_sets(sure, tmp_path / "data", tmp_path / "other", teacher))


def test_a_set_says_what_of_it_is_not_annotated(recipes: Path, tmp_path: Path) -> None:
    labels = np.zeros((60, 60), np.uint8)
    labels[20:30, 20:30] = 1
    for kind, array in (("images", labels * 100), ("labels", labels)):
        (tmp_path / "set" / kind).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "set" / kind / "a.tif", array)
    framed = ImageSet(licence="none", margin=10)
    recipe = read_recipe(recipes, "tiny").model_copy(update={"sets": {"set": framed}})
    (part,) = prepare_sets(recipe, tmp_path, tmp_path / "work")
    found = part.store.labels(0)
    assert (found[10:-10, 10:-10] >= 0).all()
    assert (found < 0).sum() == 60 * 60 - 40 * 40
    whole = {"set": framed.model_copy(update={"margin": 0})}
    with pytest.raises(ValueError, match="remove it"):
        list(prepare_sets(recipe.model_copy(update={"sets": whole}), tmp_path, tmp_path / "work"))


def test_labels_have_to_come_from_a_model(recipes: Path) -> None:
    tree = RECIPE["tiny"] | {"sets": {"bare": {"licence": "none", "least_sure": 0.5}}}
    (recipes / "models.yaml").write_text(yaml.safe_dump({"tiny": tree}))
    with pytest.raises(
        ValueError, match="'bare' has least_sure: name the recipe that labels it in"
    ):
        read_recipe(recipes, "tiny")


def test_what_a_recipe_builds_on_is_made_first_and_once(recipes: Path) -> None:
    bare = {"licence": "none", "use": "train", "least_sure": 0.5}
    tiny = RECIPE["tiny"]
    tree = {
        "tiny": tiny,
        "teacher": tiny | {"init": "tiny"},
        "start": tiny,
        "last": tiny | {"init": "start", "sets": {"bare": bare | {"labelled_by": "teacher"}}},
        "own": tiny | {"init": "teacher", "sets": {"bare": bare}},
        "pupil": tiny | {"init": "start", "teachers": ["teacher", "start"]},
    }
    (recipes / "models.yaml").write_text(yaml.safe_dump(tree))
    assert list(stages("last", recipes)) == ["start", "tiny", "teacher", "last"]
    assert list(stages("own", recipes)) == ["tiny", "teacher", "own"]
    assert list(stages("pupil", recipes)) == ["start", "tiny", "teacher", "pupil"]


def test_one_group_hides_the_cell_types_of_a_set(recipes: Path, tmp_path: Path) -> None:
    drawn = ImageSet(licence="none", synthetic=8, shape=(96, 96), use="train")
    sets = {"each": drawn, "one": drawn.model_copy(update={"one_group": True})}
    recipe = read_recipe(recipes, "tiny").model_copy(update={"sets": sets})
    each, one = prepare_sets(recipe, tmp_path, tmp_path / "work")
    assert len({record.cell_type for record in each.store.records}) > 1
    assert {record.cell_type for record in one.store.records} == {""}
    assert len(one.store) == len(each.store)


def test_a_drawn_set_has_the_morphologies_it_names(recipes: Path, tmp_path: Path) -> None:
    named = ImageSet(
        licence="none", synthetic=6, shape=(96, 96), use="train", morphologies=("round", "spread")
    )
    recipe = read_recipe(recipes, "tiny").model_copy(update={"sets": {"drawn": named}})
    (part,) = prepare_sets(recipe, tmp_path, tmp_path / "work")
    assert {record.cell_type for record in part.store.records} == {"SynRound", "SynSpread"}
    other = recipe.sets["drawn"].model_copy(update={"morphologies": ("round",)})
    changed = recipe.model_copy(update={"sets": {"drawn": other}})
    with pytest.raises(ValueError, match="remove it"):
        list(prepare_sets(changed, tmp_path, tmp_path / "work"))


def test_unknown_recipes_offer_the_nearest(recipes: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'tiny'"):
        read_recipe(recipes, "tinyy")
    with pytest.raises(ValueError, match=r"models\.yaml"):
        read_recipe(tmp_path, "tiny")


def test_the_recipes_of_the_repository_are_whole() -> None:
    folder = Path(__file__).parents[2] / "recipes"
    for name in ("phase", "open"):
        recipe = read_recipe(folder, name)
        assert load_config(folder / recipe.settings).licence
        assert any(settings.pictures for settings in recipe.sets.values())
        free = ("BSD", "MIT", "CC0")
        shown = [s for s in recipe.sets.values() if s.pictures]
        assert all(s.licence.startswith(free) for s in shown)
        learned = [s for s in recipe.sets.values() if s.use != "test"]
        assert name != "open" or all(s.licence.startswith(free) for s in learned)
