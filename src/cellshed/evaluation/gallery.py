"""Pictures for a result: the best and worst images, and close-ups of the worst mistakes."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.evaluation.truth import Image, Labels
from cellshed.files import whole_file
from cellshed.metrics.mistakes import Linked, Mistake, list_mistakes
from cellshed.metrics.overlap import Floats, Overlap, overlap

KINDS = {"missed": "missed", "gained": "extra", "split": "split", "merge": "merge"}
"""Kind of mistake -> its kind in the gallery. Catastrophes show too much at once."""
_OF_ONE_IMAGE = 2  # close-ups of one kind that may come from the same image
_PALE = 0.25  # contrast that is left of ground that nobody annotated
_LONGEST = 1600  # pixels of a picture's longer side

Reread = Callable[[int], tuple[Image | None, Labels, Labels]]
"""Number of an image -> the image, its true and its predicted labels."""


@dataclass(frozen=True)
class Candidate:
    """A mistake that may be worth a close-up."""

    kind: str
    wrong: int
    """Pixels of its cells outside their best overlap; the worst mistake has the most."""
    mistake: Mistake


def find_candidates(table: Overlap, linked: Linked) -> tuple[Candidate, ...]:
    """Return the worst mistakes of each kind in one image."""
    listed: dict[str, list[Candidate]] = {kind: [] for kind in KINDS.values()}
    uncovered_true = table.true_areas - np.bincount(table.rows, table.pixels, table.n_true)
    uncovered_pred = table.pred_areas - np.bincount(table.cols, table.pixels, table.n_pred)
    beside_best = {
        "missed": uncovered_true,
        "gained": uncovered_pred,
        "split": table.true_areas - _largest(table.rows, table.pixels, table.n_true),
        "merge": table.pred_areas - _largest(table.cols, table.pixels, table.n_pred),
    }
    for mistake in list_mistakes(table, linked):
        if mistake.kind in KINDS:
            of_true = mistake.kind in ("missed", "split")
            ids, own = (table.true_ids, mistake.true) if of_true else (table.pred_ids, mistake.pred)
            wrong = int(beside_best[mistake.kind][np.searchsorted(ids, own[0])])
            kind = KINDS[mistake.kind]
            listed[kind].append(Candidate(kind, wrong, mistake))
    return tuple(
        candidate
        for of_kind in listed.values()
        for candidate in sorted(of_kind, key=lambda c: -c.wrong)[:_OF_ONE_IMAGE]
    )


def faded(image: Image, where: NDArray[np.bool_]) -> Image:
    """Return an image (H, W) or (H, W, C) with little contrast where a mask (H, W) says so."""
    if not where.any():
        return image
    middle = np.median(image, axis=(0, 1))
    pale = middle + _PALE * (image - middle)
    mask = where if image.ndim == 2 else where[:, :, None]
    return np.where(mask, pale, image).astype(image.dtype)


def write_gallery(
    folder: Path,
    images: Sequence[dict[str, Any]],
    candidates: Sequence[Sequence[Candidate]],
    reread: Reread,
    each: int,
) -> list[dict[str, str]]:
    """Draw and write the pictures; those of an earlier run go.

    Args:
        folder: for the pictures.
        images: scores of each image.
        candidates: mistakes of each image.
        reread: gives an image and its labels.
        each: number of pictures of each kind.

    Returns:
        For each picture: file (relative to the folder above), kind, image and caption.
    """
    chosen = [*_choose_images(images, each), *_choose_mistakes(images, candidates, each)]
    ranks: Counter[str] = Counter()
    entries: list[dict[str, str]] = []
    for index, kind, mistake in chosen:
        ranks[kind] += 1
        file = folder / f"{kind}-{ranks[kind]}.png"
        image, true, pred = reread(index)
        if image is None:
            image = np.zeros(true.shape, np.uint8)
        if mistake is None:
            picture, caption = _whole_image(image, true, pred), _image_caption(images[index])
        else:
            picture, caption = _close_up(image, true, pred, mistake)
        _write_png(file, picture)
        entries.append(
            {
                "file": f"{folder.name}/{file.name}",
                "kind": kind,
                "image": str(images[index]["name"]),
                "caption": caption,
            }
        )
    _remove_others(folder, entries)
    return entries


def _choose_images(
    images: Sequence[dict[str, Any]], each: int
) -> list[tuple[int, str, Mistake | None]]:
    """Best and worst by mean AP; an image is never both, nor one that has no true cells."""
    ranked = [index for index, image in enumerate(images) if image["n_true"] > 0]
    ranked.sort(key=lambda index: -images[index]["mean_ap"])
    n_best = min(each, (len(ranked) + 1) // 2)
    n_worst = min(each, len(ranked) - n_best)
    chosen: list[tuple[int, str, Mistake | None]] = []
    chosen += [(index, "best", None) for index in ranked[:n_best]]
    chosen += [(index, "worst", None) for index in ranked[::-1][:n_worst]]
    return chosen


def _choose_mistakes(
    images: Sequence[dict[str, Any]], candidates: Sequence[Sequence[Candidate]], each: int
) -> list[tuple[int, str, Mistake | None]]:
    """The worst of each kind, cell types in turn, so that large cells don't take all places."""
    chosen: list[tuple[int, str, Mistake | None]] = []
    for kind in KINDS.values():
        of_kind = [
            (index, candidate)
            for index, of_image in enumerate(candidates)
            for candidate in of_image
            if candidate.kind == kind
        ]
        of_kind.sort(key=lambda pair: -pair[1].wrong)
        turns: Counter[str] = Counter()
        in_turn = []
        for index, candidate in of_kind:
            cell_type = images[index]["cell_type"]
            in_turn.append((turns[cell_type], -candidate.wrong, index, candidate.mistake))
            turns[cell_type] += 1
        in_turn.sort(key=lambda place: place[:3])
        chosen += [(index, kind, mistake) for _, _, index, mistake in in_turn[:each]]
    return chosen


def _whole_image(image: Image, true: Labels, pred: Labels) -> NDArray[np.uint8]:
    from cellshed.report.overlay import draw_matches

    table = overlap(true, pred)
    hits = table.iou > 0.5
    matched = (table.pred_ids[table.cols[hits]], table.true_ids[table.rows[hits]])
    picture = draw_matches(image, pred, true, matched)
    step = -(-max(true.shape) // _LONGEST)
    return picture[::step, ::step]


def _image_caption(image: dict[str, Any]) -> str:
    at = image["thresholds"]["0.50"]
    return (
        f"object F1 {at['f1']:.2f} at IoU 0.5: {at['tp']} found, {at['fn']} missed, "
        f"{at['fp']} extra; mean AP {image['mean_ap']:.2f}"
    )


def _close_up(
    image: Image, true: Labels, pred: Labels, mistake: Mistake
) -> tuple[NDArray[np.uint8], str]:
    from cellshed.report.overlay import closeup

    members = np.isin(true, mistake.true) | np.isin(pred, mistake.pred)
    rows, cols = np.flatnonzero(members.any(axis=1)), np.flatnonzero(members.any(axis=0))
    box = (int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1)
    where = f"at row {(box[0] + box[2]) // 2}, column {(box[1] + box[3]) // 2}"
    picture = closeup(image, pred, true, box, cells=(mistake.pred, mistake.true))
    return picture, f"{_mistake_caption(mistake, true, pred)}, {where}"


def _mistake_caption(mistake: Mistake, true: Labels, pred: Labels) -> str:
    if mistake.kind in ("missed", "gained"):
        ours, other = (true, pred) if mistake.kind == "missed" else (pred, true)
        cell = ours == (*mistake.true, *mistake.pred)[0]
        share = (other[cell] > 0).mean()
        what = "true cell" if mistake.kind == "missed" else "predicted cell"
        beneath = "predicted" if mistake.kind == "missed" else "true"
        return f"{what} of {cell.sum()} px, {share:.0%} of it on {beneath} cells"
    if mistake.kind == "split":
        return f"1 true cell in {len(mistake.pred)} parts"
    return f"{len(mistake.true)} true cells as one"


def _largest(owner: NDArray[np.int64], pixels: NDArray[np.int64], n: int) -> Floats:
    largest = np.zeros(n)
    np.maximum.at(largest, owner, pixels)
    return largest


def _write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    from PIL import Image as Pillow

    with whole_file(path) as temporary:
        Pillow.fromarray(np.ascontiguousarray(picture)).save(
            temporary, format="PNG", compress_level=3
        )


def _remove_others(folder: Path, entries: Sequence[dict[str, str]]) -> None:
    """Delete pictures of an earlier run."""
    written = {Path(entry["file"]).name for entry in entries}
    for kind in ("best", "worst", *KINDS.values()):
        for path in folder.glob(f"{kind}-*.png"):
            if path.name not in written:
                path.unlink()
