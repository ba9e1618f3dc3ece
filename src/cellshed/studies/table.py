"""Results of runs -> one tidy table, a value a row, from which all else is drawn."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellshed.files import whole_file
from cellshed.metrics.intervals import bootstrap
from cellshed.metrics.scores import COUNT_NAMES, as_scores, pool
from cellshed.report.score_sections import SCORES, value

if TYPE_CHECKING:
    from pandas import DataFrame

Row = dict[str, Any]

COLUMNS = (
    "study",
    "run",
    "group",
    "seed",
    "set",
    "decode",
    "cell_type",
    "small",
    "image",
    "epoch",
    "metric",
    "value",
    "low",
    "high",
)
"""Columns of every study's table; the factors that a study varies stand behind "seed".

set: test; val and train (the history of the training, by epoch); data (images and cells that a
run saw, by split); cost; trial (of a search).
decode: "set", thresholds as in the settings, or "tuned" on the validation images.
cell_type: empty for all. small: "with" or "without" small objects.
image: empty for scores pooled over images, which have 95 % intervals by bootstrap over images.
"""
COUNTS = ("tp@0.50", "fp@0.50", "fn@0.50", "pixel_tp", "pixel_true", "pixel_pred")
"""Counts of each image that the table holds."""
_SIZES = {"with": "counts", "without": "without_small"}


def build_table(results: Iterable[Mapping[str, Any]]) -> "DataFrame":
    """Return the table of the results of some runs, in their order."""
    from pandas import DataFrame

    rows, factors = [], dict[str, None]()
    for result in results:
        factors |= dict.fromkeys(result["task"]["run"]["factors"])
        rows += list(_rows(result))
    first, rest = COLUMNS[:4], COLUMNS[4:]
    return DataFrame(rows, columns=[*first, *factors, *rest])


def write_table(table: "DataFrame", folder: Path) -> bool:
    """Write results.csv and, if pyarrow is there, results.parquet; tell if it is."""
    with whole_file(folder / "results.csv") as temporary:
        table.to_csv(temporary, index=False)
    try:
        import pyarrow  # noqa: F401  what pandas writes parquet with
    except ImportError:
        return False
    with whole_file(folder / "results.parquet") as temporary:
        table.to_parquet(temporary, index=False)
    return True


def _rows(result: Mapping[str, Any]) -> Iterator[Row]:
    run = result["task"]["run"]
    common = {
        "study": result["task"]["study"],
        "run": run["name"],
        "group": run["group"],
        "seed": run["seed"],
        **run["factors"],
    }
    parts = (_scores(result["images"]), _images(result["images"]), _history(result["history"]))
    for part in parts:
        for row in part:
            yield common | row
    if common["study"] == "search":
        yield from (common | row for row in _trial(result))
    for split, numbers in result["data"].items():
        for name, number in numbers.items():
            yield common | {"set": "data", "metric": f"{split}_{name}", "value": float(number)}
    for name, number in result["cost"].items():
        if number is not None:
            yield common | {"set": "cost", "metric": name, "value": float(number)}


def _scores(images: list[dict[str, Any]]) -> Iterator[Row]:
    """Yield the pooled scores of all images, and of each cell type, with their intervals."""
    for decode in dict.fromkeys(image["decode"] for image in images):
        of_decode = [image for image in images if image["decode"] == decode]
        types = sorted({image["cell_type"] for image in of_decode} - {""})
        for cell_type in ("", *types):
            of_type = [i for i in of_decode if cell_type in ("", i["cell_type"])]
            for small, key in _SIZES.items():
                place = {"set": "test", "decode": decode, "cell_type": cell_type, "small": small}
                yield from (place | row for row in _pooled([i[key] for i in of_type], small))
            for kind in of_type[0]["mistakes"]:
                number = sum(image["mistakes"][kind] for image in of_type)
                place = {"set": "test", "decode": decode, "cell_type": cell_type, "small": "with"}
                yield place | {"metric": f"mistakes.{kind}", "value": float(number)}


def _pooled(counts: list[list[float]], small: str) -> Iterator[Row]:
    array = np.array(counts)
    scores = as_scores(pool(array))
    ends = bootstrap(array)
    for name in ("n_true", "n_pred", *SCORES.values()):
        if small == "without" and name.startswith("pixel."):
            continue
        number = value(scores, name)
        if number is not None:
            low, high = ends.get(name, (None, None))
            yield {"metric": name, "value": number, "low": low, "high": high}


def _images(images: list[dict[str, Any]]) -> Iterator[Row]:
    places = {name: COUNT_NAMES.index(name) for name in COUNTS}
    for image in images:
        for small, key in _SIZES.items():
            for name, place in places.items():
                if small == "with" or not name.startswith("pixel"):
                    yield {
                        "set": "test",
                        "decode": image["decode"],
                        "cell_type": image["cell_type"],
                        "small": small,
                        "image": image["name"],
                        "metric": name,
                        "value": image[key][place],
                    }


def _trial(result: Mapping[str, Any]) -> Iterator[Row]:
    """Yield what a search went by, and whether it stopped the trial early."""
    reached = [row["val_f1"] for row in result["history"] if "val_f1" in row]
    if reached:
        yield {"set": "trial", "metric": "objective", "value": max(reached)}
    yield {"set": "trial", "metric": "pruned", "value": float(bool(result.get("pruned")))}


def _history(history: list[dict[str, float]]) -> Iterator[Row]:
    for row in history:
        for name, number in row.items():
            if name not in ("epoch", "seconds"):
                kind = "val" if name.startswith("val_") else "train"
                yield {"set": kind, "epoch": row["epoch"], "metric": name, "value": number}
