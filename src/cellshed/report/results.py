"""Readers of the folders that train and evaluate leave: what the report is drawn from."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """A run folder."""

    path: Path
    name: str
    settings: str
    """config.yaml, as text."""
    history: list[dict[str, float]]
    """One entry an epoch; a column that an epoch lacks is missing."""
    environment: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """A folder of evaluate."""

    path: Path
    name: str
    scores: dict[str, Any]
    """What scores.json holds."""

    def pictures(self) -> list[dict[str, str]]:
        """Return the gallery's entries whose picture is there."""
        entries: list[dict[str, str]] = self.scores.get("gallery", [])
        return [entry for entry in entries if (self.path / entry["file"]).is_file()]


def read_folder(path: str | Path) -> Run | Result:
    """Read a run folder or a result of evaluate.

    Raises:
        ValueError: it is neither, or a file in it is damaged.
    """
    path = Path(path)
    if (path / "scores.json").is_file():
        return Result(path, path.name, _read_json(path / "scores.json"))
    if (path / "config.yaml").is_file():
        environment = path / "environment.json"
        return Run(
            path,
            path.name,
            (path / "config.yaml").read_text("utf-8"),
            _read_history(path / "history.csv"),
            _read_json(environment) if environment.is_file() else {},
        )
    raise ValueError(
        f"{path}: neither a run folder of 'cellshed train' (config.yaml) nor a result of "
        "'cellshed evaluate' (scores.json)"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); make it again") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: damaged (no object); make it again")
    return tree


def _read_history(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        try:
            return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged ({error}); resume the run to mend it") from error
