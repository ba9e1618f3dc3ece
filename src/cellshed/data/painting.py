"""Masks of one image that may overlap -> one label image, by a named rule."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cellshed.data.rle import Runs, decode_runs
from cellshed.spelling import nearest

COVERED = 0.75
"""drop-covered leaves out a mask of which more than this share lies beneath smaller ones."""


@dataclass(frozen=True)
class Problem:
    """An annotation that could not be painted, or not wholly, or may not be meant as it was."""

    annotation: int | str
    image: str
    reason: str
    painted: bool = False
    """True if the annotation, or what it stands for, has a label all the same."""


@dataclass(frozen=True)
class Painted:
    """A label image and what it was made from."""

    labels: NDArray[np.int32]
    """(H, W), 0 = background, 1..n in the order of the annotations."""
    ids: tuple[int | str, ...]
    """ids[k - 1] is the annotation of label k."""
    problems: tuple[Problem, ...] = ()
    overlapping_pixels: int = 0
    """Pixels that lie in more than one annotation."""


@dataclass(frozen=True)
class Mask:
    """One annotation as a compressed run-length mask."""

    id: int | str
    """As the file has it: it needn't be there, nor be the only one of its kind."""
    counts: bytes
    area: float | None = None
    """As the file states it."""


def paint(masks: Sequence[Mask], shape: tuple[int, int], overlap: str, image: str = "") -> Painted:
    """Paint masks into one label image.

    Args:
        masks: in the order of the annotation file.
        shape: height and width of the image.
        overlap: a key of OVERLAP_RULES.
        image: its name, for the problems.

    Returns:
        The label image; masks without a visible pixel are among the problems.

    Raises:
        ValueError: unknown overlap rule.
    """
    if overlap not in OVERLAP_RULES:
        raise ValueError(f"unknown overlap rule '{overlap}'; {nearest(overlap, OVERLAP_RULES)}")
    given = masks
    first: dict[bytes, Mask] = {}
    for mask in given:
        first.setdefault(mask.counts, mask)
    masks = list(first.values())
    runs = decode_runs([mask.counts for mask in masks], shape[0] * shape[1])
    columns = np.zeros((shape[1], shape[0]), np.int32)  # masks run down the columns
    dropped = OVERLAP_RULES[overlap](columns.reshape(-1), runs)
    visible = np.bincount(columns.reshape(-1), minlength=len(masks) + 1)[1:] > 0
    kept = np.flatnonzero(visible).tolist()
    table = np.zeros(len(masks) + 1, np.int32)
    table[1:][visible] = np.arange(1, len(kept) + 1)
    hidden = {
        masks[index].counts: _why_hidden(runs, dropped, index)
        for index in np.flatnonzero(~visible).tolist()
    }
    return Painted(
        labels=np.ascontiguousarray(table[columns].T),
        ids=tuple(masks[index].id for index in kept),
        problems=tuple(_problems(given, first, hidden, image)),
        overlapping_pixels=int(_count_overlap(runs.start, runs.stop, columns.size)),
    )


def _problems(
    given: Sequence[Mask], first: dict[bytes, Mask], hidden: dict[bytes, str], image: str
) -> Iterator[Problem]:
    """Yield what is not to be seen: masks hidden or empty, and those that repeat another."""
    for mask in given:
        twin = first[mask.counts]
        if mask.counts in hidden:
            yield Problem(mask.id, image, hidden[mask.counts])
        elif twin is not mask:
            yield Problem(mask.id, image, f"same mask as annotation {twin.id}")


def _why_hidden(runs: Runs, dropped: NDArray[np.bool_], index: int) -> str:
    if not runs.valid[index]:
        return "its run lengths do not fit the image"
    if runs.area[index] == 0:
        return "covers no pixel of the image"
    if dropped[index]:
        return f"more than {COVERED:.0%} covered by smaller annotations"
    return "entirely covered by other annotations"


def _smaller_on_top(flat: NDArray[np.int32], runs: Runs) -> NDArray[np.bool_]:
    """Paint the largest first; of equal ones, the later lies on top."""
    _paint_in_order(flat, runs.start, runs.stop, runs.first, np.argsort(-runs.area, kind="stable"))
    return np.zeros(len(runs.area), np.bool_)


def _later_on_top(flat: NDArray[np.int32], runs: Runs) -> NDArray[np.bool_]:
    """Paint in the order of the annotation file."""
    _paint_in_order(flat, runs.start, runs.stop, runs.first, np.arange(len(runs.area)))
    return np.zeros(len(runs.area), np.bool_)


def _drop_covered(flat: NDArray[np.int32], runs: Runs) -> NDArray[np.bool_]:
    """Paint as smaller-on-top, but leave out what is mostly covered by smaller ones.

    So an outline around a whole cluster, or a cell drawn twice, leaves no ring behind.
    """
    order = np.argsort(-runs.area, kind="stable")[::-1].copy()
    dropped: NDArray[np.bool_] = _paint_free(
        flat, runs.start, runs.stop, runs.first, order, COVERED
    )
    return dropped


OVERLAP_RULES: dict[str, Callable[[NDArray[np.int32], Runs], NDArray[np.bool_]]] = {
    "smaller-on-top": _smaller_on_top,
    "later-on-top": _later_on_top,
    "drop-covered": _drop_covered,
}


@njit(cache=True, nogil=True)
def _paint_in_order(flat, start, stop, first, order):  # type: ignore[no-untyped-def]
    for k in order:
        for run in range(first[k], first[k + 1]):
            flat[start[run] : stop[run]] = k + 1


@njit(cache=True, nogil=True)
def _paint_free(flat, start, stop, first, order, limit):  # type: ignore[no-untyped-def]
    """Paint free pixels only; return which masks were left out because too few were free."""
    dropped = np.zeros(order.size, np.bool_)
    for k in order:
        area = 0
        taken = 0
        for run in range(first[k], first[k + 1]):
            area += stop[run] - start[run]
            for pixel in range(start[run], stop[run]):
                taken += flat[pixel] > 0
        dropped[k] = taken > limit * area
        if dropped[k]:
            continue
        for run in range(first[k], first[k + 1]):
            for pixel in range(start[run], stop[run]):
                if flat[pixel] == 0:
                    flat[pixel] = k + 1
    return dropped


@njit(cache=True, nogil=True)
def _count_overlap(start, stop, pixels):  # type: ignore[no-untyped-def]
    times = np.zeros(pixels, np.uint8)
    overlapping = 0
    for run in range(start.size):
        for pixel in range(start[run], stop[run]):
            overlapping += times[pixel] == 1
            times[pixel] = min(times[pixel] + 1, 2)
    return overlapping
