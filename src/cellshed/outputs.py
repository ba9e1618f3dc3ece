"""What predict leaves in a folder: label images, overlays, one COCO file and one table.

Each image's share of the COCO file and the table is kept in a part of its own, so that a run that
was interrupted, or that adds images to a folder, ends with all images in both. The part also says
which file the results are of; it is written last. A folder says in made_by.json which model and
settings its results are of, and never holds those of two.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.data.coco import coco_tree, labels_to_annotations
from cellshed.data.images import write_labels
from cellshed.files import whole_file, write_text
from cellshed.report.overlay import draw
from cellshed.report.table import COLUMNS, measure
from cellshed.sources import Source
from cellshed.spelling import nearest

KINDS = ("labels", "overlay", "coco", "table")
MADE_BY = "made_by.json"
COCO, TABLE = "coco.json", "cells.csv"
_PARTS = ".parts"


def check_kinds(save: Iterable[str]) -> tuple[str, ...]:
    """Return the kinds of output asked for.

    Raises:
        ValueError: one is unknown; the nearest is offered.
    """
    chosen = tuple(kind.strip() for kind in save)
    for kind in chosen:
        if kind not in KINDS:
            raise ValueError(f"--save: unknown output '{kind}'; {nearest(kind, KINDS)}")
    return chosen


def is_done(out: Path, source: Source, save: Iterable[str]) -> bool:
    """Tell whether all that is asked for of an image is there, made from the file as it is now.

    Raises:
        ValueError: results of this name are of a file somewhere else.
    """
    before = _mark(out, source.name)
    if before is None:
        return False
    if before["path"] != source.mark["path"]:
        raise ValueError(
            f"{out} holds results of {before['path']}, {source.path} has the same name: "
            "choose another folder, or --overwrite replaces them"
        )
    files = [_file(out, source.name, kind) for kind in save]
    return before == source.mark and all(file.is_file() for file in files)


def is_result(path: Path, out: Path) -> bool:
    """Tell whether an image is a result, of a folder that is `out` or says what made it.

    Args:
        path: absolute.
        out: folder of results.
    """
    places = [above for above in path.parents if above.name in ("labels", "overlay")]
    return any(
        above.parent == out.resolve() or (above.parent / MADE_BY).is_file() for above in places
    )


def names_of_results(out: Path) -> dict[str, str]:
    """Return the names that results go by, under the absolute paths of the images."""
    marks = {name: _mark(out, name) for name in sorted(_names(out))}
    return {mark["path"]: name for name, mark in marks.items() if mark}


def claim(out: Path, maker: Mapping[str, Any], names: Iterable[str], *, overwrite: bool) -> None:
    """Note which model and settings make the results of a folder, if it has no others.

    Args:
        out: the folder.
        maker: what the results depend on besides the images, as JSON has it.
        names: of the images to come, without a suffix.
        overwrite: results of these images that another model or other settings have made go.

    Raises:
        ValueError: the folder holds results of another model or other settings, which aren't to be
            overwritten, or are of images other than these; or files that no model has made.
    """
    now = json.loads(json.dumps(maker))
    before = _read_json(out / MADE_BY)
    if before == now:
        _check_whole(out)
        return
    if before is None:
        _check_unused(out)
    there = _names(out)
    if there and not overwrite:
        raise ValueError(
            f"{out} holds results {_difference(before, now)}: --overwrite makes them anew, or "
            "choose another folder"
        )
    others = sorted(there - set(names))
    if others:
        raise ValueError(
            f"{out} holds results {_difference(before, now)}, {len(others)} of them of other "
            f"images, first '{others[0]}': choose another folder"
        )
    for name in there:
        _forget(out, name)
    (out / _PARTS).mkdir(parents=True, exist_ok=True)
    write_text(out / MADE_BY, json.dumps(now, indent=1))


def forget_outdated(out: Path, source: Source) -> None:
    """Remove the results of what an image's file was before, if the file has changed since."""
    before = _mark(out, source.name)
    if before is not None and "modified" in source.mark and before != source.mark:
        _forget(out, source.name)


def write_prediction(
    out: Path,
    source: Source,
    image: NDArray[Any],
    cells: tuple[NDArray[np.int32], NDArray[np.float32]],
    save: Iterable[str],
) -> None:
    """Write one image's outputs, each whole or not at all.

    Args:
        out: folder.
        source: file of the image; results that are of another one, or of what it was before, go.
        image: (H, W) or (H, W, C), as acquired.
        cells: labels (H, W), and the confidence (n,) of each.
        save: kinds of output.
    """
    labels, confidence = cells
    name, save = source.name, tuple(save)
    if _mark(out, name) != source.mark:
        _forget(out, name)
    if "overlay" in save:
        _write_png(_file(out, name, "overlay"), draw(image, labels, boxes=True))
    if "labels" in save:
        write_labels(_file(out, name, "labels"), labels)
    told = {"name": name, "file_name": source.file_name, "source": dict(source.mark)}
    part = told | _part(image, labels, confidence)
    write_text(_file(out, name, "table"), json.dumps(part))


def write_summary(out: Path, save: Iterable[str]) -> None:
    """Write coco.json and cells.csv of all images in the folder.

    One that is there already is brought up to date, asked for or not.
    """
    save = tuple(save)
    parts = [json.loads(path.read_text("utf-8")) for path in sorted((out / _PARTS).glob("*.json"))]
    if "coco" in save or (out / COCO).is_file():
        write_text(out / COCO, json.dumps(_coco(parts)))
    if "table" in save or (out / TABLE).is_file():
        write_text(out / TABLE, _csv(parts))


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        tree = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return tree if isinstance(tree, dict) else None


def _mark(out: Path, name: str) -> dict[str, Any] | None:
    """Return the mark of the file that results are of, where they say it."""
    part = _read_json(_file(out, name, "table")) or {}
    return part.get("source")


def _check_unused(out: Path) -> None:
    """Refuse a folder with files where predict writes its own."""
    for place in ("labels", "overlay", _PARTS, COCO, TABLE):
        path = out / place
        found = path.is_dir() and any(not file.name.startswith(".") for file in path.iterdir())
        if found or path.is_file():
            raise ValueError(
                f"{path} is there without a {MADE_BY} that says what made it, and isn't "
                "overwritten: choose another folder"
            )


def _check_whole(out: Path) -> None:
    """Refuse a folder whose results came without what is known of them."""
    if _names(out) and not (out / _PARTS).is_dir():
        raise ValueError(
            f"{out} holds results, but not the hidden folder {_PARTS} that says of what: copy it "
            "too, or choose another folder"
        )


def _forget(out: Path, name: str) -> None:
    for kind in KINDS:
        _file(out, name, kind).unlink(missing_ok=True)


def _names(out: Path) -> set[str]:
    """Return the names of all images that a folder has results of."""
    places = (("labels", ".tif"), ("overlay", ".png"), (_PARTS, ".json"))
    return {
        path.name.removesuffix(suffix)
        for folder, suffix in places
        for path in (out / folder).glob(f"*{suffix}")
        if not path.name.startswith(".")
    }


def _difference(before: Any, now: Any, name: str = "") -> str:
    """Say in words in what two makers differ first."""
    for key in [*now, *(key for key in before if key not in now)]:
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            return _difference(old, new, f"{name}{key}.")
        if key == "weights":
            return "of another model"
        return f"made with {name}{key} = {old}, now it is {new}"
    return "of another model"


def _file(out: Path, name: str, kind: str) -> Path:
    if kind == "labels":
        return out / "labels" / f"{name}.tif"
    if kind == "overlay":
        return out / "overlay" / f"{name}.png"
    return out / _PARTS / f"{name}.json"


def _part(
    image: NDArray[Any], labels: NDArray[np.int32], confidence: NDArray[np.float32]
) -> dict[str, Any]:
    """Return an image's share of the COCO file and of the table."""
    table = measure(labels, image, confidence)
    return {
        "size": {"height": labels.shape[0], "width": labels.shape[1]},
        "annotations": labels_to_annotations(labels, 0, confidence),
        "table": {column: _rounded(column, values) for column, values in table.items()},
    }


def _rounded(column: str, values: NDArray[Any]) -> list[float]:
    """Round to 4 decimals; intensities, of any magnitude, to 6 digits."""
    if column == "mean_intensity":
        return [float(f"{value:.6g}") for value in values.tolist()]
    rounded: list[float] = np.round(values.astype(np.float64), 4).tolist()
    return rounded if values.dtype.kind == "f" else values.tolist()


def _coco(parts: list[dict[str, Any]]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, part in enumerate(parts, 1):
        images.append({"id": image_id, "file_name": _utf8(part["file_name"])} | part["size"])
        for annotation in part["annotations"]:
            annotations.append(annotation | {"id": len(annotations) + 1, "image_id": image_id})
    return coco_tree(images, annotations)


def _csv(parts: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", *COLUMNS))
    for part in parts:
        rows = zip(*(part["table"][column] for column in COLUMNS), strict=True)
        writer.writerows((_utf8(part["name"]), *row) for row in rows)
    return text.getvalue()


def _utf8(name: str) -> str:
    """Return a file's name with what isn't UTF-8 in it written out, for files that are."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    from PIL import Image

    with whole_file(path) as temporary:
        Image.fromarray(picture).save(temporary, format="png", compress_level=3)
