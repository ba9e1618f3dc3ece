"""A study from its plan to its report: do the runs that aren't done, then table, figures, page."""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from cellshed.config import load_config
from cellshed.data.store import Store, open_store
from cellshed.files import write_text
from cellshed.report.study_page import write_study_page
from cellshed.settings import Config
from cellshed.spelling import nearest
from cellshed.studies.folder import RunPlace, describe_stores, task_of
from cellshed.studies.paper import STUDIES
from cellshed.studies.plan import SPLITS, Context, Run
from cellshed.studies.pools import Pool
from cellshed.studies.table import build_table, write_table

PRESET = "reference"
_FOR_TRAINING = 0.7
"""Share of a budget in minutes that goes into training; the rest starts processes and scores."""


@dataclass(frozen=True)
class Options:
    """What the user may decide about a study; all that isn't given is as in the paper."""

    preset: str = PRESET
    changes: tuple[str, ...] = ()
    """Settings of all runs that differ from the preset's, as in --set."""
    seeds: int | None = None
    fraction: float | None = None
    only: tuple[str, ...] = ()
    """Patterns of the names of runs to do; empty: all."""
    budget: str = ""
    """Such as 60min, for the whole study, or 5epochs, for each run."""
    tune: bool = False
    """Score each run with thresholds tuned on its validation images too."""


@dataclass(frozen=True)
class Plan:
    """A study, settled."""

    name: str
    options: Options
    stores: tuple[Store, ...]
    config: Config
    runs: tuple[Run, ...]
    names: tuple[str, ...]
    """Of all runs of the study, also of those that aren't wanted now."""
    minutes: float = 0.0
    """Budget for the whole study; 0: none."""

    def as_tree(self) -> dict[str, Any]:
        """Return what must stay the same for the study to be gone on with."""
        return {
            "study": self.name,
            "options": asdict(self.options),
            "config": self.config.model_dump(mode="json"),
            "stores": describe_stores(self.stores),
            "runs": list(self.names),
        }


@dataclass(frozen=True)
class Standing:
    """How far a study is."""

    done: int
    total: int
    share: float
    """Of all runs together, from 0 to 1, those counted that are under way."""


Listener = Callable[[Standing], None]


def plan_study(name: str, data: Sequence[str | Path], options: Options) -> Plan:
    """Settle a study: its settings and its runs.

    Args:
        name: one of STUDIES.
        data: stores.
        options: what the user has decided.

    Raises:
        ValueError: unknown names, settings that the study itself varies, no run that matches.
    """
    if name not in STUDIES:
        raise ValueError(f"unknown study '{name}'; {nearest(name, [*STUDIES, 'search'])}")
    study = STUDIES[name]
    stores = tuple(open_store(path) for path in data)
    config, minutes = settle(options)
    records = [record for store in stores for record in store.records]
    taught = {"train", "all"} if any(r.split == "test" for r in records) else set(SPLITS) | {"all"}
    types = {r.cell_type for r in records if r.split in taught} - {""}
    context = Context(
        stores,
        config,
        study.seeds if options.seeds is None else options.seeds,
        study.fraction if options.fraction is None else options.fraction,
        tuple(sorted(types)),
    )
    runs = tuple(study.plan(context))
    if not runs:
        raise ValueError(f"study '{name}': nothing to run; it needs cell types in the stores")
    _refuse_varied(runs, options.changes)
    names = tuple(run.name for run in runs)
    if options.only:
        runs = tuple(r for r in runs if any(fnmatch(r.name, p) for p in options.only))
        if not runs:
            raise ValueError(f"no run is named {' or '.join(options.only)}; see --dry-run")
    return Plan(name, options, stores, config, runs, names, minutes)


def settle(options: Options) -> tuple[Config, float]:
    """Return the settings of all runs, and the minutes for the whole study (0: no limit).

    Raises:
        ValueError: unknown settings, or a budget that can't be read.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(min|minutes?|epochs?)", options.budget.strip())
    if options.budget and not match:
        raise ValueError(
            f"budget '{options.budget}': write minutes for the study as 60min, or epochs of each "
            "run as 5epochs"
        )
    changes = list(options.changes)
    minutes = 0.0
    if match and match[2].startswith("min"):
        minutes = float(match[1])
    elif match:
        changes.append(f"training.epochs={match[1]}")
    return load_config(options.preset, changes), minutes


def run_study(
    plan: Plan, out: str | Path, pool: Pool, *, jobs: int = 1, progress: Listener | None = None
) -> dict[str, str]:
    """Do the runs of a study that aren't done yet, then write table, figures and report.

    Args:
        plan: of plan_study.
        out: folder of the study; one that holds some of its runs already is gone on with.
        pool: who does the runs.
        jobs: runs at a time, by which a budget in minutes is shared out.
        progress: called with how far the study is.

    Returns:
        The runs that failed, and why.

    Raises:
        ValueError: the folder holds something else, or no run is finished.
    """
    out = Path(out)
    begin(out, plan.as_tree())
    places = {run.name: RunPlace(out / "runs" / run.name) for run in plan.runs}
    rounds = math.ceil(len(plan.runs) / jobs)
    minutes = _FOR_TRAINING * plan.minutes / rounds
    for run in plan.runs:
        places[run.name].begin(
            task_of(
                run,
                run.config(plan.config),
                plan.stores,
                study=plan.name,
                tune=plan.options.tune,
                max_minutes=minutes,
            )
        )

    def watch() -> None:
        if progress is not None:
            shares = [place.share() for place in places.values()]
            done = sum(place.done for place in places.values())
            progress(Standing(done, len(shares), sum(shares) / len(shares)))

    watch()
    waiting = [place.path for place in places.values() if not place.done]
    failed = pool.run(waiting, watch) if waiting else {}
    watch()
    write_results(out)
    return {folder.name: why for folder, why in failed.items()}


def begin(out: Path, tree: dict[str, Any]) -> None:
    """Make the folder of a study, or check that it can be gone on with.

    Raises:
        ValueError: it holds something else, or a study of other settings.
    """
    file = out / "study.json"
    if file.is_file():
        before, now = json.loads(file.read_text("utf-8")), json.loads(json.dumps(tree))
        for kept in (before, now):
            kept["options"].pop("only")
        differing = next((key for key in now if before.get(key) != now[key]), None)
        if differing is not None:
            raise ValueError(
                f"{out} holds a study with another {differing}: give the same options to go on "
                "with it, or choose another --out"
            )
    elif out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} exists and is not a study: choose another name")
    write_text(file, json.dumps(tree, indent=1))


def write_results(out: str | Path) -> None:
    """Write table, figures and report of what is finished of a study.

    Raises:
        ValueError: nothing is.
    """
    out = Path(out)
    tree = json.loads((out / "study.json").read_text("utf-8"))
    places = [RunPlace(path) for path in (out / "runs").iterdir()]
    results = [place.result() for place in places if place.done]
    if not results:
        first = next((place.failure() for place in places if not place.done), "nothing was begun")
        raise ValueError(f"{out}: no run is finished; {first}")
    places_of = {name: k for k, name in enumerate(tree["runs"])}
    names = [result["task"]["run"]["name"] for result in results]
    order = sorted(range(len(names)), key=lambda k: (places_of.get(names[k], 0), names[k]))
    results = [results[k] for k in order]
    table = build_table(results)
    whole = write_table(table, out)
    write_study_page(table, tree | {"unfinished": len(places) - len(results)}, out)
    if not whole:
        (out / "results.parquet").unlink(missing_ok=True)


def _refuse_varied(runs: Sequence[Run], changes: Sequence[str]) -> None:
    varied = {change.partition("=")[0] for run in runs for change in run.changes}
    for change in changes:
        name = change.partition("=")[0].strip()
        if name in varied:
            raise ValueError(f"--set {change}: this study settles {name} itself, run by run")
