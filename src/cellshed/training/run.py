"""The run folder: settings as run, history, environment, TensorBoard events, checkpoints."""

import json
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cellshed.config import load_config, to_yaml
from cellshed.files import whole_file, write_text
from cellshed.settings import Config

Row = dict[str, float]
_MAY_CHANGE = ("training.epochs", "training.max_minutes", "training.patience")
"""How long to train may be settled anew when a run is resumed."""


@dataclass(frozen=True)
class Status:
    """What a training run tells of itself after each step and each epoch."""

    epoch: int
    """Epochs finished."""
    epochs: int
    step: int
    """Steps finished within the epoch."""
    steps: int
    loss: float
    seconds: float
    """Time spent on the run, earlier sittings included."""
    seconds_left: float
    row: Row | None = None
    """The epoch's line of history.csv, once it is finished."""


@dataclass
class State:
    """How far a run has come; all that a checkpoint keeps besides tensors."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float = float("-inf")
    best_epoch: int = 0
    validations_since_best: int = 0
    history: list[Row] = field(default_factory=list)
    images: str = ""
    """Digest of what is trained on and chosen by."""
    models: list[str] = field(default_factory=list)
    """Digests of the weights that it started from, if any, and of its teachers'."""


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.best = self.path / "best"
        self.last = self.path / "last"
        self._state = self.path / "last" / "state.pt"
        self._events: Any = None

    def begin(self, config: Config, precision: str, *, resume: bool) -> None:
        """Make the folder, or check that it can be gone on with.

        Args:
            config: the settings.
            precision: what training.precision comes to on this machine.
            resume: a run that is there is gone on with.

        Raises:
            ValueError: it exists and `resume` isn't set, or was made with other settings.
        """
        file = self.path / "config.yaml"
        if file.is_file():
            if not resume:
                raise ValueError(f"{self.path} holds a run already: --resume goes on with it")
            _same_settings(load_config(file), config, self.path)
            write_text(file, to_yaml(config))
            return
        if self.path.exists() and any(self.path.iterdir()):
            raise ValueError(f"{self.path} exists and is not a run: choose another name")
        self.path.mkdir(parents=True, exist_ok=True)
        told = environment() | {"precision": precision}
        write_text(self.path / "environment.json", json.dumps(told, indent=1))
        write_text(file, to_yaml(config))

    def write_history(self, rows: list[Row]) -> None:
        """Write history.csv, one line an epoch, whole."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines = [",".join(names)]
        lines += [",".join(_cell(row.get(name)) for name in names) for row in rows]
        write_text(self.path / "history.csv", "\n".join(lines) + "\n")

    def write_events(self, row: Row, step: int) -> None:
        """Add an epoch's results to the TensorBoard events.

        Those of the lost part of an interrupted run are purged.
        """
        if self._events is None:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(self.path / "events"), purge_step=step)
        for name, value in row.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()

    def close(self) -> None:
        """Close the events file."""
        if self._events is not None:
            self._events.close()

    def save_state(self, tensors: dict[str, Any], state: State) -> None:
        """Write the checkpoint that --resume starts from."""
        with whole_file(self._state) as temporary:
            torch.save(tensors | {"state": vars(state)}, temporary)

    def load_state(self) -> tuple[dict[str, Any], State] | None:
        """Read the checkpoint; None when the run has none yet. Runs no code from the file."""
        if not self._state.is_file():
            return None
        try:
            tensors = torch.load(self._state, map_location="cpu", weights_only=True)
            return tensors, State(**tensors.pop("state"))
        except Exception as error:
            raise ValueError(
                f"{self._state}: not a checkpoint that can be gone on with ({error}); "
                "start a new run"
            ) from error


def environment() -> dict[str, Any]:
    """Return what a run depends on besides its settings."""
    names = ("cellshed", "torch", "timm", "numpy", "numba", "scikit-image", "accelerate")
    return {
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "packages": {name: version(name) for name in names},
        "commit": commit(),
        "command": " ".join(["cellshed", *sys.argv[1:]]),
    }


def commit() -> str:
    """Return the commit of the checkout that the program runs from, "-dirty" if it was changed.

    "unknown" where it runs from an installed package, or there is no git.
    """
    here = Path(__file__).parent
    words = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        known = subprocess.run(
            ["git", "-C", str(here), "ls-files", "--error-unmatch", __file__],
            capture_output=True,
            check=False,
        )
        if known.returncode:
            return "unknown"
        found = subprocess.run([*words, "--exclude=*"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def read_environment(run: Path) -> dict[str, Any]:
    """Return what `environment` told when a run began; empty if the run doesn't say."""
    path = run / "environment.json"
    if not path.is_file():
        return {}
    told: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return told


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _same_settings(before: Config, now: Config, path: Path) -> None:
    old, new = _flat(before.model_dump()), _flat(now.model_dump())
    for name in old.keys() | new.keys():
        if name not in _MAY_CHANGE and old.get(name) != new.get(name):
            raise ValueError(
                f"{path} was made with {name} = {old.get(name)}, now it is {new.get(name)}: "
                "resume with the same settings, or start a new run"
            )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def value_of(row: Row, select: str) -> float | None:
    """Return what training.select wants to be as large as can be; None without validation."""
    if "val_f1" not in row:
        return None
    values = {"f1": row["val_f1"], "loss": -row["val_loss"], "last": row["epoch"]}
    return values[select]
