"""What each study consists of, and which images its runs see."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cellshed.config import load_config
from cellshed.data.store import Record, Store
from cellshed.metrics.scores import score
from cellshed.settings import DecodeSettings, TargetsSettings
from cellshed.studies.paper import BACKBONES, COMBINATIONS, LEVELS, STUDIES
from cellshed.studies.plan import LEAST, Context, Part, Run, choose, run_from_tree
from cellshed.targets import encode_targets
from cellshed.training.split import of_splits
from cellshed.watershed import decode


def _store(sizes: dict[tuple[str, str], int], well: str = "") -> Store:
    records = [
        Record(f"{split}{kind}{k:03}", split, kind, 64, 64, 1, 10, well=well and f"{well}{k // 4}")
        for (split, kind), count in sizes.items()
        for k in range(count)
    ]
    return Store(Path("nowhere"), {"hash": "0"}, tuple(records))


def _two_types() -> Store:
    sizes = {(s, t): n for s, n in (("train", 200), ("val", 40), ("test", 60)) for t in "ab"}
    return _store(sizes)


def _runs(name: str, preset: str = "reference", **changes: object) -> list[Run]:
    study = STUDIES[name]
    context = Context((_two_types(),), load_config(preset), study.seeds, study.fraction, ("a", "b"))
    return list(study.plan(replace(context, **changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", STUDIES)
def test_every_run_has_a_name_of_its_own_and_valid_settings(name: str) -> None:
    base = load_config("reference")
    runs = _runs(name)
    assert len({run.name for run in runs}) == len(runs)
    assert runs[-1].config(base).training.seed == runs[-1].seed
    for run in runs:
        assert run_from_tree(run.as_tree()) == run
        assert STUDIES[name].factor in run.factors
        assert "/" not in run.name


def test_transforms_are_the_papers() -> None:
    runs = _runs("transforms")
    base = load_config("reference")
    assert len(runs) == 5 * len(COMBINATIONS)
    configs = [run.config(base) for run in runs if run.seed == 4]
    assert [config.model.heads for config in configs] == list(COMBINATIONS)
    assert {config.model.backbone for config in configs} == {"resnet50"}
    assert {config.training.epochs for config in configs} == {50}
    assert {run.train.fraction for run in runs} == {0.05}
    # what is compared has seen the same images
    assert all(run.train == run.test == Part(0.05, seed=run.seed) for run in runs)


def test_a_model_for_each_cell_type_is_tested_on_all() -> None:
    runs = _runs("cell-types")
    assert [run.train.cell_types for run in runs] == [("a",), ("b",)]
    assert all(run.test.cell_types == () and run.test.fraction == 0.5 for run in runs)
    parts = choose([_two_types()], runs[0])
    assert {r.cell_type for s in of_splits(parts, "train", "val") for r in s.records} == {"a"}
    assert {r.cell_type for s in of_splits(parts, "test") for r in s.records} == {"a", "b"}


def test_backbones_start_alike_unless_from_the_hub() -> None:
    assert set(BACKBONES) >= {"resnet50", "densenet201", "efficientnet_b7"}
    package = load_config("cpu")
    starts = {r.config(package).model.pretrained for r in _runs("backbones", "cpu")}
    assert starts == {"none"}
    hub = {r.group: r.config(load_config("reference")).model for r in _runs("backbones")}
    assert hub["resnet50"].pretrained == "hub"
    assert hub["featurenet"].pretrained == "none"


def test_sizes_are_livecells_and_take_as_many_steps() -> None:
    runs = [run for run in _runs("dataset-size") if run.seed == 0]
    counts = [len(of_splits(choose([_two_types()], run), "train")[0]) for run in runs]
    assert counts == [8, 16, 20, 100, 200, 400]
    base = load_config("reference")
    assert {run.changes for run in runs} == {("training.steps_per_epoch=200",)}
    assert runs[0].config(base).training.steps_per_epoch == 200
    assert len({run.test for run in runs}) == 1
    with_steps = _runs("dataset-size", "cpu")[0].config(load_config("cpu"))
    assert with_steps.training.steps_per_epoch == load_config("cpu").training.steps_per_epoch


def test_levels_name_the_finest_stride() -> None:
    found = {run.group: run.factors["finest_stride"] for run in _runs("levels")}
    assert len(found) == len(LEVELS)
    assert found["C3-C5 P3-P7 finest"] == 8
    assert found["C2-C5 P2-P5 sum"] == 4


@pytest.mark.parametrize("heads", COMBINATIONS)
def test_every_combination_of_heads_decodes(heads: tuple[str, ...]) -> None:
    rows, columns = np.mgrid[:96, :96]
    labels = np.zeros((96, 96), np.int32)
    for k, (y, x) in enumerate(((20, 20), (20, 60), (60, 24), (66, 70)), 1):
        labels[(rows - y) ** 2 + (columns - x) ** 2 < 10**2] = k
    targets = encode_targets(labels, heads, TargetsSettings())
    maps = {name: target.astype(np.float32) for name, target in targets.items()}
    scores = score(labels, decode(maps, DecodeSettings()))
    assert scores["thresholds"]["0.50"]["f1"] == 1


def test_a_share_is_spread_over_cell_types_and_drawn_by_the_seed() -> None:
    store = _store({("train", "a"): 300, ("train", "b"): 100, ("test", "a"): 30})
    drawn = []
    for seed in (0, 0, 1):
        part = Part(0.1, seed=seed)
        run = Run("x", "x", seed, {}, train=part, val=part, test=part)
        records = of_splits(choose([store], run), "train")[0].records
        assert sum(r.cell_type == "a" for r in records) == 30
        assert sum(r.cell_type == "b" for r in records) == 10
        drawn.append([r.name for r in records])
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_small_split_is_not_cut_to_nothing() -> None:
    store = _store({("train", "a"): 100, ("test", "a"): 10})
    part = Part(0.05)
    parts = choose([store], Run("x", "x", 0, {}, train=part, val=part, test=part))
    assert [len(of_splits(parts, split)[0]) for split in ("train", "test")] == [LEAST, 10]


def test_images_without_splits_are_split_by_the_seed_and_wells_stay_whole() -> None:
    store = _store({("all", "a"): 100}, well="W")
    splits = []
    for seed in (0, 1):
        parts = choose([store], Run("x", "x", seed, {}))
        of = {r.name: r.split for r in parts[0].records}
        wells: dict[str, set[str]] = {}
        for record in parts[0].records:
            wells.setdefault(record.well, set()).add(record.split)
        assert all(len(found) == 1 for found in wells.values())
        counts = [list(of.values()).count(split) for split in ("train", "val", "test")]
        assert counts == pytest.approx([70, 10, 20], abs=4)
        splits.append(of)
    assert splits[0] != splits[1]


def test_a_type_that_cannot_be_trained_on_is_named() -> None:
    run = Run("x", "x", 0, {}, train=Part(cell_types=("c",)))
    with pytest.raises(ValueError, match="split 'train' of c"):
        choose([_two_types()], run)
