"""What a study consists of: named runs, and which images each of them sees."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from cellshed.config import parse_config, to_yaml
from cellshed.data.store import Record, Store
from cellshed.settings import Config

SPLITS = ("train", "val", "test")
SHARES = (0.7, 0.1, 0.2)
"""Of a store without test images, the shares that become train, val and test."""
LEAST = 24
"""A fraction of a split is never fewer images than these, unless the split has fewer."""


@dataclass(frozen=True)
class Part:
    """Which images of a split are used."""

    fraction: float = 1.0
    """Share of the images, drawn by the seed, evenly over cell types."""
    every: int = 1
    """Every n-th image, counted from the seed on, as LIVECell's own subsets are made."""
    cell_types: tuple[str, ...] = ()
    """Only these; empty: all."""
    seed: int = 0


@dataclass(frozen=True)
class Run:
    """One training and its scores."""

    name: str
    """Unique within the study; also the name of its folder."""
    group: str
    """What it is one of several repetitions of."""
    seed: int
    factors: Mapping[str, str | float]
    """What the study varies, and its value here."""
    changes: tuple[str, ...] = ()
    """Settings that differ from the study's, as in --set."""
    train: Part = Part()
    val: Part = Part()
    test: Part = Part()

    def config(self, base: Config) -> Config:
        """Return the settings of this run."""
        return parse_config(to_yaml(base), (*self.changes, f"training.seed={self.seed}"))

    def as_tree(self) -> dict[str, Any]:
        """Return the run as JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True)
class Context:
    """What a study is planned for."""

    stores: tuple[Store, ...]
    config: Config
    """Settings of all runs, the user's changes included."""
    seeds: int
    fraction: float
    cell_types: tuple[str, ...] = field(default=())
    """Cell types that can be trained on."""


def run_from_tree(tree: Mapping[str, Any]) -> Run:
    """Return what `as_tree` gave, read from JSON."""
    parts = {
        name: Part(**tree[name] | {"cell_types": tuple(tree[name]["cell_types"])})
        for name in SPLITS
    }
    return Run(**dict(tree) | parts | {"changes": tuple(tree["changes"])})


def choose(stores: Sequence[Store], run: Run) -> list[Store]:
    """Return the stores with only the images of a run, in their splits train, val and test.

    Where no store has test images, all images are split anew by the run's seed; images of one
    well stay together, where the wells are known.

    Raises:
        ValueError: there is nothing to train on, or nothing to test on.
    """
    if not any(r.split == "test" for s in stores for r in s.records):
        stores = _split_anew(stores, run.seed)
    wanted: dict[int, set[str]] = defaultdict(set)
    for split in SPLITS:
        part: Part = getattr(run, split)
        names = (split, "all") if split == "train" else (split,)
        items = [
            (k, record)
            for k, store in enumerate(stores)
            for record in store.records
            if record.split in names
            and (not part.cell_types or record.cell_type in part.cell_types)
        ]
        if not items and split != "val":
            raise ValueError(
                f"run '{run.name}': no images of split '{split}'"
                + (f" of {', '.join(part.cell_types)}" if part.cell_types else "")
                + " in the stores"
            )
        for k, record in _draw(items, part, SPLITS.index(split)):
            wanted[k].add(record.name)
    chosen = [s.subset(r for r in s.records if r.name in wanted[k]) for k, s in enumerate(stores)]
    return [store for store in chosen if len(store)]


def _draw(items: list[tuple[int, Record]], part: Part, number: int) -> list[tuple[int, Record]]:
    """Return every n-th image, then of these a share that is spread evenly over cell types."""
    items = items[part.seed % part.every :: part.every] or items[:1]
    count = max(round(part.fraction * len(items)), min(LEAST, len(items)))
    if count >= len(items):
        return items
    by_type: dict[str, list[tuple[int, Record]]] = defaultdict(list)
    for item in items:
        by_type[item[1].cell_type].append(item)
    rng = np.random.default_rng([part.seed, number])
    ranked = []
    for cell_type in sorted(by_type):
        of_type = by_type[cell_type]
        order = rng.permutation(len(of_type))
        # The first so many by this rank hold each type in proportion to its number of images.
        ranked += [((k + 0.5) / len(of_type), of_type[i]) for k, i in enumerate(order)]
    ranked.sort(key=lambda pair: pair[0])
    return [item for _, item in ranked[:count]]


def _split_anew(stores: Sequence[Store], seed: int) -> list[Store]:
    """Return the stores with splits by a seed; images of one well stay in one split."""
    groups: dict[tuple[Any, ...], list[tuple[int, Record]]] = defaultdict(list)
    for k, store in enumerate(stores):
        for record in store.records:
            groups[(k, *record.together)].append((k, record))
    keys = list(groups)
    order = np.random.default_rng([seed, len(keys)]).permutation(len(keys))
    total, placed = sum(len(s) for s in stores), 0
    split_of: dict[tuple[int, str], str] = {}
    ends = np.cumsum(SHARES)
    for k in order:
        members = groups[keys[k]]
        split = SPLITS[int(np.searchsorted(ends, (placed + len(members) / 2) / total))]
        placed += len(members)
        split_of |= {(place, record.name): split for place, record in members}
    return [
        store.subset(replace(r, split=split_of[k, r.name]) for r in store.records)
        for k, store in enumerate(stores)
    ]
