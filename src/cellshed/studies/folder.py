"""The folder of one run of a study: what it is to do, how far it is, and its result.

run.json says what to do, training/ is the run folder of the training, progress how far it has
come, log.txt what its process printed, error.txt why it failed. result.json is written last: a
run that has one is finished and never touched again.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cellshed.config import validate
from cellshed.data.store import Store, open_store
from cellshed.files import write_text
from cellshed.settings import Config
from cellshed.studies.plan import Run, run_from_tree

FORMAT = 1
WRONG = 2
"""Exit code of a process whose run would fail again: it isn't tried once more."""
_WAIT = 60.0
"""Seconds to wait for a dying process to let go of a folder."""


class RunPlace:
    """Paths and files of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.training = self.path / "training"
        self._task = self.path / "run.json"
        self._result = self.path / "result.json"
        self._progress = self.path / "progress"
        self._error = self.path / "error.txt"
        self.log = self.path / "log.txt"

    @property
    def done(self) -> bool:
        """Whether the run is finished."""
        return self._result.is_file()

    def begin(self, task: Mapping[str, Any]) -> None:
        """Write what is to be done, or check that it is the same as before.

        Raises:
            ValueError: the folder holds a run of other settings.
        """
        self._error.unlink(missing_ok=True)
        if self._task.is_file():
            before, now = self.task(), json.loads(json.dumps(task))
            for key in (before.keys() | now.keys()) - {"max_minutes"}:
                if before.get(key) != now.get(key):
                    raise ValueError(
                        f"{self.path} holds a run with another {key}: choose another --out"
                    )
            if self.done:
                return
        write_text(self._task, json.dumps(task))

    def task(self) -> dict[str, Any]:
        """Return what is to be done."""
        tree: dict[str, Any] = json.loads(self._task.read_text("utf-8"))
        return tree

    def result(self) -> dict[str, Any]:
        """Return the result of a finished run.

        Raises:
            ValueError: it isn't readable.
        """
        try:
            tree: dict[str, Any] = json.loads(self._result.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{self._result}: damaged; remove it and run again") from error
        return tree

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result, then remove what only an unfinished run needs."""
        write_text(self._result, json.dumps({"format": FORMAT, **result}))
        shutil.rmtree(self.training / "last", ignore_errors=True)
        self._progress.unlink(missing_ok=True)
        for left in self.path.rglob(".*.part"):
            with suppress(OSError):
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    def tell(self, share: float) -> None:
        """Note how much of the run is over, from 0 to 1."""
        write_text(self._progress, f"{share:.4f}")

    def share(self) -> float:
        """Return how much of the run is over, from 0 to 1."""
        if self.done:
            return 1.0
        try:
            return float(self._progress.read_text("utf-8"))
        except (OSError, ValueError):
            return 0.0

    def fail(self, message: str) -> None:
        """Note why the run failed."""
        write_text(self._error, message + "\n")

    def failure(self) -> str:
        """Return why the run failed: its own word, or the end of its log."""
        if self._error.is_file():
            return self._error.read_text("utf-8").strip()
        lines = (
            self.log.read_text("utf-8", errors="replace").split("\n") if self.log.exists() else []
        )
        said = [line.strip() for line in lines if line.strip()]
        return said[-1] if said else "its process ended without a word"

    @contextmanager
    def locked(self, wait: float = _WAIT) -> Iterator[bool]:
        """Hold the folder for this process; the lock goes with the process, however it ends.

        Args:
            wait: seconds to wait for another process to let go.

        Yields:
            Whether it is held; False on a system that has no such locks.

        Raises:
            OSError: another process holds it and doesn't let go.
        """
        try:
            import fcntl
        except ImportError:
            yield False
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as file:
            until = time.monotonic() + wait
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > until:
                        raise OSError(f"{self.path}: another process works on it") from error
                    time.sleep(0.1)
            yield True


def task_of(run: Run, config: Config, stores: tuple[Store, ...], **more: Any) -> dict[str, Any]:
    """Return all that a worker must know to do a run.

    Args:
        run: of a study.
        config: its settings.
        stores: opened; their paths must lead to them on every machine that works on the study.
        more: "study", "tune" (whether to score with tuned thresholds too), "max_minutes".
    """
    return {
        "kind": "run",
        **more,
        "run": run.as_tree(),
        "config": config.model_dump(mode="json"),
        "stores": describe_stores(stores),
    }


def describe_stores(stores: tuple[Store, ...]) -> list[dict[str, str]]:
    """Return path and fingerprint of each store."""
    return [{"path": str(store.path.resolve()), "hash": store.hash} for store in stores]


def read_task(task: Mapping[str, Any]) -> tuple[Run, Config, list[Store]]:
    """Return run, settings and opened stores of what task_of gave.

    Raises:
        ValueError: a store has changed.
    """
    stores = [open_store(entry["path"]) for entry in task["stores"]]
    for store, entry in zip(stores, task["stores"], strict=True):
        if store.hash != entry["hash"]:
            raise ValueError(f"{store.path} has changed since the study began: begin a new one")
    return run_from_tree(task["run"]), validate(Config, task["config"], "run.json"), stores
