"""COCO's compressed run-length masks: text to runs, and label images to text.

A mask is read column by column (top to bottom, left to right). Its runs of background and
foreground alternate, background first, and each length is written in base 32 with the sixth
bit of a character as "more follows"; from the fourth length on, as the difference to the
length before last.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray


class Runs(NamedTuple):
    """Foreground runs of many masks of one image; pixel (row, column) is column * H + row."""

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    first: NDArray[np.int64]
    """Mask k owns the runs first[k] to first[k + 1]."""
    valid: NDArray[np.bool_]
    """False where the text is no mask of an image of this size; such a mask has no runs."""
    area: NDArray[np.int64]
    """Foreground pixels of each mask."""


class Encoded(NamedTuple):
    """One mask per label of a label image, in the order of the labels."""

    values: NDArray[np.int64]
    """The labels that occur, ascending."""
    counts: list[str]
    boxes: NDArray[np.int64]
    """(n, 4): x, y, width, height."""
    areas: NDArray[np.int64]


def decode_runs(texts: Sequence[bytes], pixels: int) -> Runs:
    """Decode compressed masks of one image into runs.

    Args:
        texts: the "counts" of each mask, as ASCII.
        pixels: height times width of the image. Trailing background may be missing.
    """
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    return Runs(*_decode(np.frombuffer(b"".join(texts), np.uint8), ends, pixels))


def encode_labels(labels: NDArray[np.integer]) -> Encoded:
    """Encode each label of an image (H, W) as a compressed mask, with its box and area."""
    columns = np.ascontiguousarray(labels.T, np.int64)  # (W, H)
    owner, start, stop = _runs_of(columns)
    order = np.argsort(owner, kind="stable")
    owner, start, stop = owner[order], start[order], stop[order]
    values, first = np.unique(owner, return_index=True)
    first = np.append(first, len(owner)).astype(np.int64)
    text, ends = _encode(start, stop, first, columns.size)
    whole = text.tobytes().decode("ascii")
    counts = [whole[a:b] for a, b in pairwise([0, *ends.tolist()])]
    boxes, areas = _boxes(start, stop, first, columns.shape[1])
    return Encoded(values.astype(np.int64), counts, boxes, areas)


@njit(cache=True, nogil=True)
def _decode(text, ends, pixels):  # type: ignore[no-untyped-def]
    n = ends.size
    start = np.empty(text.size, np.int64)
    stop = np.empty(text.size, np.int64)
    first = np.zeros(n + 1, np.int64)
    valid = np.ones(n, np.bool_)
    area = np.zeros(n, np.int64)
    count = 0
    begin = 0
    for k in range(n):
        found = _decode_one(text[begin : ends[k]], pixels, start[count:], stop[count:])
        begin = ends[k]
        valid[k] = found >= 0
        for run in range(count, count + max(found, 0)):
            area[k] += stop[run] - start[run]
        count += max(found, 0)
        first[k + 1] = count
    return start[:count], stop[:count], first, valid, area


@njit(cache=True, nogil=True)
def _decode_one(text, pixels, start, stop):  # type: ignore[no-untyped-def]
    """Fill start and stop with one mask's runs; return how many, or -1 for a bad text."""
    at = 0
    runs = 0
    number = 0
    position = 0
    length = 0
    previous = 0
    while at < text.size:
        value = 0
        shift = 0
        more = True
        while more:
            if at == text.size or shift > 45:
                return -1
            digit = int(text[at]) - 48
            if digit < 0 or digit > 63:
                return -1
            at += 1
            value |= (digit & 31) << shift
            shift += 5
            more = (digit & 32) != 0
            if not more and (digit & 16) != 0:
                value -= 1 << shift
        if number > 2:
            value += previous
        previous = length
        length = value
        if length < 0 or position + length > pixels:
            return -1
        if number % 2 == 1 and length > 0:
            start[runs] = position
            stop[runs] = position + length
            runs += 1
        position += length
        number += 1
    return runs


@njit(cache=True, nogil=True)
def _runs_of(columns):  # type: ignore[no-untyped-def]
    """Find the runs of equal labels above 0 in the flattened image."""
    flat = columns.ravel()
    count = 0
    before = 0
    for value in flat:
        if value != before and value > 0:
            count += 1
        before = value
    owner = np.empty(count, np.int64)
    start = np.empty(count, np.int64)
    stop = np.empty(count, np.int64)
    run = -1
    before = 0
    for position in range(flat.size):
        value = flat[position]
        if value > 0:
            if value != before:
                run += 1
                owner[run] = value
                start[run] = position
            stop[run] = position + 1
        before = value
    return owner, start, stop


@njit(cache=True, nogil=True)
def _encode(start, stop, first, pixels):  # type: ignore[no-untyped-def]
    n = first.size - 1
    # A length needs at most 8 characters below 2**39 pixels; 2 lengths a run, 1 at the end.
    text = np.empty(8 * (2 * start.size + n), np.uint8)
    ends = np.empty(n, np.int64)
    at = 0
    for k in range(n):
        position = 0
        number = 0
        last = 0
        previous = 0
        for run in range(first[k], first[k + 1] + 1):
            is_end = run == first[k + 1]
            edges = (pixels, pixels) if is_end else (start[run], stop[run])
            if is_end and position == pixels:
                break
            for part in range(1 if is_end else 2):
                length = edges[part] - position
                position = edges[part]
                at = _write_number(text, at, length - previous if number > 2 else length)
                previous = last
                last = length
                number += 1
        ends[k] = at
    return text[:at], ends


@njit(cache=True, nogil=True)
def _write_number(text, at, value):  # type: ignore[no-untyped-def]
    more = True
    while more:
        digit = value & 31
        value >>= 5
        more = value != -1 if digit & 16 else value != 0
        text[at] = digit + 48 + (32 if more else 0)
        at += 1
    return at


@njit(cache=True, nogil=True)
def _boxes(start, stop, first, height):  # type: ignore[no-untyped-def]
    n = first.size - 1
    boxes = np.zeros((n, 4), np.int64)
    areas = np.zeros(n, np.int64)
    for k in range(n):
        left = start[first[k]] // height
        right = (stop[first[k + 1] - 1] - 1) // height
        top, bottom = height, 0
        for run in range(first[k], first[k + 1]):
            areas[k] += stop[run] - start[run]
            if start[run] // height != (stop[run] - 1) // height:
                top, bottom = 0, height - 1  # the run goes on in the next column
            else:
                top = min(top, start[run] % height)
                bottom = max(bottom, (stop[run] - 1) % height)
        boxes[k] = (left, top, right - left + 1, bottom - top + 1)
    return boxes, areas
