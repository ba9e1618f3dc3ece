"""Readers of result folders: what they find, names, and what they refuse."""

import json
from pathlib import Path

import pytest

from cellshed.report.results import Result, Run, read_folder, read_folders

SCORES = {"format": 1, "pooled": {}, "images": []}


def result(folder: Path, **more) -> Path:
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text(json.dumps(SCORES | more))
    return folder


def run(folder: Path, history: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("training:\n  lr: 0.125\n")
    if history:
        (folder / "history.csv").write_text(history)
    return folder


def test_a_run_just_begun_has_no_history(tmp_path):
    found = read_folder(run(tmp_path / "r"))
    assert isinstance(found, Run)
    assert (found.history, found.environment, found.card, found.best()) == ([], {}, {}, {})
    assert found.settings == {"training": {"lr": 0.125}}


def test_the_best_epoch_is_the_model_s_own_or_that_of_the_best_f1(tmp_path):
    folder = run(tmp_path / "r", "epoch,val_f1\n1,0.5\n2,0.75\n3,\n4,0.6\n")
    assert read_folder(folder).best() == {"epoch": 2, "val_f1": 0.75}
    (folder / "best").mkdir()
    (folder / "best" / "model.yaml").write_text("scores:\n  epoch: 4\n")
    assert read_folder(folder).best() == {"epoch": 4, "val_f1": 0.6}


def test_names_are_made_longer_until_they_differ(tmp_path):
    folders = [result(tmp_path / p) for p in ("a/x/scores", "b/x/scores", "c")]
    found = read_folders([*folders, run(tmp_path / "d" / "scores"), folders[0]])
    assert [item.name for item in found] == ["a/x/scores", "b/x/scores", "c", "scores"]


def test_pictures_outside_of_the_folder_or_missing_are_left_out(tmp_path):
    gallery = [{"file": f} for f in ("g/a.png", "g/none.png", "../b.png", str(tmp_path / "b.png"))]
    folder = result(tmp_path / "r", gallery=gallery)
    (folder / "g").mkdir()
    (folder / "g" / "a.png").touch()
    (tmp_path / "b.png").touch()
    found = read_folder(folder)
    assert isinstance(found, Result)
    assert [entry["file"] for entry, _ in found.pictures()] == ["g/a.png"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("scores.json", "{", r"scores\.json: damaged"),
        ("scores.json", "[1]", r"scores\.json: damaged"),
        ("scores.json", '{"format": 1, "images": []}', r"'pooled' is missing"),
        ("scores.json", '{"format": 2}', r"format 2, not 1"),
        ("config.yaml", "a: [", r"config\.yaml: damaged"),
        ("config.yaml", "text", r"config\.yaml: damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path, file, text, message):
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_folder(tmp_path)


@pytest.mark.parametrize("text", ["step,loss\n1,x\n", "step,loss\n1,2,3\n"])
def test_a_damaged_history_is_named(tmp_path, text):
    with pytest.raises(ValueError, match=r"history\.csv: damaged"):
        read_folder(run(tmp_path / "r", text))


def test_other_folders_and_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match="neither a run folder nor a result"):
        read_folder(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="nothing to report on"):
        read_folders([])
