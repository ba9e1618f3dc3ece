"""Search of training settings by Optuna: several workers share one storage and stop bad trials.

Each trial is a run in a folder of its own, named by its settings. A trial whose worker was killed
is queued again; its new worker finds the folder and goes on with the training. Not so on Windows,
where nothing tells a killed worker from a living one.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from cellshed.data.store import Store, open_store
from cellshed.settings import Config
from cellshed.studies.folder import RunPlace, describe_stores, task_of
from cellshed.studies.plan import Part, Run
from cellshed.studies.pools import Pool
from cellshed.studies.runner import Listener, Options, Standing, begin, settle, write_results
from cellshed.training.optimizers import WITHOUT_DECAY

TRIALS = 30
FRACTION = 0.05
LR = (1e-4, 1e-2)
CHOICES: dict[str, tuple[Any, ...]] = {
    "training.optimizer": ("adam", "adamw", "sgd", "keras-adam"),
    "training.schedule": ("constant", "exponential", "cosine", "one-cycle"),
    "training.batch_size": (2, 4, 8),
    "training.clip": ("none", "global", "variable"),
    "training.weight_decay": (0.0, 1e-4, 1e-2),
    "training.ema": (0.0, 0.95, 0.99),
}
"""Settings that are tried, besides the learning rate and the number of epochs."""
EPOCHS = (0.5, 1.0, 2.0)
"""Factors of the preset's number of epochs."""
_UNPRUNED = 4
"""Trials that are let through before others are measured by them."""
_NAME = "search"


@dataclass(frozen=True)
class Search:
    """What is searched, and where workers meet."""

    data: tuple[str, ...]
    options: Options
    trials: int = TRIALS
    storage: str = ""
    """URL of a database that Optuna knows; empty: a journal file in the study's folder."""


def run_search(
    search: Search, out: str | Path, pool: Pool, *, seats: int = 1, progress: Listener | None = None
) -> dict[str, str]:
    """Search until there are so many trials, then write table, figures and report.

    Args:
        search: what is searched.
        out: folder of the study; one that holds trials already is gone on with. Several
            commands may work on one folder, or on one database from folders of their own.
        pool: who does the trials.
        seats: workers that take trial after trial.
        progress: called with how far it is.

    Returns:
        The workers that failed, and why.

    Raises:
        ValueError: options don't fit, Optuna isn't installed, or no trial was finished.
    """
    _import_optuna()
    out = Path(out)
    config, minutes = settle(search.options)
    stores = tuple(open_store(path) for path in search.data)
    begin(
        out,
        {
            "study": _NAME,
            "options": {**vars(search.options), "storage": search.storage},
            "config": config.model_dump(mode="json"),
            "stores": describe_stores(stores),
            "runs": [],
        },
    )
    meeting = {"storage": search.storage, "name": _study_name(config, stores)}
    task = {
        "kind": "search",
        "data": [str(store.path.resolve()) for store in stores],
        "options": vars(search.options),
        "meeting": meeting,
        "max_minutes": minutes,
        "trials": search.trials,
        "out": str(out.resolve()),
    }
    places = [RunPlace(out / "seats" / f"{k}-of-{search.trials}") for k in range(seats)]
    for seat, place in enumerate(places):
        place.begin(task | {"seat": seat})
    study = _open(meeting, out, config.training.seed)

    def watch() -> None:
        if progress is not None:
            done = min(_finished(study), search.trials)
            progress(Standing(done, search.trials, done / search.trials))

    watch()
    waiting = [place.path for place in places if not place.done]
    failed = pool.run(waiting, watch) if _finished(study) < search.trials else {}
    watch()
    write_results(out)
    return {folder.name: why for folder, why in failed.items()}


def take_seat(place: RunPlace) -> None:
    """Take trial after trial until there are enough of them; the body of a worker."""
    import time

    optuna = _import_optuna()
    task = place.task()
    out, options = Path(task["out"]), _options(task["options"])
    config, _ = settle(options)
    study = _open(task["meeting"], out, config.training.seed + task["seat"])
    requeue_dead(study, out)
    until = time.monotonic() + 60 * task["max_minutes"] if task["max_minutes"] else float("inf")
    while _finished(study, running=True) < task["trials"] and time.monotonic() < until:
        trial = study.ask()
        try:
            value = _try(trial, config, task, out)
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        except (FloatingPointError, ValueError) as error:
            trial.set_user_attr("error", " ".join(str(error).split()))
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            if isinstance(error, ValueError):  # every other trial would fail alike
                raise
        else:
            study.tell(trial, value)
    place.finish({"task": task})


def suggest(trial: Any, config: Config) -> dict[str, Any]:
    """Return a trial's settings, by their names in --set."""
    epochs = sorted({max(1, round(factor * config.training.epochs)) for factor in EPOCHS})
    chosen: dict[str, Any] = {
        "training.lr": trial.suggest_float("training.lr", *LR, log=True),
        "training.epochs": trial.suggest_categorical("training.epochs", epochs),
    }
    for name, values in CHOICES.items():
        if name == "training.weight_decay" and chosen["training.optimizer"] in WITHOUT_DECAY:
            chosen[name] = 0.0
        else:
            chosen[name] = trial.suggest_categorical(name, list(values))
    return chosen


def requeue_dead(study: Any, out: Path) -> int:
    """Queue trials again whose worker has died; return how many."""
    optuna = _import_optuna()
    dead = 0
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        folder = trial.user_attrs.get("folder")
        if folder is None or not (out / "runs" / folder).is_dir() or _held(out / "runs" / folder):
            continue
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
        dead += 1
    return dead


def _try(trial: Any, config: Config, task: dict[str, Any], out: Path) -> float:
    """Do a trial in its folder; return the best object F1 on val."""
    from cellshed.studies.execute import execute, unscored

    chosen = suggest(trial, config)
    digest = sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:10]
    name = f"trial-{digest}"
    trial.set_user_attr("folder", name)
    fraction = task["options"]["fraction"]
    part = Part(FRACTION if fraction is None else fraction)
    run = Run(
        name=name,
        group=name,
        seed=config.training.seed,
        factors={setting.partition(".")[2]: value for setting, value in chosen.items()},
        changes=tuple(f"{setting}={value}" for setting, value in chosen.items()),
        train=part,
        val=part,
        test=part,
    )
    place = RunPlace(out / "runs" / name)
    stores = tuple(open_store(path) for path in task["data"])
    with place.locked():
        if not place.done:
            tune = task["options"]["tune"]
            settings = run.config(config)
            place.begin(task_of(run, settings, stores, study=_NAME, tune=tune))
            try:
                execute(place.path, _Pruner(trial))
            except _import_optuna().TrialPruned:
                place.finish(unscored(place))
                raise
        result = place.result()
        if result.get("pruned"):
            raise _import_optuna().TrialPruned
        return max(float(row["val_f1"]) for row in result["history"] if "val_f1" in row)


class _Pruner:
    """Tells Optuna of each validation, and ends a trial that does badly."""

    def __init__(self, trial: Any) -> None:
        self.trial = trial

    def __call__(self, now: Any) -> None:
        if now.row is None or "val_f1" not in now.row:
            return
        self.trial.report(now.row["val_f1"], int(now.row["epoch"]))
        if self.trial.should_prune():
            raise _import_optuna().TrialPruned


def _finished(study: Any, *, running: bool = False) -> int:
    states = ["COMPLETE", "PRUNED"] + (["RUNNING"] if running else [])
    return sum(trial.state.name in states for trial in study.get_trials(deepcopy=False))


def _open(meeting: dict[str, str], out: Path, seed: int) -> Any:
    optuna = _import_optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage: Any = meeting["storage"]
    if not storage:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        storage = JournalStorage(JournalFileBackend(str(out / "search.journal")))
    study = optuna.create_study(
        storage=storage,
        study_name=meeting["name"],
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(_UNPRUNED, n_min_trials=_UNPRUNED),
    )
    # Another seed at each sitting, or those that go on would propose again what was tried.
    begun = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed + 1000 * begun)
    return study


def _study_name(config: Config, stores: Sequence[Store]) -> str:
    """Name a search after its settings and data, so that only equal ones meet in a database."""
    text = config.model_dump_json() + "".join(store.hash for store in stores)
    return f"cellshed-{sha256(text.encode()).hexdigest()[:10]}"


def _held(folder: Path) -> bool:
    """Tell whether a living process works in a folder; where there are no locks, it may."""
    try:
        with RunPlace(folder).locked(wait=0.0) as mine:
            return not mine
    except OSError:
        return True


def _options(tree: dict[str, Any]) -> Options:
    return replace(Options(**tree), changes=tuple(tree["changes"]), only=tuple(tree["only"]))


def _import_optuna() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import optuna
    except ImportError as error:
        raise ValueError("study search needs Optuna: pip install 'cellshed[search]'") from error
    return optuna
