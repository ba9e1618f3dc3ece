"""Compiled watershed from markers, pixel for pixel that of scikit-image.

scikit-image keeps the border of the flood in a heap, ordered by level, then by age; the level of a
claimed pixel is its value, or that of the pixel which claimed it where this is worse. Here the
pixels are sorted once by value, and the flood sweeps over them: a pixel that has been claimed by
a neighbour when the sweep arrives claims its own free neighbours. Pixels of one level wait in a
queue, in the order of their age.

Markers of one value have one age too, and then scikit-image's order is a matter of its heap's
layout. The sweep notices when that order can decide a pixel (see `_sweep`); then, and only then,
the flood is done again with the very same heap.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cellshed.regions import pieces

Map = NDArray[np.float32]  # (H, W)
Labels = NDArray[np.int32]  # (H, W)
Runs = NDArray[np.int32]  # (n, 3): row, first column, column behind the last
States = NDArray[np.int64]  # ((H + 2) * (W + 2),), the map within a frame
Keys = NDArray[np.uint32]  # (n,), see _key
Pixels = NDArray[np.int32]  # (n,): flat indices into the framed map

# State of a pixel: free; free though the sweep has passed it; claimed: age << 32 | label;
# not to be flooded, or outside the image.
FREE = 0
PASSED = -1
OUTSIDE = np.iinfo(np.int64).max
LOW = 0xFFFFFFFF

BARRED = -1  # from the flood by heap
SEVERAL = -1  # markers in a piece
BATCH = 1 << 16  # pixels
AHEAD = 64  # pixels
LARGEST = 2_000_000_000  # pixels, counted in int32 with the frame
SIGN = np.uint32(1 << 31)


def watershed(interior: Map, markers: Labels, threshold: float) -> Labels:
    """Flood a map from markers, highest values first, over the 4 neighbours.

    Args:
        interior: float32 (H, W), finite.
        markers: int32 (H, W), 0 or a label.
        threshold: pixels above it are flooded.

    Returns:
        int32 (H, W): the labels of the markers, spread; equal to scikit-image's
        watershed(-interior, markers, mask=interior > threshold).

    Raises:
        ValueError: a map of two thousand million pixels or more.
    """
    if interior.size >= LARGEST:
        raise ValueError(f"a map of {interior.shape} has too many pixels: cut it into parts")
    mask = interior > np.float32(threshold)
    found = pieces(mask.astype(np.int32), 4)
    runs: Runs = np.stack([found.rows, found.starts, found.stops], axis=1)
    labels = np.zeros(interior.shape, np.int32)
    sizes, owners = _survey(runs, found.piece, found.n, markers)
    _fill(runs, owners[found.piece], labels)
    sizes[owners != SEVERAL] = 0
    shared = np.flatnonzero(sizes[found.piece])
    if shared.size and not _flood_shared(
        interior, markers, _batches(runs[shared], found.piece[shared], sizes), labels
    ):
        labels = _flood_by_heap(interior, markers, mask)
    return labels


def _batches(runs: Runs, piece: Pixels, sizes: NDArray[np.int64]) -> list[Runs]:
    """Share out runs, in batches of whole pieces with about BATCH pixels.

    Pieces don't influence each other, and what is worked on at a time should fit into the cache.
    """
    batch = (np.cumsum(sizes) // BATCH)[piece]
    order = np.argsort(batch, kind="stable")
    ends = np.flatnonzero(np.diff(batch[order])) + 1
    return np.split(runs[order], ends)


def _flood_shared(interior: Map, markers: Labels, batches: list[Runs], labels: Labels) -> bool:
    """Flood pieces of several markers; return False where the order of markers may decide."""
    stride = interior.shape[1] + 2
    state = np.full((interior.shape[0] + 2) * stride, OUTSIDE, np.int64)
    for runs in batches:
        _start(runs, markers, state)
        if not _sweep(*_sorted_pixels(interior, runs), state, stride):
            return False
        _finish(runs, state, labels)
    return True


@njit(cache=True, nogil=True)
def _survey(runs: Runs, piece: Pixels, n: int, markers: Labels) -> tuple[NDArray[np.int64], Pixels]:
    """Return each piece's number of pixels, and the marker in it: 0 for none, or SEVERAL."""
    sizes, owners = np.zeros(n, np.int64), np.zeros(n, np.int32)
    for k in range(piece.size):
        y, start, stop = runs[k]
        p = piece[k]
        sizes[p] += stop - start
        for x in range(start, stop):
            if markers[y, x] != 0 and markers[y, x] != owners[p]:
                owners[p] = markers[y, x] if owners[p] == 0 else SEVERAL
    return sizes, owners


@njit(cache=True, nogil=True)
def _fill(runs: Runs, owners: Pixels, labels: Labels) -> None:
    """Give each run to its only marker."""
    for k in range(owners.size):
        if owners[k] > 0:
            y, start, stop = runs[k]
            labels[y, start:stop] = owners[k]


@njit(cache=True, nogil=True)
def _start(runs: Runs, markers: Labels, state: States) -> None:
    width = markers.shape[1]
    for k in range(runs.shape[0]):
        y, start, stop = runs[k]
        for x in range(start, stop):
            state[(y + 1) * (width + 2) + x + 1] = markers[y, x]


@njit(cache=True, nogil=True)
def _finish(runs: Runs, state: States, labels: Labels) -> None:
    width = labels.shape[1]
    for k in range(runs.shape[0]):
        y, start, stop = runs[k]
        for x in range(start, stop):
            owner = state[(y + 1) * (width + 2) + x + 1]
            labels[y, x] = owner & LOW if owner > FREE else 0


@njit(cache=True, nogil=True)
def _key(bits: np.uint32) -> np.uint32:
    """Turn a float32's bits into an integer that grows as the float falls."""
    if bits == SIGN:  # -0.0
        bits = np.uint32(0)
    return bits if bits & SIGN else np.uint32(SIGN - np.uint32(1) - bits)


@njit(cache=True, nogil=True)
def _sorted_pixels(interior: Map, runs: Runs) -> tuple[Keys, Pixels]:
    """Sort the pixels of some runs, highest first, by a stable radix sort.

    Returns:
        uint32 (n,) keys and int32 (n,) flat indices into the framed map.
    """
    width = interior.shape[1]
    bits = interior.view(np.uint32)
    n = np.sum(runs[:, 2]) - np.sum(runs[:, 1])
    keys, pixels = np.empty(n, np.uint32), np.empty(n, np.int32)
    low, high = np.uint32(0xFFFFFFFF), np.uint32(0)
    k = 0
    for r in range(runs.shape[0]):
        y, start, stop = runs[r]
        for x in range(start, stop):
            key = _key(bits[y, x])
            keys[k], pixels[k] = key, (y + 1) * (width + 2) + x + 1
            low, high = min(low, key), max(high, key)
            k += 1
    length = 1
    while length < 32 and (high - low) >> np.uint32(length):
        length += 1
    longest = 13 if n < 1 << 19 else 11  # what the first cache holds, and the page table's
    passes = (length + longest - 1) // longest
    digit = np.uint32((length + passes - 1) // passes)
    next_keys, next_pixels = np.empty_like(keys), np.empty_like(pixels)
    for k in range(passes):
        _sort_by_digit(keys, pixels, next_keys, next_pixels, low, np.uint32(k) * digit, digit)
        keys, next_keys = next_keys, keys
        pixels, next_pixels = next_pixels, pixels
    return keys, pixels


@njit(cache=True, nogil=True)
def _sort_by_digit(  # noqa: PLR0913 - compiled: arrays bundled in records would slow it down
    keys: Keys,
    pixels: Pixels,
    next_keys: Keys,
    next_pixels: Pixels,
    low: np.uint32,
    shift: np.uint32,
    digit: np.uint32,
) -> None:
    mask = (np.uint32(1) << digit) - np.uint32(1)
    place = np.zeros(np.int64(mask) + 2, np.int32)
    for i in range(keys.size):
        place[((keys[i] - low) >> shift & mask) + np.uint32(1)] += 1
    for d in range(1, place.size):
        place[d] += place[d - 1]
    for i in range(keys.size):
        d = (keys[i] - low) >> shift & mask
        to = place[d]
        place[d] = to + 1
        next_keys[to], next_pixels[to] = keys[i], pixels[i]


@njit(cache=True, nogil=True)
def _sweep(  # noqa: C901 - a call for each pixel would cost more than all its work
    keys: Keys, pixels: Pixels, state: States, stride: int
) -> bool:
    """Flood in the order of the values; return False where the order of markers may decide.

    Markers of one value form a block whose inner order isn't known: they have one age. All that a
    block's pixels claim gets one age, for as a set it doesn't depend on the order; whatever of it
    waits in one queue forms the next such block. So an order can matter only where two labels
    claim one pixel at one age. A pixel that is alone in its queue with its age has a certain place
    again, and each pixel that it claims an age of its own.
    """
    queue = np.empty(keys.size, np.int64)  # of the present level: age << 32 | pixel
    age = 0
    begin = ahead = 0
    while begin < keys.size:
        if begin >= ahead:
            queue[0] = _read_ahead(pixels, begin, state, stride)
            ahead = begin + AHEAD
        key = keys[begin]
        count = 0
        while begin < keys.size and keys[begin] == key:
            i = pixels[begin]
            owner = state[i]
            if owner > FREE:
                queue[count] = (owner & ~LOW) | i
                count += 1
            else:
                state[i] = PASSED
            begin += 1
        if count > 1:
            queue[:count].sort()
        k = 0
        block = False
        while k < count:  # the queue grows while it is worked off
            i = queue[k] & LOW
            follows = block and queue[k] >> 32 == queue[k - 1] >> 32
            k += 1
            if not follows:
                block = k < count and queue[k] >> 32 == queue[k - 1] >> 32
                age += block
            label = state[i] & LOW
            for step in (-stride, -1, 1, stride):
                j = i + step
                owner = state[j]
                if owner <= FREE:
                    age += not block
                    state[j] = age << 32 | label
                    if owner == PASSED:
                        queue[count] = age << 32 | j
                        count += 1
                elif block and owner >> 32 == age and owner & LOW != label:
                    return False
    return True


@njit(cache=True, nogil=True)
def _read_ahead(pixels: Pixels, begin: int, state: States, stride: int) -> int:
    """Bring the states about the next pixels into the cache; return a sum, lest it be left out.

    The sweep jumps about the map; read in a bunch, its states are waited for all at once.
    """
    total = 0
    for k in range(begin, min(begin + AHEAD, pixels.size)):
        i = pixels[k]
        total += state[i - stride] + state[i] + state[i + stride]
    return total


def _flood_by_heap(interior: Map, markers: Labels, mask: NDArray[np.bool_]) -> Labels:
    """Flood as scikit-image does: all claimed pixels wait in one heap."""
    framed = np.pad(np.where(mask, markers, BARRED), 1, constant_values=BARRED).astype(np.int32)
    n = int(np.count_nonzero(mask))
    _empty_heap(interior, framed.ravel(), np.empty(n, np.uint64), np.empty(n, np.int32))
    labels: Labels = np.maximum(framed[1:-1, 1:-1], 0)
    return labels


@njit(cache=True, nogil=True)
def _empty_heap(interior: Map, state: Pixels, keys: NDArray[np.uint64], pixels: Pixels) -> None:
    """Flood the state. A heap's keys are the key of the level, shifted by 32 bits, and the age."""
    bits = interior.view(np.uint32)
    stride = interior.shape[1] + 2
    count = age = 0
    for i in range(state.size):
        if state[i] > FREE:
            key = np.uint64(_key(bits[i // stride - 1, i % stride - 1]))
            _push(key << np.uint64(32), i, count, keys, pixels)
            count += 1
    while count > 0:
        i = pixels[0]
        level = np.uint32(keys[0] >> np.uint64(32))
        count -= 1
        _drop_top(count, keys, pixels)
        for step in (-stride, -1, 1, stride):
            j = i + step
            if state[j] == FREE:
                state[j] = state[i]
                age += 1
                key = np.uint64(max(level, _key(bits[j // stride - 1, j % stride - 1])))
                _push(key << np.uint64(32) | np.uint64(age), j, count, keys, pixels)
                count += 1


@njit(cache=True, nogil=True, inline="always")
def _push(key: np.uint64, pixel: int, count: int, keys: NDArray[np.uint64], pixels: Pixels) -> None:
    """Add a pixel to a heap of `count`; equal keys don't pass each other on the way up."""
    at = count
    while at > 0:
        parent = (at - 1) >> 1
        if key >= keys[parent]:
            break
        keys[at], pixels[at] = keys[parent], pixels[parent]
        at = parent
    keys[at], pixels[at] = key, pixel


@njit(cache=True, nogil=True, inline="always")
def _drop_top(count: int, keys: NDArray[np.uint64], pixels: Pixels) -> None:
    """Put the last pixel on top, `count` being left, and let it sink; left goes before right."""
    key, pixel = keys[count], pixels[count]
    at = 0
    while 2 * at + 1 < count:
        child = 2 * at + 1
        if child + 1 < count and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[at], pixels[at] = keys[child], pixels[child]
        at = child
    keys[at], pixels[at] = key, pixel
