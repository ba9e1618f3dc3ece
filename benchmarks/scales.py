"""What several scales bring on labelled images, and what they cost.

`python benchmarks/scales.py MODEL STORE... --scales "[1, 0.75]" --scales "[[16, [1, 1.3]], [500,
[1, 0.75]]]" [--confidence 0.3] [--set decode.edge_weight=0.45]` shows the images of a split at all
of these scales once, finds cells at each combination of them, and prints for each the area that the
network saw (1: the image), the mean over stores of object F1 at IoU 0.5, and that of each store and
cell type. --scales is a predict.scales, or a predict.scales_by_size after a first look at the image
as it is. Use val.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import yaml
from numpy.typing import NDArray

from cellshed.cores import usable_cores
from cellshed.data.store import Store, open_store
from cellshed.metrics.overlap import overlap
from cellshed.metrics.scores import as_scores, count
from cellshed.predict import Segmenter, load_model
from cellshed.rivals import View, best_cells, certain_cells
from cellshed.scale import scales_for
from cellshed.settings import DecodeSettings, PredictSettings

Counts = NDArray[np.float64]
Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Trial:
    """A way to look at images."""

    words: str
    predict: PredictSettings
    decode: DecodeSettings

    def scales(self, first: View) -> tuple[float, ...]:
        """Return the scales of an image by its first view."""
        return scales_for(certain_cells(first, self.decode)[0], self.predict)


@dataclass(frozen=True)
class Scored:
    """One image's part of the scores, and the area that the network saw."""

    counts: Counts
    area: float


def score(model: Segmenter, store: Store, trials: list[Trial]) -> dict[Trial, list[Scored]]:
    """Return what there is to add up of each image, by trial."""
    scales = model.card.predict.scales
    found: dict[Trial, list[Scored]] = {trial: [] for trial in trials}
    with ThreadPoolExecutor(usable_cores()) as pool:
        for index in range(len(store)):
            truth = np.asarray(store.labels(index), np.int32)
            views = dict(zip(scales, model.views(np.asarray(store.image(index))), strict=True))
            scored = pool.map(partial(score_one, views, truth), trials)
            for trial, one in zip(trials, scored, strict=True):
                found[trial].append(one)
    return found


def score_one(views: Mapping[float, View], truth: Labels, trial: Trial) -> Scored:
    """Return what there is to add up of one image."""
    first = trial.predict.scales[0]
    scales = trial.scales(views[first])
    found, _ = best_cells([views[scale] for scale in scales], trial.decode, truth.shape)
    seen = {*scales, first} if trial.predict.scales_by_size else scales
    return Scored(count(overlap(truth, found)), sum(scale**2 for scale in seen))


def by_type(store: Store, scored: list[Scored]) -> dict[str, float]:
    """Return object F1 at IoU 0.5 of all images and of each cell type."""
    groups: dict[str, list[Counts]] = defaultdict(list)
    for record, one in zip(store.records, scored, strict=True):
        for group in dict.fromkeys(("", record.cell_type)):
            groups[group].append(one.counts)
    return {
        group: float(as_scores(np.sum(of, axis=0))["thresholds"]["0.50"]["f1"])
        for group, of in groups.items()
    }


def parse() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("stores", nargs="+")
    parser.add_argument("--scales", action="append", required=True, help='such as "[1, 0.8]"')
    parser.add_argument("--confidence", action="append", type=float, help="default: the model's")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--split", default="val")
    parser.add_argument("--precision", default="auto")
    return parser.parse_args()


def predict_settings(text: str) -> PredictSettings:
    """Return the settings that a list of scales, or of diameters and scales, stands for."""
    given = yaml.safe_load(text)
    if not isinstance(given, list):
        raise SystemExit(f'--scales {text}: give a list, such as "[1, 0.8]"')
    by_size = isinstance(given[0], list)
    return PredictSettings(**{"scales_by_size" if by_size else "scales": given})


def scales_of(settings: PredictSettings) -> set[float]:
    """Return all scales that images may be seen at."""
    return {*settings.scales, *chain.from_iterable(own for _, own in settings.scales_by_size)}


def main() -> None:
    """Print the table."""
    asked = parse()
    ways = {text: predict_settings(text) for text in asked.scales}
    every = sorted(set().union(*map(scales_of, ways.values())))
    model = load_model(asked.model, precision=asked.precision)
    model = model.with_changes([*asked.changes, f"predict.scales={every}"])
    decode = model.card.decode
    trials = [
        Trial(
            f"{text}  confidence {threshold:g}",
            settings,
            decode.model_copy(update={"confidence_threshold": threshold}),
        )
        for text, settings in ways.items()
        for threshold in asked.confidence or [decode.confidence_threshold]
    ]
    stores = {path: open_store(path).select(asked.split) for path in asked.stores}
    found = {path: score(model, store, trials) for path, store in stores.items()}
    for trial in trials:
        scores = {path: by_type(store, found[path][trial]) for path, store in stores.items()}
        mean = np.mean([groups[""] for groups in scores.values()])
        area = np.mean([one.area for of_store in found.values() for one in of_store[trial]])
        print(
            trial.words,
            f"area {area:.2f}  mean {mean:.4f}",
            *(
                f"{group or path.rstrip('/').rpartition('/')[2]} {f1:.3f}"
                for path, groups in scores.items()
                for group, f1 in groups.items()
            ),
            sep="  ",
        )


if __name__ == "__main__":
    main()
