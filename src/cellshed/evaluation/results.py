"""The files of a result, scores.json and scores.csv, and its few most telling numbers."""

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cellshed.files import whole_file, write_text
from cellshed.metrics.intervals import paired_difference
from cellshed.report.results import counts_in_common
from cellshed.spelling import counted

FORMAT = 1
SCORES = "scores.json"
"""Name of the file with all numbers; it is written last."""
_WITH_ENDS = ("f1@0.50", "mean_ap", "pq", "aji", "seg", "pixel.iou", "pixel.f1", "coco.AP")
"""Scores that stand first in the table, with their intervals; scores.json holds those of all."""


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write scores.csv, then scores.json."""
    rows = list(_rows(results))
    first = [f"{score}{end}" for score in _WITH_ENDS for end in ("", ".low", ".high")]
    start = ["of", "name", "cell_type", "n_images", "height", "width", "n_true", "n_pred"]
    columns = list(dict.fromkeys([*start, *first, *(name for row in rows for name in row)]))
    with (
        whole_file(folder / "scores.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, columns, restval="")
        table.writeheader()
        table.writerows(rows)
    write_text(folder / SCORES, json.dumps(results, allow_nan=False))


def headline(results: dict[str, Any]) -> list[str]:
    """Return a result in a few lines: what was scored, the main scores, the mistakes."""
    pooled = results["pooled"]
    ends = pooled["intervals"]
    at = pooled["thresholds"]
    scale = results.get("scale", 1)
    scaled = "" if scale == 1 else f", images and true cells enlarged {scale:g} times"
    lines = [
        f"{counted(len(results['images']), 'image')}, {counted(pooled['n_true'], 'true cell')}, "
        f"{pooled['n_pred']:,} predicted{scaled}",
        f"object F1 at IoU 0.5: {_with_ends(at['0.50']['f1'], ends.get('f1@0.50'))}, "
        f"precision {_text(at['0.50']['precision'])}, recall {_text(at['0.50']['recall'])}",
        f"object F1 at IoU 0.75: {_with_ends(at['0.75']['f1'], ends.get('f1@0.75'))}; mean AP "
        f"over IoU 0.5 to 0.95: {_with_ends(pooled['mean_ap'], ends.get('mean_ap'))}",
        f"PQ {_text(pooled['pq'])}, AJI {_text(pooled['aji'])}, SEG {_text(pooled['seg'])}; "
        f"pixel IoU {_text(pooled['pixel']['iou'])}, pixel F1 {_text(pooled['pixel']['f1'])}",
        "mistakes: " + ", ".join(
            f"{pooled['mistakes'][kind]} {word}"
            for kind, word in (("missed", "missed"), ("gained", "extra"), ("split", "splits"),
                               ("merge", "merges"), ("catastrophe", "catastrophes"))
        ),
    ]  # fmt: skip
    for name, scores in results["cell_types"].items():
        f1 = _with_ends(scores["thresholds"]["0.50"]["f1"], scores["intervals"].get("f1@0.50"))
        lines.append(f"{name}: object F1 at IoU 0.5: {f1} ({scores['n_true']:,} true cells)")
    return lines


def compare(first: dict[str, Any], second: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Compare two results on the same images, by name: scores of the second less the first.

    Args:
        first: what scores.json holds.
        second: the same for the other result.

    Returns:
        Name of the score -> value, low and high: the difference and its 95 % interval.

    Raises:
        ValueError: they have fewer than two images in common.
    """
    before, after = counts_in_common(first, second)
    if len(before) < 2:
        raise ValueError(
            f"{len(before)} images in common, of the same size and with as many true cells: "
            "compare two results on the same two or more images"
        )
    differences = paired_difference(before, after)
    return {name: asdict(difference) for name, difference in differences.items()}


def _rows(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"of": "pooled", "name": "", "cell_type": "", **_flat(results["pooled"])}
    for name, scores in results["cell_types"].items():
        yield {"of": "cell type", "name": name, "cell_type": name, **_flat(scores)}
    for image in results["images"]:
        yield {"of": "image", "name": image["name"], "cell_type": image["cell_type"]} | _flat(image)


def _flat(scores: dict[str, Any]) -> dict[str, Any]:
    """One level of names: f1@0.50, pixel.iou, mistakes.split, without_small.f1@0.50."""
    flat: dict[str, Any] = {}
    for name, value in scores.items():
        if name == "thresholds":
            flat |= {f"{k}@{t}": v for t, at in value.items() for k, v in at.items()}
        elif name == "intervals":
            for score in _WITH_ENDS:
                flat[f"{score}.low"], flat[f"{score}.high"] = value.get(score, (None, None))
        elif isinstance(value, dict):
            flat |= {f"{name}.{k}": v for k, v in _flat(value).items()}
        elif name not in ("name", "cell_type", "counts", "reliability"):
            flat[name] = value
    return flat


def _with_ends(value: float | None, ends: list[float] | None) -> str:
    return _text(value) if ends is None else f"{_text(value)} [{ends[0]:.3f}, {ends[1]:.3f}]"


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
