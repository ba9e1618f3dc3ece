"""What several scales bring on labelled images, and what they cost.

`python benchmarks/scales.py MODEL STORE... --scales 1 --scales 1,0.8 [--confidence 0.3] [--set
decode.edge_weight=0.45]` shows the images of a split at all of these scales once, finds cells at
each combination of them, and prints for each the area that the network saw (1: the image), the mean
over stores of object F1 at IoU 0.5, and that of each store and cell type. Use val.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from cellshed.cores import usable_cores
from cellshed.data.store import Store, open_store
from cellshed.inference import Maps
from cellshed.metrics.overlap import overlap
from cellshed.metrics.scores import as_scores, count
from cellshed.predict import Segmenter, load_model
from cellshed.rivals import best_cells
from cellshed.settings import DecodeSettings

Scales = tuple[float, ...]
Trial = tuple[Scales, DecodeSettings]
Counts = NDArray[np.float64]
Labels = NDArray[np.int32]


def counts(model: Segmenter, store: Store, trials: list[Trial]) -> dict[Trial, list[Counts]]:
    """Return what there is to add up of each image, by trial."""
    scales = model.card.predict.scales
    found: dict[Trial, list[Counts]] = {trial: [] for trial in trials}
    with ThreadPoolExecutor(usable_cores()) as pool:
        for index in range(len(store)):
            truth = np.asarray(store.labels(index), np.int32)
            views = dict(zip(scales, model.views(np.asarray(store.image(index))), strict=True))
            scored = pool.map(partial(count_one, views, truth), trials)
            for trial, counted in zip(trials, scored, strict=True):
                found[trial].append(counted)
    return found


def count_one(views: Mapping[float, Maps], truth: Labels, trial: Trial) -> Counts:
    """Return what there is to add up of one image."""
    scales, settings = trial
    found, _ = best_cells([views[scale] for scale in scales], settings, truth.shape)
    return count(overlap(truth, found))


def by_type(store: Store, counted: list[Counts]) -> dict[str, float]:
    """Return object F1 at IoU 0.5 of all images and of each cell type."""
    groups: dict[str, list[Counts]] = defaultdict(list)
    for record, one in zip(store.records, counted, strict=True):
        for group in dict.fromkeys(("", record.cell_type)):
            groups[group].append(one)
    return {
        group: float(as_scores(np.sum(of, axis=0))["thresholds"]["0.50"]["f1"])
        for group, of in groups.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("stores", nargs="+")
    parser.add_argument("--scales", action="append", required=True, help="such as 1,0.8")
    parser.add_argument("--confidence", action="append", type=float, help="default: the model's")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--split", default="val")
    parser.add_argument("--precision", default="auto")
    asked = parser.parse_args()
    combinations = [tuple(float(s) for s in text.split(",")) for text in asked.scales]
    every = sorted({scale for combination in combinations for scale in combination})
    model = load_model(asked.model, precision=asked.precision)
    model = model.with_changes([*asked.changes, f"predict.scales={every}"])
    decode = model.card.decode
    settings = [
        decode.model_copy(update={"confidence_threshold": threshold})
        for threshold in asked.confidence or [decode.confidence_threshold]
    ]
    trials = list(product(combinations, settings))
    stores = {path: open_store(path).select(asked.split) for path in asked.stores}
    found = {path: counts(model, store, trials) for path, store in stores.items()}
    for trial in trials:
        scores = {path: by_type(store, found[path][trial]) for path, store in stores.items()}
        mean = np.mean([groups[""] for groups in scores.values()])
        area = sum(scale**2 for scale in trial[0])
        print(
            ",".join(f"{scale:g}" for scale in trial[0]),
            f"confidence {trial[1].confidence_threshold:g}  area {area:.2f}  mean {mean:.4f}",
            *(
                f"{group or path.rstrip('/').rpartition('/')[2]} {f1:.3f}"
                for path, groups in scores.items()
                for group, f1 in groups.items()
            ),
            sep="  ",
        )


if __name__ == "__main__":
    main()
