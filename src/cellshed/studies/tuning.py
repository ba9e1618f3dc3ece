"""The decoder's thresholds and what confidences mean, from the maps of the validation images.

The network runs once per image; then settings are tried on its maps alone. The search goes along
one setting at a time (two that only help together in pairs), first over all candidates, then over
those near the best, again and again until none helps any more. It ends with a grid of the two
thresholds that matter most, from which the sensitivity can be seen. Image sets weigh alike, however
many images each has, so that a large one doesn't settle what suits the others. The confidences of
the cells that the chosen settings find are then calibrated.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.config import with_overrides
from cellshed.cores import usable_cores
from cellshed.data.store import Store, open_store
from cellshed.files import whole_file
from cellshed.metrics.calibration import fit_calibration, hits
from cellshed.metrics.known import judged, still_there
from cellshed.metrics.overlap import overlap
from cellshed.metrics.scores import as_scores, count
from cellshed.model.folder import find_model, is_shipped, read_card, write_card
from cellshed.predict import Segmenter, load_model
from cellshed.progress import Progress
from cellshed.report.drawing import save
from cellshed.report.study_figures import heat_map
from cellshed.rivals import best_cells
from cellshed.settings import CalibrationSettings, DecodeSettings
from cellshed.spelling import nearest
from cellshed.studies.views import Image, views_of
from cellshed.training.split import of_splits

CANDIDATES: dict[str, tuple[float, ...]] = {
    "maxima_threshold": (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28),
    "edge_weight": (0.0, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0),
    "interior_threshold": (0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95),
    "maxima_smooth": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0),
    "interior_smooth": (0.0, 0.5, 1.0, 1.5, 2.0),
    "pixel_expansion": (0, 1),
    "small_objects_threshold": (15, 30, 45, 60, 80, 100),
    "fill_holes_threshold": (15, 100, 1000),
    "confidence_threshold": (0.0, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45),
}
"""What is tried for each setting, in this order."""
TOGETHER = ("edge_weight", "interior_threshold")
"""More edge lifts the interior, so that its threshold has to follow."""
REACH = 2
"""From the second round on, candidates so many places away from the best are tried."""
GRID = ("maxima_threshold", "interior_threshold")
OBJECTIVES = ("f1", "mean_ap")


@dataclass(frozen=True)
class Tuned:
    """What tuning has found."""

    before: float
    after: float
    decode: DecodeSettings
    objective: str
    trials: list[dict[str, Any]]
    """Every setting tried and its score."""
    grid: list[dict[str, Any]]
    """Score for each pair of the two thresholds, all else as in `decode`."""
    calibration: CalibrationSettings | None = None
    """What confidences mean under `decode`; None if no cells are found."""


class _Trials:
    """Scores of settings on cached maps; each setting is tried once."""

    def __init__(
        self, sets: Sequence[Sequence[Image]], objective: str, progress: Progress | None
    ) -> None:
        if objective not in OBJECTIVES:
            raise ValueError(f"unknown objective '{objective}'; {nearest(objective, OBJECTIVES)}")
        if not sets or not all(sets):
            raise ValueError("no images to tune on")
        self.sets = sets
        self.objective = objective
        self.progress = progress
        self.expected = 0
        self.scores: dict[DecodeSettings, float] = {}
        self._pool = ThreadPoolExecutor(usable_cores())

    def __call__(self, settings: DecodeSettings) -> float:
        if settings not in self.scores:
            images = chain.from_iterable(self.sets)
            counts = self._pool.map(lambda image: self._count(image, settings), images)
            by_set = [list(islice(counts, len(images))) for images in self.sets]
            self.scores[settings] = float(np.mean([self._score(own) for own in by_set]))
            if self.progress is not None:
                self.expected = max(self.expected, len(self.scores))
                self.progress(len(self.scores), self.expected)
        return self.scores[settings]

    def _score(self, counts: Sequence[NDArray[Any]]) -> float:
        """Return the objective, pooled over a set's images."""
        scores = as_scores(np.sum(counts, axis=0))
        f1 = float(scores["thresholds"]["0.50"]["f1"])
        return f1 if self.objective == "f1" else float(scores["mean_ap"])

    @staticmethod
    def _count(image: Image, settings: DecodeSettings) -> NDArray[Any]:
        views, labels = image
        return count(overlap(labels, best_cells(views, settings, labels.shape)[0]))


def search(
    sets: Sequence[Sequence[Image]],
    start: DecodeSettings,
    *,
    objective: str = "f1",
    candidates: Mapping[str, Iterable[float]] = CANDIDATES,
    progress: Progress | None = None,
) -> Tuned:
    """Search decode settings that score best on maps with known labels.

    Args:
        sets: of images, each a pair of views (head name -> (h, w, C)) and true labels (H, W);
            found labels are brought to the size of the true ones.
        start: settings to begin with.
        objective: f1 (object F1 at IoU 0.5) or mean_ap, pooled over a set's images; of several
            sets the mean counts.
        candidates: values to try, by the name of the setting.
        progress: called with (settings tried, settings in all; an estimate that can grow).

    Raises:
        ValueError: unknown objective, or a set without images.
    """
    trials = _Trials(sets, objective, progress)
    return _tuned(trials, trials(start), _climb(trials, start, candidates), candidates)


def _climb(
    trials: _Trials, start: DecodeSettings, candidates: Mapping[str, Iterable[float]]
) -> DecodeSettings:
    """Return the settings that no step of at most REACH places betters."""
    steps = list(chain.from_iterable(_steps(candidates)))
    trials.expected = 2 * len(steps)
    best, improved = start, True
    while improved:
        improved = False
        for change in steps:
            rival = with_overrides(best, change, "decode")
            if trials(rival) > trials(best):
                best, improved = rival, True
        steps = list(chain.from_iterable(_steps(_near(best, candidates))))
    return best


def _near(
    best: DecodeSettings, candidates: Mapping[str, Iterable[float]]
) -> dict[str, tuple[float, ...]]:
    """Return the candidates, in order of size, that are within REACH places of the best's."""
    near = {}
    for name, values in candidates.items():
        ordered = sorted(values)
        place = int(np.argmin(np.abs(np.array(ordered) - getattr(best, name))))
        near[name] = tuple(ordered[max(0, place - REACH) : place + REACH + 1])
    return near


def _tuned(
    trials: _Trials,
    before: float,
    best: DecodeSettings,
    candidates: Mapping[str, Iterable[float]],
) -> Tuned:
    """Look around the best settings, and fit what confidences mean under them."""
    grid = _grid(trials, best, candidates)
    rows = [s.model_dump() | {trials.objective: score} for s, score in trials.scores.items()]
    meaning = calibration(list(chain.from_iterable(trials.sets)), best)
    if trials.progress is not None:
        trials.progress(len(trials.scores), len(trials.scores))
    return Tuned(before, trials(best), best, trials.objective, rows, grid, meaning)


def calibration(images: Sequence[Image], settings: DecodeSettings) -> CalibrationSettings | None:
    """Fit what confidences mean on maps with known labels; None if no cells are found in them."""
    raw, right = [], []
    for views, truth in images:
        found, sure = best_cells(views, settings, truth.shape)
        raw.append(sure[still_there(found, judged(truth, found)[1])])
        right.append(hits(truth, found))
    if not sum(map(len, raw)):
        return None
    return fit_calibration(np.concatenate(raw), np.concatenate(right))


def tune(  # noqa: PLR0913  each is one option of the command line
    model: str | Path,
    data: str | Path | Store | Sequence[str | Path | Store],
    *,
    split: str = "val",
    objective: str = "f1",
    zooms: Sequence[float] = (),
    turns: int = 1,
    force: bool = False,
    progress: Progress | None = None,
) -> Tuned:
    """Tune a model's decoder and confidences on validation images; write them into its folder.

    Beside the model: tuning.csv, every setting tried and its score, and tuning.png and .svg, the
    score over the two thresholds that matter most, all else as in the best.

    Args:
        model: model folder or run folder; its model.yaml is rewritten.
        data: stores with the validation images; they weigh alike.
        split: part of the stores to tune on.
        objective: f1 or mean_ap.
        zooms: values of predict.zoom to try besides the model's own, each with a search.
        turns: in how many of its eight turned and mirrored copies each image is tuned on, see
            `views_of`: few images then decide less by chance, for that many times the time and
            memory.
        force: allow the split "test", whose scores then say nothing about new images.
        progress: called with (settings tried, settings in all).

    Raises:
        ValueError: the split is "test" and not forced, the stores have no such images, or the
            model is one of the package's own.
    """
    if split == "test" and not force:
        raise ValueError(
            "tuning on the split 'test' would make its scores worthless: use val, "
            "or --force if that is what you want"
        )
    folder = find_model(model)
    if is_shipped(folder):
        raise ValueError(
            f"model '{model}' ships with cellshed and isn't rewritten: train from it with "
            f"cellshed train finetune --init {model}, or tune a copy of {folder}"
        )
    listed = [data] if isinstance(data, str | Path | Store) else list(data)
    parts = of_splits([d if isinstance(d, Store) else open_store(d) for d in listed], split)
    if not parts:
        raise ValueError(
            f"no images of split '{split}' in the stores: keep some apart that aren't trained on, "
            "with cellshed prepare --val-share"
        )
    segmenter = load_model(folder)
    start = segmenter.card.decode
    trials = _Trials(views_of(segmenter, parts, turns), objective, progress)
    before, best = trials(start), _climb(trials, start, CANDIDATES)
    for zoom in sorted(set(zooms) - {segmenter.card.predict.zoom}):
        other = segmenter.with_changes([f"predict.zoom={zoom}"])
        rivals = _Trials(views_of(other, parts, turns), objective, progress)
        rival = _climb(rivals, start, CANDIDATES)
        if rivals(rival) > trials(best):  # the maps of the other zoom can go
            segmenter, trials, best = other, rivals, rival
    tuned = _tuned(trials, before, best, CANDIDATES)
    _keep(folder, segmenter, tuned)
    return tuned


def _keep(folder: Path, segmenter: Segmenter, tuned: Tuned) -> None:
    """Write what tuning has found into the model's folder."""
    card = read_card(folder)
    scores = card.scores | {f"val_{tuned.objective}_tuned": round(tuned.after, 4)}
    found = {
        "decode": tuned.decode,
        "calibration": tuned.calibration,
        "predict": segmenter.card.predict,
        "scores": scores,
    }
    write_card(folder, card.model_copy(update=found))
    write_tuning(folder, tuned)


def write_tuning(folder: str | Path, tuned: Tuned) -> None:
    """Write tuning.csv, tuning.png and tuning.svg into a folder."""
    folder = Path(folder)
    with (
        whole_file(folder / "tuning.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, list(tuned.trials[0]))
        table.writeheader()
        table.writerows(tuned.trials)
    if not tuned.grid:
        return
    scores = {tuple(row[name] for name in GRID): row[tuned.objective] for row in tuned.grid}
    rows, columns = (sorted({key[k] for key in scores}) for k in range(2))
    word = "object F1 at IoU 0.5" if tuned.objective == "f1" else "mean AP, IoU 0.5 to 0.95"
    figure = heat_map(
        [f"{row:g}" for row in rows],
        [f"{column:g}" for column in columns],
        [[scores[row, column] for column in columns] for row in rows],
        f"{word} on the images tuned on",
        (GRID[0].replace("_", " "), GRID[1].replace("_", " ")),
    )
    for kind in ("png", "svg"):
        save(figure, folder / f"tuning.{kind}")


def _steps(candidates: Mapping[str, Iterable[float]]) -> list[list[dict[str, float]]]:
    """Return the changes that are tried, one list for each setting or pair of settings."""
    pair = all(name in candidates for name in TOGETHER)
    steps = [
        [{name: value} for value in values]
        for name, values in candidates.items()
        if not (pair and name in TOGETHER)
    ]
    if pair:
        values = product(*(candidates[name] for name in TOGETHER))
        steps.insert(1, [dict(zip(TOGETHER, both, strict=True)) for both in values])
    return steps


def _grid(
    trials: _Trials, best: DecodeSettings, candidates: Mapping[str, Iterable[float]]
) -> list[dict[str, Any]]:
    rows, columns = (tuple(candidates.get(name, ())) for name in GRID)
    rivals = [
        with_overrides(best, dict(zip(GRID, (row, column), strict=True)), "decode")
        for row in rows
        for column in columns
    ]
    return [
        {name: getattr(rival, name) for name in GRID} | {trials.objective: trials(rival)}
        for rival in rivals
    ]
