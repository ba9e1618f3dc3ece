"""What limits a model on labelled images: centres, outlines, or borders between touching cells.

`python benchmarks/limits.py MODEL STORE [--split val] [--every 2]` decodes the model's maps as they
are, then with one of them replaced by the truth, and prints object F1 at IoU 0.5, by cell type. The
step from the first row to another is what a network without that kind of mistake would gain.
Use val: what one learns from it decides what is tried next. Of several scales, the first alone is
decoded.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cellshed.data.store import open_store
from cellshed.inference import Maps
from cellshed.metrics.overlap import overlap
from cellshed.metrics.scores import as_scores, count
from cellshed.predict import Segmenter, load_model
from cellshed.scale import resize_labels
from cellshed.settings import DecodeSettings, TargetsSettings
from cellshed.targets import encode_targets
from cellshed.watershed import decode

Labels = NDArray[np.int32]
Task = tuple[Maps, DecodeSettings]
"""What is decoded, and how."""
BARELY = np.float32(1e-3)
"""What a true pixel of a cell holds at least of interior, so that the flood reaches it."""


def as_found(task: Task, _: Labels) -> Task:
    """Leave everything as it is."""
    return task


def true_centres(task: Task, truth: Labels) -> Task:
    """Take the inner distance from the true cells; no cell is dropped as doubtful."""
    maps, settings = task
    true = encode_targets(truth, ["inner_distance"], TargetsSettings())
    return {**maps, **true}, settings.model_copy(update={"confidence_threshold": 0.0})


def true_foreground(task: Task, truth: Labels) -> Task:
    """Flood all pixels of true cells and no others, over the network's own interior."""
    maps, settings = task
    pixelwise = np.where(truth[..., None] > 0, np.maximum(maps["pixelwise"], BARELY), 0)
    changes = {"interior_threshold": float(BARELY) / 2, "interior_smooth": 0.0}
    replaced = {**maps, "pixelwise": pixelwise.astype(np.float32)}
    return replaced, settings.model_copy(update=changes)


def both(task: Task, truth: Labels) -> Task:
    """Leave to the network only the borders between touching cells."""
    return true_foreground(true_centres(task, truth), truth)


ROWS: dict[str, Callable[[Task, Labels], Task]] = {
    "as found": as_found,
    "true centres": true_centres,
    "true foreground": true_foreground,
    "both": both,
}


def counts(
    model: Segmenter, image: NDArray[np.generic], truth: Labels
) -> dict[str, NDArray[np.int64]]:
    """Return what there is to add up of one image, by row."""
    maps = model.maps(image)
    shown = resize_labels(truth, next(iter(maps.values())).shape[:2])
    found = {}
    for name, replace in ROWS.items():
        labels = decode(*replace((maps, model.card.decode), shown))
        found[name] = count(overlap(truth, resize_labels(labels, truth.shape)))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("store")
    parser.add_argument("--split", default="val")
    parser.add_argument("--every", type=int, default=1, help="take every n-th image")
    asked = parser.parse_args()
    model = load_model(asked.model)
    store = open_store(asked.store).select(asked.split)
    sums: dict[str, dict[str, list[NDArray[np.int64]]]] = defaultdict(lambda: defaultdict(list))
    for index in range(0, len(store), asked.every):
        truth = np.asarray(store.labels(index), np.int32)
        for name, counted in counts(model, np.asarray(store.image(index)), truth).items():
            sums[name]["all"].append(counted)
            sums[name][store.records[index].cell_type or "no type"].append(counted)
    for name, by_type in sums.items():
        scores = {kind: as_scores(np.sum(of, axis=0)) for kind, of in sorted(by_type.items())}
        shown = (f"{kind} {s['thresholds']['0.50']['f1']:.3f}" for kind, s in scores.items())
        print(f"{name:16}", *shown, sep="  ")


if __name__ == "__main__":
    main()
