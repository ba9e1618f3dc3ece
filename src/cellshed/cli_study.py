"""The verb `study`. Heavy imports stand inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellshed.cli_options import Overrides

if TYPE_CHECKING:
    from cellshed.studies.pools import Pool
    from cellshed.studies.runner import Options, Plan, Standing

_NAMES = "transforms, cell-types, backbones, dataset-size, levels or search"


def study(
    name: Annotated[str, typer.Argument(help=f"{_NAMES}.")],
    data: Annotated[list[Path], typer.Option(help="A store; repeat for several.")],
    out: Annotated[Path, typer.Option(help="Folder of the study; one begun is gone on with.")],
    preset: Annotated[
        str, typer.Option(help="Settings of all runs: reference (the paper's), cpu, or a file.")
    ] = "reference",
    changes: Overrides = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Repetitions of each run, with other images.")
    ] = None,
    fraction: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Share of each split's images, 24 at the least."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only runs of such names, e.g. 'resnet50*'; repeat for several."),
    ] = None,
    budget: Annotated[
        str, typer.Option(help="60min for the whole study, or 5epochs for each run.")
    ] = "",
    tune: Annotated[
        bool, typer.Option(help="Score with thresholds tuned on val too, run by run.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time on this machine.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of each run; default: an even share.")
    ] = None,
    dask: Annotated[
        str, typer.Option(help="Address of a Dask scheduler whose workers do the runs.")
    ] = "",
    trials: Annotated[int, typer.Option(min=1, help="search: how many.")] = 30,
    storage: Annotated[
        str, typer.Option(help="search: a database's URL, for workers on several machines.")
    ] = "",
    dry_run: Annotated[bool, typer.Option(help="Show the plan and how long it may take.")] = False,
) -> None:
    """Run one of the paper's experiments; an interrupted one goes on where it was."""
    from cellshed.studies.pools import DaskPool, LocalPool
    from cellshed.studies.runner import Options

    options = Options(
        preset, tuple(changes or ()), seeds, fraction, tuple(only or ()), budget, tune
    )
    pool = DaskPool(dask, threads) if dask else LocalPool(jobs, threads)
    if name == "search":
        _search(data, out, options, pool, (trials, storage, jobs, dry_run))
        return
    from cellshed.studies.runner import plan_study, run_study

    plan = plan_study(name, data, options)
    if dry_run:
        _show_plan(plan, jobs, threads)
        return
    with _display() as progress:
        failed = run_study(plan, out, pool, jobs=jobs, progress=progress)
    _close(out, failed)


def _search(
    data: list[Path],
    out: Path,
    options: Options,
    pool: Pool,
    more: tuple[int, str, int, bool],
) -> None:
    from cellshed.console import say
    from cellshed.studies.searching import CHOICES, EPOCHS, LR, Search, run_search

    trials, storage, jobs, dry_run = more
    if dry_run:
        say(f"{trials} trials of:")
        say(f"  training.lr: {LR[0]:g} to {LR[1]:g}, on a logarithmic scale")
        say(f"  training.epochs: the preset's times {', '.join(map(str, EPOCHS))}")
        for name, values in CHOICES.items():
            say(f"  {name}: {', '.join(map(str, values))}")
        return
    search = Search(tuple(map(str, data)), options, trials, storage)
    with _display() as progress:
        failed = run_search(search, out, pool, seats=jobs, progress=progress)
    _close(out, failed)


def _show_plan(plan: Plan, jobs: int, threads: int | None) -> None:
    from cellshed.console import say
    from cellshed.progress import duration
    from cellshed.studies.estimate import estimate
    from cellshed.studies.plan import choose
    from cellshed.studies.pools import LocalPool
    from cellshed.training.split import of_splits

    share = LocalPool(jobs, threads).threads
    seconds = estimate(plan.runs, plan.config, plan.stores, threads=share)
    for run, took in zip(plan.runs, seconds, strict=True):
        parts = choose(plan.stores, run)
        counts = [sum(map(len, of_splits(parts, *names))) for names in
                  (("train", "all"), ("val",), ("test",))]  # fmt: skip
        say(f"{run.name}: {counts[0]} + {counts[1]} + {counts[2]} images, {duration(took)}")
    total = sum(seconds) / jobs
    if plan.minutes:
        total = min(total, 60 * plan.minutes)
    say(
        f"{len(plan.runs)} runs (images: train + val + test), {jobs} at a time with {share} "
        f"threads each on this machine: about {duration(total)}, by a step or two of each network"
    )


def _close(out: Path, failed: dict[str, str]) -> None:
    from cellshed.console import say, warn

    for run, why in failed.items():
        warn(f"{run}: {why}")
    say(f"{out}: results.csv, results.parquet, figures/ and report.html")
    if not (out / "results.parquet").is_file():
        warn("no results.parquet: pip install 'cellshed[study]' for it")
    if failed:
        raise typer.Exit(1)


@contextmanager
def _display() -> Iterator[Callable[[Standing], None]]:
    """Show how far all runs together are."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from cellshed.console import err

    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=err) as display:
        task = display.add_task("planning", total=1.0)

        def show(now: Standing) -> None:
            words = f"{now.done} of {now.total} runs done"
            display.update(task, description=words, completed=now.share)

        yield show
