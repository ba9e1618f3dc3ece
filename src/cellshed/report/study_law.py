"""The law of a dataset-size study: how the error falls with the number of annotated cells."""

from typing import TYPE_CHECKING

from cellshed.metrics.comparison import PowerLaw, fit_power_law
from cellshed.report.study_numbers import scores, told

if TYPE_CHECKING:
    from pandas import DataFrame

CELLS = "train_cells"


def fit_law(table: "DataFrame") -> PowerLaw | None:
    """Fit 1 - (object F1 at IoU 0.5) as a power of the cells trained on; None if it can't be.

    Each run is a point. Runs without any error or cells can't be placed and are left out.
    """
    found = scores(table, told(table))
    cells = table[(table["set"] == "data") & (table["metric"] == CELLS)].set_index("run")["value"]
    points = [
        (float(cells[run]), 1 - float(score))
        for run, score in zip(found["run"], found["value"], strict=True)
        if cells[run] > 0 and score < 1
    ]
    if len(points) < 3 or len({x for x, _ in points}) < 2:
        return None
    x, error = zip(*points, strict=True)
    return fit_power_law(x, error)
