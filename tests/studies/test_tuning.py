"""Tuning: it finds thresholds that are better, and never looks at the test split by accident."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cellshed.config import load_config
from cellshed.data.store import Store
from cellshed.model.folder import read_card
from cellshed.predict import load_model
from cellshed.rivals import View
from cellshed.settings import DecodeSettings, TargetsSettings
from cellshed.studies.tuning import CANDIDATES, TOGETHER, search, tune
from cellshed.studies.views import views_of
from cellshed.targets import encode_targets
from cellshed.training.loop import train
from cellshed.training.split import of_splits


def _discs() -> np.ndarray:
    rows, columns = np.mgrid[:96, :96]
    labels = np.zeros((96, 96), np.int32)
    for k, (y, x) in enumerate(((20, 20), (20, 60), (60, 24), (66, 70)), 1):
        labels[(rows - y) ** 2 + (columns - x) ** 2 < 10**2] = k
    return labels


def _view(labels: np.ndarray) -> View:
    targets = encode_targets(labels, ("inner_distance", "pixelwise"), TargetsSettings())
    return View({name: target.astype(np.float32) for name, target in targets.items()})


def test_it_recovers_from_thresholds_that_lose_all_cells() -> None:
    labels = _discs()
    start = DecodeSettings(maxima_threshold=5.0)
    tuned = search([[([_view(labels)], labels)]], start)
    assert tuned.before == 0.0
    assert tuned.after == 1.0
    assert tuned.decode.maxima_threshold < 1.0


def test_after_the_first_round_only_neighbours_of_the_best_are_tried() -> None:
    labels = _discs()
    start = DecodeSettings(small_objects_threshold=9000)  # mended late, so that a round follows
    tuned = search([[([_view(labels)], labels)]], start)
    assert (tuned.before, tuned.after) == (0.0, 1.0)
    pairs = len(CANDIDATES["edge_weight"]) * len(CANDIDATES["interior_threshold"])
    alone = sum(len(v) for name, v in CANDIDATES.items() if name not in TOGETHER)
    later = tuned.trials[1 + pairs + alone :]
    assert later
    assert {row["edge_weight"] for row in later} <= {0.0, 0.3, 0.45}


def test_it_keeps_settings_that_cannot_be_bettered() -> None:
    labels = _discs()
    tuned = search([[([_view(labels)], labels)]], DecodeSettings())
    assert tuned.before == tuned.after == 1.0
    assert tuned.decode == DecodeSettings()


def test_every_trial_is_told_and_the_grid_is_whole() -> None:
    labels = _discs()
    few = {"maxima_threshold": (0.1, 9.0), "interior_threshold": (0.3, 0.5, 2.0)}
    tuned = search([[([_view(labels)], labels)]], DecodeSettings(), candidates=few)
    assert len(tuned.grid) == 6
    worst = [row["f1"] for row in tuned.grid if row["maxima_threshold"] == 9.0]
    assert worst == [0.0, 0.0, 0.0]
    assert max(row["f1"] for row in tuned.trials) == tuned.after


def test_confidences_come_to_mean_the_share_that_is_right() -> None:
    truth = _discs()
    half = np.where(truth > 2, 0, truth)  # two of the four discs that the maps show are no cells
    few = {"maxima_threshold": (0.1,)}
    tuned = search([[([_view(truth)], half)]], DecodeSettings(), candidates=few)
    assert tuned.calibration is not None
    assert tuned.calibration.cells == 4
    assert tuned.calibration.error_before > 0.4
    assert tuned.calibration.error_after < 0.05


def test_views_of_another_scale_are_scored_at_the_size_of_the_truth() -> None:
    labels = _discs()
    double = labels.repeat(2, axis=0).repeat(2, axis=1)
    tuned = search([[([_view(double)], labels)]], DecodeSettings(), candidates={})
    assert tuned.after == 1.0
    assert tuned.calibration is not None
    assert tuned.calibration.cells == 4


def test_without_cells_nothing_is_calibrated() -> None:
    view = _view(np.zeros((32, 32), np.int32))
    tuned = search([[([view], np.zeros((32, 32), np.int32))]], DecodeSettings(), candidates={})
    assert tuned.calibration is None


def test_unknown_objectives_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'mean_ap'"):
        search([[([_view(_discs())], _discs())]], DecodeSettings(), objective="mean_app")


def test_the_test_split_is_refused(tiny_store: Store) -> None:
    with pytest.raises(ValueError, match="--force"):
        tune("anything", tiny_store, split="test")


def test_the_best_settings_travel_with_the_model(tiny_store: Store, tmp_path: Path) -> None:
    changes = ["training.epochs=1", "training.device=cpu", "decode.maxima_threshold=9"]
    best = train(load_config("debug", changes), tiny_store, tmp_path / "run")
    tuned = tune(best, tiny_store)
    assert read_card(best).decode == tuned.decode
    assert read_card(best).calibration == tuned.calibration
    assert tuned.after >= tuned.before
    lines = (best / "tuning.csv").read_text().splitlines()
    assert len(lines) == 1 + len(tuned.trials)
    assert all((best / f"tuning.{kind}").is_file() for kind in ("png", "svg"))
    shutil.rmtree(tmp_path / "run")


def test_sets_weigh_alike_however_many_images_they_have() -> None:
    labels = _discs()
    view = _view(labels)
    none = np.zeros_like(labels)  # where cells are to be found, and where none are
    few = {"maxima_threshold": (0.1, 9.0)}
    sets = [[([view], labels)], [([view], none), ([view], none), ([view], labels)]]
    tuned = search(sets, DecodeSettings(maxima_threshold=9.0), candidates=few)
    assert tuned.decode.maxima_threshold == 0.1
    assert tuned.after == pytest.approx((1.0 + 0.5) / 2)  # 4 right of 12 found: F1 0.5


@pytest.mark.slow
def test_the_best_zoom_travels_with_the_model(tiny_store: Store, tmp_path: Path) -> None:
    config = load_config("debug", ["training.epochs=1", "training.device=cpu"])
    model = train(config, [tiny_store], tmp_path / "run")
    segmenter, val = load_model(model), of_splits([tiny_store], "val")
    start = segmenter.card.decode
    alone = {
        zoom: search(views_of(segmenter.with_changes([f"predict.zoom={zoom}"]), val), start)
        for zoom in (1.0, 1.5)
    }
    tuned = tune(model, tiny_store, zooms=[1.5])
    assert tuned.before == alone[1.0].before
    assert tuned.after == max(one.after for one in alone.values())
    assert read_card(model).predict.zoom == max(alone, key=lambda zoom: alone[zoom].after)
