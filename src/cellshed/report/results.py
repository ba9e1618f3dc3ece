"""Readers of the folders that train and evaluate leave: what the report is drawn from."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cellshed.metrics.overlap import Floats

Tree = dict[str, Any]
FORMAT = 1
"""Of scores.json, as far as it is known here."""


@dataclass(frozen=True)
class Run:
    """A run folder."""

    path: Path
    name: str
    settings: Tree
    """What config.yaml holds."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One entry an epoch; a column that an epoch lacks is missing."""
    environment: Tree = field(default_factory=dict)
    card: Tree = field(default_factory=dict)
    """What model.yaml of the best model holds."""

    def best(self) -> dict[str, float]:
        """Return the epoch that the best model comes from, or else the one of the best F1."""
        epoch = (self.card.get("scores") or {}).get("epoch")
        for row in self.history:
            if epoch is not None and row.get("epoch") == epoch:
                return row
        judged = [row for row in self.history if "val_f1" in row]
        return max(judged, key=lambda row: row["val_f1"], default={})


@dataclass(frozen=True)
class Result:
    """A folder of evaluate."""

    path: Path
    name: str
    scores: Tree
    """What scores.json holds."""

    @property
    def pooled(self) -> Tree:
        """Scores of all images together."""
        pooled: Tree = self.scores["pooled"]
        return pooled

    @property
    def cell_types(self) -> dict[str, Tree]:
        """Scores by cell type."""
        types: dict[str, Tree] = self.scores.get("cell_types") or {}
        return types

    @property
    def images(self) -> list[Tree]:
        """Scores of each image."""
        images: list[Tree] = self.scores["images"]
        return images

    def pictures(self) -> Iterator[tuple[Tree, Path]]:
        """Yield the gallery's entries whose picture is there, and its path within the folder."""
        for entry in self.scores.get("gallery") or []:
            path = self.path / entry["file"]
            if path.is_file() and path.resolve().is_relative_to(self.path.resolve()):
                yield entry, path


def read_folders(paths: Iterable[str | Path]) -> list[Run | Result]:
    """Read run folders and results of evaluate, named so that each name occurs once.

    Raises:
        ValueError: there is none, a folder is neither, or a file in it is damaged.
    """
    found = [read_folder(path) for path in dict.fromkeys(Path(path) for path in paths)]
    if not found:
        raise ValueError("nothing to report on: give run folders or results of cellshed evaluate")
    for depth in range(2, 9):
        often = Counter((type(item), item.name) for item in found)
        found = [
            replace(item, name="/".join(item.path.resolve().parts[-depth:]))
            if often[type(item), item.name] > 1
            else item
            for item in found
        ]
    return found


def read_folder(path: str | Path) -> Run | Result:
    """Read a run folder or a result of evaluate.

    Raises:
        ValueError: it is neither, or a file in it is damaged.
    """
    path = Path(path)
    name = path.resolve().name
    if (path / "scores.json").is_file():
        return Result(path, name, _read_scores(path / "scores.json"))
    if (path / "config.yaml").is_file():
        return Run(
            path,
            name,
            _read_yaml(path / "config.yaml"),
            _read_history(path / "history.csv"),
            _read_json(path / "environment.json"),
            _read_yaml(path / "best" / "model.yaml"),
        )
    what = "no such folder" if not path.exists() else "neither a run folder nor a result"
    raise ValueError(
        f"{path}: {what}; give folders of 'cellshed train' (config.yaml) and 'cellshed evaluate' "
        "(scores.json)"
    )


def _read_scores(path: Path) -> Tree:
    scores = _read_json(path)
    if scores.get("format", FORMAT) != FORMAT:
        raise ValueError(
            f"{path}: format {scores['format']}, not {FORMAT}; evaluate again with this version"
        )
    missing = [key for key in ("pooled", "images") if key not in scores]
    if missing:
        raise ValueError(f"{path}: damaged ('{missing[0]}' is missing); evaluate again")
    return scores


def _read_json(path: Path) -> Tree:
    if not path.is_file():
        return {}
    try:
        tree = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); make it again") from error
    return _as_tree(tree, path)


def _read_yaml(path: Path) -> Tree:
    if not path.is_file():
        return {}
    try:
        tree = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: damaged ({reason}); make it again") from error
    return _as_tree(tree, path)


def _as_tree(tree: Any, path: Path) -> Tree:
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: damaged (no names and values in it); make it again")
    return tree


def _read_history(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        try:
            rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged ({error}); resume the run to mend it") from error
    return [{"epoch": place} | row for place, row in enumerate(rows, 1)]


def images_in_common(first: Tree, second: Tree) -> list[str]:
    """Return the names of the images that two results were scored on alike.

    An image is the same if it has the same name, size and number of true cells in both; at another
    scale, or with other annotations, it isn't.

    Args:
        first: what scores.json holds.
        second: the same for the other result.
    """
    told, other = (
        {i["name"]: (i["height"], i["width"], i["n_true"]) for i in result["images"]}
        for result in (first, second)
    )
    return [name for name, as_seen in told.items() if other.get(name) == as_seen]


def counts_in_common(first: Tree, second: Tree) -> tuple[Floats, Floats]:
    """Return the counts of images that two results were scored on alike, (images, N_COUNTS) each.

    Args:
        first: what scores.json holds.
        second: the same for the other result.
    """
    before, after = (
        {image["name"]: image["counts"] for image in result["images"] if "counts" in image}
        for result in (first, second)
    )
    names = [name for name in images_in_common(first, second) if name in before and name in after]
    return np.array([before[n] for n in names]), np.array([after[n] for n in names])
