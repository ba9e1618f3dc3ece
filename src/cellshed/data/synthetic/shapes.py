"""Random cells of one morphology, placed on a field."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cellshed.data.synthetic.morphology import Morphology

Bone = tuple[float, ...]
"""x, y, radius at one end; x, y, radius at the other; reach of the web to other bones."""

_TRIES = 40
_JOINT = 14.0
"""Length of a process from joint to joint, in pixels."""


class Cells(NamedTuple):
    """Cells placed on a field."""

    centers: NDArray[np.float32]
    """(n, 2) x, y of the bodies."""
    radii: NDArray[np.float32]
    """(n,) of the bodies."""
    angles: NDArray[np.float32]
    """(n,) of the bodies' long axes."""
    rounded: NDArray[np.bool_]
    """(n,) dividing cells; they lie on top of others."""
    bones: NDArray[np.float32]
    """(m, 7) all cells' bones, sorted by cell."""
    starts: NDArray[np.int64]
    """(n + 1,) where each cell's bones begin."""


def place_cells(
    rng: np.random.Generator, kind: Morphology, shape: tuple[int, int], coverage: float
) -> Cells:
    """Draw cells and their places on a field.

    Args:
        rng: source of chance.
        kind: their morphology.
        shape: height and width of the field, in pixels.
        coverage: share of the field to cover, roughly.

    Returns:
        The cells; some lie partly or wholly outside the field.
    """
    margin = 1.5 * kind.radius[1]
    size = np.array([shape[1], shape[0]]) + 2 * margin
    radii = rng.uniform(*kind.radius, size=_count(kind, float(size.prod()), coverage))
    rounded = rng.random(len(radii)) < kind.rounded
    radii[rounded] = np.clip(radii[rounded] * 0.6, 6.0, 10.0)
    chances = rng.random((len(radii), _TRIES, 4))
    places, settled = _settle(radii, chances, size, kind.clustering, kind.spacing)
    centers, radii, rounded = places[settled] - margin, radii[settled], rounded[settled]
    angles = _directions(rng, centers, max(shape))
    cells = [
        [_ball(rng, center, r)] if is_round else [*_cell(rng, center, r, angle, kind)]
        for center, r, angle, is_round in zip(
            centers.tolist(), radii.tolist(), angles.tolist(), rounded, strict=True
        )
    ]
    bones = np.array([bone for bones in cells for bone in bones], np.float32)
    starts = np.cumsum([0, *map(len, cells)], dtype=np.int64)
    small = [a.astype(np.float32) for a in (centers, radii, angles)]
    return Cells(small[0], small[1], small[2], rounded, bones.reshape(-1, 7), starts)


def without_processes(cells: Cells) -> Cells:
    """Return the same cells, their bodies alone: the first bone of each."""
    first = cells.starts[:-1]
    return cells._replace(bones=cells.bones[first], starts=np.arange(len(first) + 1))


def _count(kind: Morphology, area: float, coverage: float) -> int:
    """Return how many cells it takes to cover a share of an area."""
    radius, stretch = float(np.mean(kind.radius)), float(np.mean(kind.elongation))
    body = np.pi * radius**2 + 2 * radius**2 * (stretch - 1)
    reach = (float(np.mean(kind.arm_length)) - 1) * radius
    arm = reach * (kind.arm_base * radius * 0.6 + kind.arm_tip) * (1 + kind.branching)
    cell = body + float(np.mean(kind.arms)) * arm
    # Crowded cells share their rims, so more of them are needed than their areas say.
    return max(1, round(area * coverage * (1 + 0.7 * coverage) / cell))


def _directions(
    rng: np.random.Generator, centers: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """Return an angle for each cell; neighbours lie along a common direction, roughly."""
    waves = rng.normal(0, 2.0 / size, (3, 2))
    common = np.pi * np.cos(centers @ waves.T + rng.uniform(0, 2 * np.pi, 3)).sum(1)
    return np.asarray(common + rng.normal(0, 0.5, len(centers)))


def _ball(rng: np.random.Generator, center: list[float], radius: float) -> Bone:
    shift = rng.uniform(-1.5, 1.5, 2).tolist()
    return (*center, radius, center[0] + shift[0], center[1] + shift[1], radius, 0.5)


def _cell(
    rng: np.random.Generator, center: list[float], radius: float, angle: float, kind: Morphology
) -> Iterator[Bone]:
    """Yield the bones of one cell: its body's and its processes'."""
    x, y = center
    half = radius * (rng.uniform(*kind.elongation) - 1)
    dx, dy = half * math.cos(angle), half * math.sin(angle)
    yield (x - dx, y - dy, radius * rng.uniform(0.75, 1), x + dx, y + dy, radius, kind.fillet)
    arms = int(rng.integers(kind.arms[0], kind.arms[1] + 1))
    first = rng.uniform(0, 2 * math.pi)
    for k in range(arms):
        around = first + 2 * math.pi * (k + rng.uniform(-0.3, 0.3)) / arms
        axis = angle + math.pi * (k % 2) + rng.normal(0, 0.15)
        to_axis = math.remainder(axis - around, 2 * math.pi)
        reach = radius * rng.uniform(*kind.arm_length)
        heading = around + kind.bipolar * to_axis
        yield from _process(rng, (x, y, heading), reach, kind.arm_base * radius, kind)


def _process(
    rng: np.random.Generator,
    start: tuple[float, float, float],
    reach: float,
    base: float,
    kind: Morphology,
) -> Iterator[Bone]:
    """Yield the bones of one process, its forks included.

    Args:
        rng: source of chance.
        start: x, y and heading, in radians.
        reach: length, in pixels.
        base: radius at its start; `kind.arm_tip` if that is more.
        kind: bends, forks and tip.
    """
    x, y, heading = start
    joints = max(2, round(reach / _JOINT))
    taper = [(1 - k / joints) ** 2 for k in range(joints + 1)]
    radii = [kind.arm_tip + max(base - kind.arm_tip, 0) * share for share in taper]
    for k in range(joints):
        last_x, last_y = x, y
        x += math.cos(heading) * reach / joints
        y += math.sin(heading) * reach / joints
        # A wide web belongs to the body; between the bones of a process it would be a knob.
        web = kind.fillet if k == 0 and base > kind.arm_tip else 0.5 * radii[k]
        yield (last_x, last_y, radii[k], x, y, radii[k + 1], web)
        heading += rng.normal(0, kind.wander)
        if 0 < k < joints - 1 and rng.random() < kind.branching:
            side = heading + math.copysign(rng.uniform(0.5, 1.0), rng.random() - 0.5)
            rest = reach * (1 - (k + 1) / joints) * rng.uniform(0.4, 0.9)
            yield from _process(rng, (x, y, side), rest, 0.0, kind)


@njit(cache=True)
def _settle(
    radii: NDArray[np.float64],
    chances: NDArray[np.float64],
    size: NDArray[np.float64],
    clustering: float,
    spacing: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Give each cell the first of its drawn places that is far enough from those before it."""
    places = np.zeros((len(radii), 2))
    settled = np.zeros(len(radii), np.bool_)
    for i in range(len(radii)):
        for chance in chances[i]:
            x, y = chance[0] * size[0], chance[1] * size[1]
            other = int(chance[0] * i)
            if chance[2] < clustering and settled[other]:
                step = (radii[i] + radii[other]) * (spacing + 0.12 * chance[1])
                x = places[other, 0] + step * np.cos(2 * np.pi * chance[3])
                y = places[other, 1] + step * np.sin(2 * np.pi * chance[3])
            within = 0 <= x < size[0] and 0 <= y < size[1]
            if within and _is_free(x, y, radii[i], radii[:i], places, settled, spacing):
                places[i, 0], places[i, 1] = x, y
                settled[i] = True
                break
    return places, settled


@njit(cache=True)
def _is_free(  # noqa: PLR0913 - compiled, takes no records
    x: float,
    y: float,
    radius: float,
    radii: NDArray[np.float64],
    places: NDArray[np.float64],
    settled: NDArray[np.bool_],
    spacing: float,
) -> bool:
    for j in range(len(radii)):
        gap = spacing * (radius + radii[j])
        dx, dy = x - places[j, 0], y - places[j, 1]
        if settled[j] and dx * dx + dy * dy < gap * gap:
            return False
    return True
