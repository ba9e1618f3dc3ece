"""What went wrong with each cell: missed, gained, split, merged, or all at once."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cellshed.metrics.overlap import Floats, Ints, Overlap, overlap

KINDS = ("missed", "gained", "split", "merge", "catastrophe")
COUNTS = (
    "n_true",
    "n_pred",
    "correct",
    *KINDS,
    "missed_det_from_merge",
    "gained_det_from_split",
    "true_det_in_catastrophe",
    "pred_det_in_catastrophe",
)

# How far below the threshold `force_links` puts a hit that it undoes.
_BELOW = 0.01
# Makes a pair at exactly the threshold worth choosing; far below any difference of two IoUs.
_TIE = 1e-12


@dataclass(frozen=True)
class Mistake:
    """One mistake and the labels of the cells in it.

    Attributes:
        kind: one of KINDS.
        true: labels of its true cells.
        pred: labels of its predicted cells.
    """

    kind: str
    true: tuple[int, ...]
    pred: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Linked:
    """True and predicted cells as hits, and as groups of linked cells without a hit.

    Attributes:
        hits: places of the pairs in the overlap table that are correct.
        true_group: group of each true cell, -1 if it was hit, (n_true,).
        pred_group: group of each predicted cell, -1 if it is a hit, (n_pred,).
        true_sizes: true cells of each group, (n_groups,).
        pred_sizes: predicted cells of each group, (n_groups,).
    """

    hits: Ints
    true_group: Ints
    pred_group: Ints
    true_sizes: Ints
    pred_sizes: Ints


def mistakes(
    true: NDArray[np.integer],
    pred: NDArray[np.integer],
    *,
    iou: float = 0.6,
    link: float = 0.1,
    force_links: bool = False,
) -> dict[str, int]:
    """Count correct cells and each kind of mistake, as the Mesmer toolbox classifies them.

    A predicted cell is correct if its IoU with a true one is greater than `iou` (where several
    could be, the assignment with the greatest sum of IoU above `iou` is taken). Cells left
    over are linked if their IoU is at least `link`, or if one of them lies by more than half in the
    other while their IoU is at most 1 - `iou`. Linked cells form groups: one true cell with several
    predicted ones is a split, several with one a merge, several with several a catastrophe. A cell
    without a link is missed or gained, and so are both of a pair linked to no other.

    Departs from the Mesmer toolbox in one thing: there each catastrophe is also counted as a
    correct cell. At an IoU of exactly `iou` the toolbox's choice hangs on rounding; `iou` is taken
    in single precision here, which gives the same: 0.6 is no hit at 0.6, 0.7 is one at 0.7.

    Args:
        true: integer labels (H, W), 0 = background, -1 = not annotated (left out); any ids.
        pred: the same for the prediction.
        iou: IoU above which a pair is correct, in (0, 1]; 1 - cutoff1 of the toolbox.
        link: IoU from which two cells are linked, in (0, iou]; cutoff2 of the toolbox.
        force_links: let a cell that lies by more than half in a larger one undo the larger one's
            hit, so that an uneven merge or split counts as one.

    Returns:
        n_true, n_pred: numbers of cells.
        correct, missed, gained: numbers of cells.
        split, merge, catastrophe: numbers of groups.
        missed_det_from_merge: true cells in merges less the number of merges.
        gained_det_from_split: predicted cells in splits less the number of splits.
        true_det_in_catastrophe, pred_det_in_catastrophe: numbers of cells.

    Raises:
        ValueError: shapes differ, labels are not integers or below that, or a cutoff out of range.
    """
    return count_mistakes(link_cells(overlap(true, pred), iou=iou, link=link, force=force_links))


def link_cells(
    table: Overlap, *, iou: float = 0.6, link: float = 0.1, force: bool = False
) -> Linked:
    """Find the hits of an overlap table, and group what is left; arguments as of `mistakes`."""
    if not 0 < link <= iou <= 1:
        raise ValueError(f"iou={iou}, link={link}: choose 0 < link <= iou <= 1")
    strength = _strength(table, iou, link, force)
    hits = _hits(table, strength - float(np.float32(iou)))
    true_free, pred_free = np.ones(table.n_true, bool), np.ones(table.n_pred, bool)
    true_free[table.rows[hits]] = False
    pred_free[table.cols[hits]] = False
    linked = true_free[table.rows] & pred_free[table.cols] & (strength >= link)
    group = _components(table, np.flatnonzero(linked))
    true_group = np.where(true_free, group[: table.n_true], -1)
    pred_group = np.where(pred_free, group[table.n_true :], -1)
    n_groups = int(group.max(initial=-1)) + 1
    return Linked(
        hits=hits,
        true_group=true_group,
        pred_group=pred_group,
        true_sizes=np.bincount(true_group[true_free], minlength=n_groups),
        pred_sizes=np.bincount(pred_group[pred_free], minlength=n_groups),
    )


def count_mistakes(linked: Linked) -> dict[str, int]:
    """Return the counts of `mistakes`."""
    n_true, n_pred = linked.true_sizes, linked.pred_sizes
    is_kind = _is_kind(n_true, n_pred)
    correct = len(linked.hits)
    chance = is_kind["pair"].sum()
    counts = {
        "n_true": len(linked.true_group),
        "n_pred": len(linked.pred_group),
        "correct": correct,
        "missed": is_kind["missed"].sum() + chance,
        "gained": is_kind["gained"].sum() + chance,
        "split": is_kind["split"].sum(),
        "merge": is_kind["merge"].sum(),
        "catastrophe": is_kind["catastrophe"].sum(),
        "missed_det_from_merge": (n_true[is_kind["merge"]] - 1).sum(),
        "gained_det_from_split": (n_pred[is_kind["split"]] - 1).sum(),
        "true_det_in_catastrophe": n_true[is_kind["catastrophe"]].sum(),
        "pred_det_in_catastrophe": n_pred[is_kind["catastrophe"]].sum(),
    }
    return {name: int(counts[name]) for name in COUNTS}


def list_mistakes(table: Overlap, linked: Linked) -> list[Mistake]:
    """Return each mistake with the labels of its cells, in order of KINDS."""
    true_members = _members(linked.true_group, table.true_ids, len(linked.true_sizes))
    pred_members = _members(linked.pred_group, table.pred_ids, len(linked.pred_sizes))
    is_kind = _is_kind(linked.true_sizes, linked.pred_sizes)
    found = []
    for kind in KINDS:
        alone = kind in ("missed", "gained")
        groups = np.flatnonzero(is_kind[kind] | is_kind["pair"] if alone else is_kind[kind])
        for group in groups:
            true = true_members[group] if kind != "gained" else ()
            pred = pred_members[group] if kind != "missed" else ()
            found.append(Mistake(kind, true, pred))
    return found


def _strength(table: Overlap, iou: float, link: float, force: bool) -> Floats:
    """IoU of each pair, put at `link` where one cell lies by more than half in the other."""
    inside_pred = 2 * table.pixels > table.true_areas[table.rows]
    inside_true = 2 * table.pixels > table.pred_areas[table.cols]
    weak = (table.iou < iou) & (table.iou <= 1 - iou)
    contained = weak & (inside_pred | inside_true)
    strength = np.where(contained, link, table.iou)
    if force:
        host_pred, host_true = np.zeros(table.n_pred, bool), np.zeros(table.n_true, bool)
        host_pred[table.cols[contained & inside_pred]] = True
        host_true[table.rows[contained & inside_true]] = True
        undone = (host_pred[table.cols] | host_true[table.rows]) & (strength >= iou)
        strength[undone] = iou - _BELOW
    return strength


def _hits(table: Overlap, excess: Floats) -> Ints:
    """Places of the pairs that are correct: each cell in at most one."""
    over = np.flatnonzero(excess >= 0)
    rows, cols = table.rows[over], table.cols[over]
    if len(np.unique(rows)) == len(over) == len(np.unique(cols)):
        return over
    group = _components(table, over)[rows]
    order = np.argsort(group, kind="stable")
    pieces = np.split(over[order], np.flatnonzero(np.diff(group[order])) + 1)
    return np.sort(np.concatenate([_assign(table, excess, piece) for piece in pieces]))


def _assign(table: Overlap, excess: Floats, pairs: Ints) -> Ints:
    """Of rival pairs, choose those with the greatest sum of excess, and most of them if it ties."""
    from scipy.optimize import linear_sum_assignment

    if len(pairs) == 1:
        return pairs
    rows, row = np.unique(table.rows[pairs], return_inverse=True)
    cols, col = np.unique(table.cols[pairs], return_inverse=True)
    gain, place = np.zeros((len(rows), len(cols))), np.full((len(rows), len(cols)), -1)
    gain[row, col], place[row, col] = excess[pairs] + _TIE, pairs
    chosen: Ints = place[linear_sum_assignment(gain, maximize=True)]
    return chosen[chosen >= 0]


def _components(table: Overlap, pairs: Ints) -> Ints:
    """Connected component of each true, then of each predicted cell, linked by some pairs."""
    size = table.n_true + table.n_pred
    component: Ints = _joined(table.rows[pairs], table.cols[pairs] + table.n_true, size)
    return component


@njit(cache=True, nogil=True)
def _joined(one, other, size):  # type: ignore[no-untyped-def]
    """Number the connected components of linked nodes, by union-find with path halving."""
    parent = np.arange(size)
    for link in range(one.size):
        a, b = one[link], other[link]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        parent[max(a, b)] = min(a, b)
    component = np.empty(size, np.int64)
    n = 0
    for node in range(size):  # a root comes before all others of its component
        if parent[node] == node:
            component[node] = n
            n += 1
        else:
            component[node] = component[parent[node]]
    return component


def _is_kind(n_true: Ints, n_pred: Ints) -> dict[str, NDArray[np.bool_]]:
    """Groups of each kind; "pair" are the single links, that count as missed and as gained."""
    return {
        "missed": (n_true == 1) & (n_pred == 0),
        "gained": (n_true == 0) & (n_pred == 1),
        "pair": (n_true == 1) & (n_pred == 1),
        "split": (n_true == 1) & (n_pred > 1),
        "merge": (n_true > 1) & (n_pred == 1),
        "catastrophe": (n_true > 1) & (n_pred > 1),
    }


def _members(group: Ints, ids: Ints, n_groups: int) -> list[tuple[int, ...]]:
    members: list[tuple[int, ...]] = [()] * n_groups
    for place in np.flatnonzero(group >= 0):
        members[group[place]] += (int(ids[place]),)
    return members
