"""What a search does with trials that were begun and not ended."""

import sys
from pathlib import Path

import pytest

from cellshed.studies.folder import RunPlace
from cellshed.studies.searching import requeue_dead

optuna = pytest.importorskip("optuna")


@pytest.fixture
def study(tmp_path: Path) -> "optuna.Study":
    """A study with one running trial, whose folder is there."""
    study = optuna.create_study()
    trial = study.ask()
    trial.suggest_float("training.lr", 1e-4, 1e-2, log=True)
    trial.set_user_attr("folder", "trial-begun")
    (tmp_path / "runs" / "trial-begun").mkdir(parents=True)
    return study


def _states(study: "optuna.Study") -> list[str]:
    return [trial.state.name for trial in study.get_trials()]


def test_a_trial_that_nobody_works_on_is_queued_again(
    study: "optuna.Study", tmp_path: Path
) -> None:
    assert requeue_dead(study, tmp_path) == 1
    assert _states(study) == ["FAIL", "WAITING"]


def test_a_trial_that_somebody_works_on_is_left_alone(
    study: "optuna.Study", tmp_path: Path
) -> None:
    with RunPlace(tmp_path / "runs" / "trial-begun").locked():
        assert requeue_dead(study, tmp_path) == 0
    assert _states(study) == ["RUNNING"]


def test_where_there_are_no_locks_a_running_trial_is_left_alone(
    study: "optuna.Study", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert requeue_dead(study, tmp_path) == 0
    assert _states(study) == ["RUNNING"]
