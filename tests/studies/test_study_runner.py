"""Studies end to end: every run once, whatever is killed, and one table from which all is drawn."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch

from cellshed.config import load_config
from cellshed.data.prepare import prepare
from cellshed.data.store import Store
from cellshed.data.synthetic import write_synthetic
from cellshed.studies.folder import RunPlace
from cellshed.studies.paper import STUDIES
from cellshed.studies.pools import DaskPool, LocalPool
from cellshed.studies.runner import Options, Standing, plan_study, run_study, settle
from cellshed.studies.table import build_table

QUICK = (
    "training.epochs=1",
    "training.steps_per_epoch=1",
    "training.val_images=1",
    "training.device=cpu",
    "training.workers=0",
)
ONLY = {
    "transforms": ("inner_distance+pixelwise-0", "pixelwise-0"),
    "cell-types": ("*-0",),
    "backbones": ("featurenet-0",),
    "dataset-size": ("2percent-0", "50percent-0", "100percent-0"),
    "levels": ("C2-C3*",),
}
"""Runs of each study that are tried; of a new one, all of its first seed."""

WORKER = """
import os, select, sys, time
folder, ledger = sys.argv[2], sys.argv[1]
if select.select([0], [], [], 0.1)[0]:
    sys.exit(3)
with open(ledger, "a") as file:
    file.write(folder + "\\n")
with open(folder + "/part", "w") as file:
    file.write("{}")
os.replace(folder + "/part", folder + "/result.json")
"""


class Here:
    """Does runs in this process, one after another."""

    def run(self, folders: Sequence[Path], watch: Callable[[], None]) -> dict[Path, str]:
        from cellshed.studies.execute import execute

        for folder in folders:
            execute(folder)
            watch()
        return {}


@pytest.fixture(scope="module")
def two_types(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("two-types")
    write_synthetic(
        folder / "drawn", images=10, seed=1, shape=(96, 96), morphologies=("round", "plump")
    )
    return prepare(folder / "drawn", folder / "store")


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_leaves_a_table_figures_and_a_page(
    name: str, two_types: Store, tmp_path: Path
) -> None:
    only = ONLY.get(name, ("*-0",))
    changes = (*QUICK, "predict.zoom=1.25") if name == "levels" else QUICK
    options = Options("debug", changes, seeds=1, only=only, tune=name == "levels")
    plan = plan_study(name, [two_types.path], options)
    standings: list[Standing] = []
    out = tmp_path / "study"
    assert run_study(plan, out, Here(), progress=standings.append) == {}
    table = pd.read_parquet(out / "results.parquet")
    assert set(table["run"]) == {run.name for run in plan.runs}
    assert list(table["run"].unique()) == [run.name for run in plan.runs]
    pixel_f1 = table[(table["metric"] == "pixel.f1") & (table["cell_type"] == "")]
    assert len(pixel_f1) == len(plan.runs) * (2 if options.tune else 1)
    assert {"test", "val", "train", "data", "cost"} == set(table["set"])
    assert pd.read_csv(out / "results.csv").shape == table.shape
    page = (out / "report.html").read_text()
    assert "What was found" in page
    drawn = {path.suffix for path in (out / "figures").iterdir()}
    assert drawn == {".png", ".svg"}
    assert standings[-1].share == 1


def test_what_is_done_is_not_done_again_and_other_settings_are_refused(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cellshed.studies.runner.write_results", lambda out: None)
    done: list[str] = []

    class Fake:
        def run(self, folders: Sequence[Path], watch: Callable[[], None]) -> dict[Path, str]:
            for folder in folders:
                RunPlace(folder).finish({})
                done.append(folder.name)
            return {}

    def run(*only: str, changes: tuple[str, ...] = ()) -> None:
        options = Options("debug", (*QUICK, *changes), only=only)
        run_study(plan_study("transforms", [tiny_store.path], options), tmp_path / "s", Fake())

    run("pixelwise-[01]")
    run("pixelwise-*")
    assert done == [f"pixelwise-{seed}" for seed in range(5)]
    with pytest.raises(ValueError, match="another options"):
        run("pixelwise-0", changes=("training.lr=1e-4",))


def test_a_training_that_was_cut_off_is_gone_on_with(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cellshed.studies.execute import execute

    monkeypatch.setattr("cellshed.studies.runner.write_results", lambda out: None)
    changes = (*QUICK, "training.epochs=2")
    plan = plan_study("levels", [tiny_store.path], Options("debug", changes, only=("C2-C3_*",)))

    class Killed(BaseException):
        pass

    class Cut:
        def run(self, folders: Sequence[Path], watch: Callable[[], None]) -> dict[Path, str]:
            def stop(now: object) -> None:
                if now.row and now.row["epoch"] == 1:  # type: ignore[attr-defined]
                    raise Killed

            with pytest.raises(Killed):
                execute(folders[0], stop)
            return Here().run(folders, watch)

    tables = []
    for name, pool in (("cut", Cut()), ("whole", Here())):
        run_study(plan, tmp_path / name, pool)
        place = RunPlace(tmp_path / name / "runs" / plan.runs[0].name)
        tables.append(build_table([place.result()]))
        assert not (place.training / "last").exists()
    cut, whole = (table[table["set"] != "cost"] for table in tables)
    pd.testing.assert_frame_equal(cut, whole)


def _run_pool(worker: Path, ledger: Path, folders: list[Path]) -> None:
    pool = LocalPool(2, 1, (sys.executable, "-S", str(worker), str(ledger)))
    pool.run([folder for folder in folders if not RunPlace(folder).done], lambda: None)


def test_a_pool_that_is_killed_neither_loses_nor_repeats_a_finished_run(tmp_path: Path) -> None:
    worker, ledger = tmp_path / "worker.py", tmp_path / "ledger"
    worker.write_text(WORKER)
    folders = [tmp_path / "runs" / str(k) for k in range(8)]
    fork = multiprocessing.get_context("fork")
    for _ in range(3):
        process = fork.Process(target=_run_pool, args=(worker, ledger, folders))
        process.start()
        time.sleep(0.6)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    time.sleep(0.2)
    _run_pool(worker, ledger, folders)
    assert all(RunPlace(folder).done for folder in folders)
    assert sorted(ledger.read_text().split()) == sorted(map(str, folders))


def test_a_worker_that_is_killed_is_started_again_and_one_that_fails_is_not(
    tmp_path: Path,
) -> None:
    worker, ledger = tmp_path / "worker.py", tmp_path / "ledger"
    worker.write_text(
        "import os, sys\n"
        "folder = sys.argv[2]\n"
        "open(sys.argv[1], 'a').write(folder + '\\n')\n"
        "if folder.endswith('wrong'):\n"
        "    open(folder + '/error.txt', 'w').write('no images')\n"
        "    sys.exit(2)\n"
        "if open(sys.argv[1]).read().count(folder) < 3:\n"
        "    os.kill(os.getpid(), 9)\n"
        "open(folder + '/result.json', 'w').write('{}')\n"
    )
    folders = [tmp_path / "killed", tmp_path / "wrong"]
    pool = LocalPool(1, 1, (sys.executable, "-S", str(worker), str(ledger)))
    assert pool.run(folders, lambda: None) == {tmp_path / "wrong": "no images"}
    started = ledger.read_text().split()
    assert started.count(str(folders[0])) == 3
    assert started.count(str(folders[1])) == 1


def test_budgets_are_minutes_of_the_study_or_epochs_of_a_run() -> None:
    assert settle(Options("debug", budget="90min"))[1] == 90
    config, minutes = settle(Options("debug", budget="7epochs"))
    assert (config.training.epochs, minutes) == (7, 0)
    with pytest.raises(ValueError, match="60min"):
        settle(Options("debug", budget="soon"))


def test_minutes_are_shared_out_among_runs(tiny_store: Store, tmp_path: Path) -> None:
    class Nobody:
        def run(self, folders: Sequence[Path], watch: Callable[[], None]) -> dict[Path, str]:
            return dict.fromkeys(folders, "no time")

    options = Options("debug", QUICK, budget="40min", only=("pixelwise-*",))
    plan = plan_study("transforms", [tiny_store.path], options)
    with pytest.raises(ValueError, match="no run is finished"):
        run_study(plan, tmp_path / "s", Nobody(), jobs=2)
    task = RunPlace(tmp_path / "s" / "runs" / "pixelwise-0").task()
    assert task["max_minutes"] == pytest.approx(0.7 * 40 / 3)  # five runs, two at a time


def test_what_a_study_varies_cannot_be_set(tiny_store: Store) -> None:
    with pytest.raises(ValueError, match=r"settles model\.heads itself"):
        plan_study("transforms", [tiny_store.path], Options("debug", ("model.heads=[pixelwise]",)))
    with pytest.raises(ValueError, match="did you mean 'transforms'"):
        plan_study("transform", [tiny_store.path], Options("debug"))
    with pytest.raises(ValueError, match="--dry-run"):
        plan_study("levels", [tiny_store.path], Options("debug", only=("nothing",)))


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    place = RunPlace(tmp_path / "run")
    with place.locked(), pytest.raises(OSError, match="another process"), place.locked(wait=0):
        pass


@pytest.fixture
def command(tiny_store: Store) -> Iterator[Callable[[str, Path], list[str]]]:
    def make(name: str, out: Path) -> list[str]:
        changes = [word for change in (*QUICK, "training.epochs=3") for word in ("--set", change)]
        words = [name, "--data", str(tiny_store.path), "--out", str(out), "--preset", "debug"]
        only = ["--only", "pixelwise-[0-3]"] if name == "transforms" else []
        return [sys.executable, "-m", "cellshed", "study", *words, "--jobs", "2", *changes, *only]

    return make


@pytest.mark.slow
def test_killing_a_study_ten_times_changes_nothing(
    command: Callable[[str, Path], list[str]], tmp_path: Path
) -> None:
    chance = random.Random(5)
    began = time.monotonic()
    subprocess.run(command("transforms", tmp_path / "whole"), check=True)
    took = time.monotonic() - began
    for _ in range(10):
        process = subprocess.Popen(command("transforms", tmp_path / "killed"))
        time.sleep(chance.uniform(0.1, 0.5) * took)
        process.kill()
        process.wait()
    subprocess.run(command("transforms", tmp_path / "killed"), check=True)
    whole, killed = (pd.read_csv(tmp_path / n / "results.csv") for n in ("whole", "killed"))
    pd.testing.assert_frame_equal(whole[whole["set"] != "cost"], killed[killed["set"] != "cost"])


@pytest.mark.slow
def test_dask_leaves_the_same_files(tiny_store: Store, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    plan = plan_study(
        "transforms", [tiny_store.path], Options("debug", QUICK, only=("pixelwise-[0-2]",))
    )
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster:
        failed = run_study(plan, tmp_path / "dask", DaskPool(cluster.scheduler_address, 1))
    assert failed == {}
    run_study(plan, tmp_path / "here", Here())
    dask, here = (pd.read_csv(tmp_path / name / "results.csv") for name in ("dask", "here"))
    assert [tuple(row) for row in dask[["run", "metric", "set"]].to_numpy()] == [
        tuple(row) for row in here[["run", "metric", "set"]].to_numpy()
    ]
    numbers = dask["set"] == "test"
    assert dask[numbers]["value"].to_numpy() == pytest.approx(
        here[numbers]["value"].to_numpy(), abs=0.05, nan_ok=True
    )


def _search(store: Store, out: Path, trials: int) -> dict[str, str]:
    from cellshed.studies.searching import Search, run_search

    class Seat:
        def run(self, folders: Sequence[Path], watch: Callable[[], None]) -> dict[Path, str]:
            from cellshed.studies.searching import take_seat

            for folder in folders:
                take_seat(RunPlace(folder))
                watch()
            return {}

    options = Options("debug", QUICK)
    return run_search(Search((str(store.path),), options, trials), out, Seat())


def test_what_a_search_proposes_can_be_trained() -> None:
    optuna = pytest.importorskip("optuna")
    from cellshed.studies.searching import CHOICES, suggest
    from cellshed.training.optimizers import build_optimizer

    config = settle(Options("cpu", QUICK))[0]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(60):
        chosen = suggest(study.ask(), config)
        changed = load_config("cpu", [f"{name}={value}" for name, value in chosen.items()])
        build_optimizer(torch.nn.Linear(2, 2), changed.training)
        seen.add((chosen["training.optimizer"], chosen["training.weight_decay"]))
    optimizers, decays = CHOICES["training.optimizer"], CHOICES["training.weight_decay"]
    assert len(seen) == (len(optimizers) - 1) * len(decays) + 1


def test_a_search_goes_on_with_the_trial_of_a_dead_worker(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optuna = pytest.importorskip("optuna")
    from cellshed.studies.searching import _open, suggest

    out = tmp_path / "search"
    with monkeypatch.context() as patch:
        patch.setattr("cellshed.studies.searching.write_results", lambda out: None)
        assert _search(tiny_store, out, 1) == {}
    seat = next((out / "seats").iterdir())
    study = _open(RunPlace(seat).task()["meeting"], out, 0)
    dead = study.ask()
    chosen = suggest(dead, settle(Options("debug", QUICK))[0])
    dead.set_user_attr("folder", "trial-dead")
    (out / "runs" / "trial-dead").mkdir()
    assert _search(tiny_store, out, 2) == {}
    trials = _open(RunPlace(seat).task()["meeting"], out, 0).get_trials()
    states = [trial.state for trial in trials]
    assert states.count(optuna.trial.TrialState.COMPLETE) == 2
    assert trials[dead.number].state == optuna.trial.TrialState.FAIL
    assert trials[-1].params.items() <= chosen.items()
    table = pd.read_csv(out / "results.csv")
    assert (table["metric"] == "objective").sum() == 2
    assert "What was found" in (out / "report.html").read_text()
    assert json.loads((out / "study.json").read_text())["study"] == "search"
