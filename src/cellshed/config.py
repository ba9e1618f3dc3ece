"""Settings from YAML, with `a.b=c` overrides, and back to YAML.

An unknown key is an error that offers the nearest name.
"""

from collections.abc import Iterable, Mapping
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cellshed.settings import Config, Settings
from cellshed.spelling import nearest

S = TypeVar("S", bound=Settings)


def presets() -> list[str]:
    """Return the names of the settings files that ship with cellshed."""
    folder = package_files("cellshed") / "presets"
    return sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_config(source: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read settings from a YAML file or a shipped preset, then apply `a.b=c` overrides.

    Args:
        source: path of a YAML file, or one of `presets()`.
        overrides: such as "training.lr=3e-4"; values are read as YAML.

    Raises:
        ValueError: an unknown file, key or value, named together with the remedy.
    """
    return parse_config(_read_text(source), overrides, where=str(source))


def parse_config(text: str, overrides: Iterable[str] = (), *, where: str = "settings") -> Config:
    """Like load_config, from YAML text."""
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: not readable as YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(tree, dict):
        raise ValueError(
            f"{where}: expected sections such as 'model:', found {type(tree).__name__}"
        )
    for item in overrides:
        _apply_override(tree, item)
    return validate(Config, tree, where)


def to_yaml(settings: BaseModel) -> str:
    """Return settings as YAML, keys in the order of their definition."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def with_overrides(settings: S, changes: Mapping[str, Any], where: str) -> S:
    """Return settings with some fields changed, checked as if read from a file."""
    return validate(type(settings), settings.model_dump() | dict(changes), where)


def validate(kind: type[S], tree: Mapping[str, Any], where: str) -> S:
    """Build settings of a kind; turn what is wrong into one line with the remedy."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ValueError(f"{where}: {_first_problem(kind, error)}") from error


def _read_text(source: str | Path) -> str:
    path = Path(source)
    if path.is_file():
        return path.read_text(encoding="utf-8")
    if str(source) in presets():
        return (package_files("cellshed") / "presets" / f"{source}.yaml").read_text("utf-8")
    hint = nearest(str(source), presets())
    raise ValueError(f"no settings file '{source}', and no preset of that name; {hint}")


def _apply_override(tree: dict[str, Any], item: str) -> None:
    key, equals, value = item.partition("=")
    if not equals or not key:
        raise ValueError(f"--set {item}: write it as section.name=value, e.g. training.lr=3e-4")
    *sections, name = key.strip().split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ValueError(f"--set {item}: '{section}' is a value, not a section")
    tree[name] = _scalar(value)


def _scalar(text: str) -> Any:
    """Read a value as YAML does, but 3e-4 as the number that everyone means."""
    value = yaml.safe_load(text)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _first_problem(kind: type[BaseModel], error: ValidationError) -> str:
    problem = error.errors()[0]
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        section = _section_at(kind, problem["loc"][:-1])
        return f"unknown setting '{path}'; {nearest(str(problem['loc'][-1]), section.model_fields)}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{path} = {problem['input']!r}: {message}" if path else message


def _section_at(kind: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel]:
    for part in path:
        annotation = kind.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        kind = annotation
    return kind
