"""Compiled watershed from markers, pixel for pixel that of scikit-image.

scikit-image keeps the border of the flood in a heap, ordered by level, then by age; the level of a
claimed pixel is its value, or that of the pixel which claimed it where this is worse. Here the
pixels are sorted once by value, and the flood sweeps over them: a pixel that has been claimed by
a neighbour when the sweep arrives claims its own free neighbours. Pixels of one level wait in a
queue, which is the order of their age.

Markers of one value have one age too, and then scikit-image's order is a matter of its heap's
layout. The sweep notices when that order can decide a pixel (see `_sweep`); then, and only then,
the flood is done again with the very same heap.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Map = NDArray[np.float32]  # (H, W)
Labels = NDArray[np.int32]  # (H, W), or framed (H + 2, W + 2)
Keys = NDArray[np.uint32]  # (n,), see _key
Pixels = NDArray[np.int32]  # (n,): flat indices into the framed map, where 0 means none

# State of a pixel: its label once claimed; 0 free; free and passed by the sweep; free and in the
# group g of pixels with one value: FIRST_GROUP - g; not to be flooded, or outside the image.
PASSED = -1
FIRST_GROUP = -1
OUTSIDE = np.iinfo(np.int32).max
MARKER = 1  # epoch of the markers of one value, whose order isn't known
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
    """
    level = np.float32(threshold)
    state, n = _framed(interior, markers, level)
    keys, pixels = _sorted_pixels(interior, level, n)
    if not _flood_by_sweep(keys, pixels, state):
        state, n = _framed(interior, markers, level)
        heap = np.empty(n, np.uint64), np.empty(n, np.int32)
        _flood_by_heap(interior, state.ravel(), *heap)
    labels: Labels = _unframed(state)
    return labels


def _flood_by_sweep(keys: Keys, pixels: Pixels, state: Labels) -> bool:
    """Flood `state`; return False where the order of equal markers may decide."""
    flat = state.ravel()
    queues = _count_ties(keys) + 1
    head, tail = np.zeros(queues, np.int32), np.zeros(queues, np.int32)
    after, birth = np.zeros(flat.size, np.int32), np.zeros(flat.size, np.int32)
    links = head, tail, after
    _queue_markers(keys, pixels, flat, *links, birth)
    return bool(_sweep(keys, pixels, flat, *links, birth, state.shape[1]))


@njit(cache=True, nogil=True)
def _framed(interior: Map, markers: Labels, level: np.float32) -> tuple[Labels, int]:
    """Return the state at the start, (H + 2, W + 2), and the number of pixels to flood."""
    height, width = interior.shape
    state = np.full((height + 2, width + 2), OUTSIDE, np.int32)
    n = 0
    for y in range(height):
        for x in range(width):
            inside = interior[y, x] > level
            state[y + 1, x + 1] = markers[y, x] if inside else OUTSIDE
            n += inside
    return state, n


@njit(cache=True, nogil=True)
def _unframed(state: Labels) -> Labels:
    height, width = state.shape[0] - 2, state.shape[1] - 2
    labels = np.empty((height, width), np.int32)
    for y in range(height):
        for x in range(width):
            label = state[y + 1, x + 1]
            labels[y, x] = label if 0 < label < OUTSIDE else 0
    return labels


@njit(cache=True, nogil=True)
def _key(bits: np.uint32) -> np.uint32:
    """Turn a float32's bits into an integer that grows as the float falls."""
    if bits == SIGN:  # -0.0
        bits = np.uint32(0)
    return bits if bits & SIGN else np.uint32(SIGN - np.uint32(1) - bits)


@njit(cache=True, nogil=True)
def _sorted_pixels(interior: Map, level: np.float32, n: int) -> tuple[Keys, Pixels]:
    """Sort the n pixels above a level, highest first, by a stable radix sort.

    Returns:
        uint32 (n,) keys and int32 (n,) flat indices into the framed map.
    """
    height, width = interior.shape
    bits = interior.view(np.uint32)
    keys, pixels = np.empty(n, np.uint32), np.empty(n, np.int32)
    low, high = np.uint32(0xFFFFFFFF), np.uint32(0)
    k = 0
    for y in range(height):
        for x in range(width):
            if interior[y, x] > level:
                key = _key(bits[y, x])
                keys[k], pixels[k] = key, (y + 1) * (width + 2) + x + 1
                low, high = min(low, key), max(high, key)
                k += 1
    if n == 0:
        return keys, pixels
    length = 1
    while length < 32 and (high - low) >> np.uint32(length):
        length += 1
    passes = (length + 12) // 13  # a table of 2**13 counts stays in the first cache
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
def _count_ties(keys: Keys) -> int:
    """Count the groups of pixels with one value, single pixels not counted."""
    groups = 0
    for k in range(1, keys.size):
        if keys[k] == keys[k - 1] and (k == 1 or keys[k - 1] != keys[k - 2]):
            groups += 1
    return groups


@njit(cache=True, nogil=True)
def _queue_markers(  # noqa: PLR0913 - likewise
    keys: Keys,
    pixels: Pixels,
    state: Pixels,
    head: Pixels,
    tail: Pixels,
    after: Pixels,
    birth: Pixels,
) -> None:
    """Note in the state which group a free pixel is of, and queue the markers of each group."""
    group = 0
    for k in range(keys.size):
        starts = k == 0 or keys[k] != keys[k - 1]
        if k + 1 < keys.size and keys[k] == keys[k + 1]:
            group += starts
        elif starts:
            continue
        i = pixels[k]
        if state[i] > 0:
            birth[i] = MARKER
            _append(i, group, head, tail, after)
        else:
            state[i] = FIRST_GROUP - group


@njit(cache=True, nogil=True)
def _append(i: int, queue: int, head: Pixels, tail: Pixels, after: Pixels) -> None:
    if head[queue] == 0:
        head[queue] = i
    else:
        after[tail[queue]] = i
    tail[queue] = i


@njit(cache=True, nogil=True)
def _sweep(  # noqa: C901, PLR0913 - a call for each pixel would cost more than all its work
    keys: Keys,
    pixels: Pixels,
    state: Pixels,
    head: Pixels,
    tail: Pixels,
    after: Pixels,
    birth: Pixels,
    stride: int,
) -> bool:
    """Flood in the order of the values; return False where the order of markers may decide.

    Markers of one value form a block whose inner order isn't known. What a block's pixels claim
    is claimed in one epoch: as a set it doesn't depend on the order, and whatever of it waits in
    one queue forms the next such block. So an order can matter only where two labels claim one
    pixel in one epoch. A pixel that is alone in its queue with its epoch has a certain place again.
    """
    epoch = MARKER
    group = begin = 0
    while begin < keys.size:
        i = last = pixels[begin]
        end = begin + 1
        while end < keys.size and keys[end] == keys[begin]:
            end += 1
        tied = end - begin > 1
        if tied:
            group += 1
            _pass_all(begin, end, pixels, state)
            i, last = head[group], tail[group]
        elif state[i] <= 0:
            state[i] = PASSED
            i = 0
        begin = end
        block = current = 0
        while i != 0:  # the queue of this level; it grows while it is worked off
            if tied and birth[i] != block:
                block = birth[i]
                shared = block != 0 and i != last and birth[after[i]] == block
                epoch += shared
                current = epoch if shared else 0
            label = state[i]
            for step in (-stride, -1, 1, stride):
                j = i + step
                owner = state[j]
                if owner <= 0:
                    state[j] = label
                    if current > 0:
                        birth[j] = current
                    if owner == PASSED:
                        after[last] = j
                        last = j
                    elif owner < 0:
                        _append(j, FIRST_GROUP - owner, head, tail, after)
                elif current > 0 and owner != label and birth[j] == current:
                    return False
            i = after[i] if i != last else 0
    return True


@njit(cache=True, nogil=True)
def _pass_all(begin: int, end: int, pixels: Pixels, state: Pixels) -> None:
    for k in range(begin, end):
        if state[pixels[k]] <= 0:
            state[pixels[k]] = PASSED


@njit(cache=True, nogil=True)
def _flood_by_heap(interior: Map, state: Pixels, keys: NDArray[np.uint64], pixels: Pixels) -> None:
    """Flood `state` as scikit-image does: all claimed pixels wait in one heap.

    Its keys hold the key of the level, shifted by 32 bits, and the age.
    """
    bits = interior.view(np.uint32)
    stride = interior.shape[1] + 2
    count = age = 0
    for i in range(state.size):
        if 0 < state[i] < OUTSIDE:
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
            if state[j] == 0:
                state[j] = state[i]
                age += 1
                key = np.uint64(max(level, _key(bits[j // stride - 1, j % stride - 1])))
                _push(key << np.uint64(32) | np.uint64(age), j, count, keys, pixels)
                count += 1


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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
