"""How many of the cells that a model finds lie where nothing is annotated, and F1 without them.

`python benchmarks/apart.py MODEL STORE [--split test]`: cells of which less than 5 % lies on
annotated ones are false if all cells are annotated. Where many lie apart like this, and look like
cells in the overlay, the annotation isn't whole.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from cellshed.data.store import open_store
from cellshed.metrics.known import judged
from cellshed.metrics.overlap import overlap
from cellshed.metrics.scores import as_scores, count
from cellshed.predict import load_model

LEAST_SHARED = 0.05
"""Share of a found cell that lies on annotated ones, below which it lies apart."""


def lie_apart(truth: NDArray[np.integer], found: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return which of the cells 1..n of found lie apart from all true ones, (n,)."""
    cells = int(found.max()) + 1
    areas = np.bincount(found.ravel(), minlength=cells)[1:]
    shared = np.bincount(found[truth > 0], minlength=cells)[1:]
    apart: NDArray[np.bool_] = shared < LEAST_SHARED * areas
    return apart


def f1(counts: list[NDArray[np.float64]]) -> float:
    """Return object F1 at IoU 0.5, pooled over images."""
    return float(as_scores(np.sum(counts, axis=0))["thresholds"]["0.50"]["f1"])


def main() -> None:
    """Print a line for each image, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("store")
    parser.add_argument("--split", default="test")
    parser.add_argument("--precision", default="fp32")
    asked = parser.parse_args()
    model = load_model(asked.model, precision=asked.precision)
    store = open_store(asked.store).select(asked.split)
    whole, without = [], []
    for i, record in enumerate(store.records):
        found = model.segment(np.asarray(store.image(i)))
        truth, found = judged(np.asarray(store.labels(i), np.int32), found)
        apart = lie_apart(truth, found)
        left = np.where(np.append(False, apart)[found], 0, found)
        whole.append(count(overlap(truth, found)))
        without.append(count(overlap(truth, left)))
        cells = len(np.unique(found)) - 1
        print(f"{record.name} {record.cell_type}: {cells} found, {apart.sum()} apart")
    print(f"F1 {f1(whole):.3f}, without those apart {f1(without):.3f}")


if __name__ == "__main__":
    main()
