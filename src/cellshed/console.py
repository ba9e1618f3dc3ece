"""What the command line shows: progress bars, results and one-line errors."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from cellshed.progress import duration

if TYPE_CHECKING:
    from cellshed.training.run import Status

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line for the user."""
    out.print(text, markup=False)


def warn(text: str) -> None:
    """Print a warning to standard error."""
    err.print(f"warning: {text}", markup=False)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print warnings meant for users as one line each, without the place in the code."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if category is UserWarning:
                warn(str(message))
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def fail(error: BaseException, code: int) -> NoReturn:
    """Print one line that names the cause, and leave with an exit code."""
    if os.environ.get("CELLSHED_TRACEBACK"):
        err.print_exception()
    err.print(f"error: {_one_line(error)}", markup=False)
    sys.exit(code)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def bar(description: str, *, unit: str = "items") -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; yields the callback (done, total) that moves it.

    Args:
        description: what is going on.
        unit: "items", or "bytes" for amounts and rates of data.
    """
    columns: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),)
    if unit == "bytes":
        columns = (DownloadColumn(), TransferSpeedColumn())
    with Progress(
        TextColumn("{task.description}"), BarColumn(), *columns, TimeRemainingColumn(), console=err
    ) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def training_display() -> Iterator[Callable[[Status], None]]:
    """Show a training run: a bar with loss and time left, and a line an epoch."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}, {task.fields[left]} left"),
        console=err,
    ) as display:
        task = display.add_task("training", total=None, loss=float("nan"), left="?")

        def show(now: Status) -> None:
            if now.row is not None:
                display.console.print(_epoch_line(now.row), markup=False)
            display.update(
                task,
                description=f"epoch {min(now.epoch + 1, now.epochs)}/{now.epochs}",
                completed=now.step,
                total=now.steps,
                loss=now.loss,
                left=duration(now.seconds_left),
            )

        yield show


def _epoch_line(row: dict[str, float]) -> str:
    parts = [f"epoch {row['epoch']:.0f}" if "loss" in row else "before training"]
    if "loss" in row:
        parts.append(f"loss {row['loss']:.4f}")
    if "val_f1" in row:
        parts.append(f"val loss {row['val_loss']:.4f}")
        parts.append(f"val object F1 at IoU 0.5 {row['val_f1']:.3f}")
    parts.append(duration(row["seconds"]))
    return ", ".join(parts)
