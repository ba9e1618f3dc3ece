"""The command line: verbs in a row, and one clear line with exit 2 for what is wrong."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cellshed
from cellshed import cli
from cellshed.console import plain_warnings
from cellshed.model.folder import read_card


def _run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run the command line in this process; return the exit code and all it printed."""
    before, sys.argv = sys.argv, ["cellshed", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv = before
    captured = capfd.readouterr()
    return int(code or 0), captured.out + captured.err


def test_the_verbs_in_a_row(
    tiny_livecell: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store, run, cells = tmp_path / "store", tmp_path / "run", tmp_path / "cells"
    scores, page = tmp_path / "scores", tmp_path / "report.html"
    steps: list[tuple[object, ...]] = [
        ("prepare", tiny_livecell, "--out", store),
        ("train", "debug", "--data", store, "--out", run, "--set", "training.epochs=1"),
        ("tune", run, "--data", store),
        ("predict", tiny_livecell / "images", "--model", run, "--out", cells),
        ("evaluate", "--truth", store, "--pred", cells, "--out", scores),
        ("report", run, scores, "--out", page),
    ]
    told = {}
    for step in steps:
        code, told[step[0]] = _run(capfd, *step)
        assert code == 0, told[step[0]]
    f1 = read_card(run / "best").scores["val_f1"]
    assert f"best: the best model, of epoch 1, val object F1 at IoU 0.5 {f1:.3f}" in told["train"]
    assert len(list((cells / "labels").iterdir())) == 9
    results = json.loads((scores / "scores.json").read_text())
    assert results["pooled"]["n_true"] > 0
    assert "<html" in page.read_text()


def test_a_training_that_brings_nothing_says_so(
    tiny_store: object, tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = tiny_store.path  # type: ignore[attr-defined]
    arguments = ("train", "debug", "--data", store, "--init", tiny_model, "--out", tmp_path / "run")
    nothing = ("--set", "training.epochs=1", "--set", "training.lr=1e-30")
    code, text = _run(capfd, *arguments, *nothing, "--set", "model.norm=frozen")
    assert code == 0, text
    assert "it started from: no epoch made it better" in text


def test_a_model_can_be_scored_directly(
    tiny_store: object, tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth = tiny_store.path  # type: ignore[attr-defined]
    code, text = _run(
        capfd, "evaluate", "--truth", truth, "--model", tiny_model, "--out", tmp_path / "scores"
    )
    assert code == 0, text
    assert (tmp_path / "scores" / "scores.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "cpu-smal", "--data", "x", "--out", "y"), "did you mean 'cpu-small'"),
        (("prepare", "nowhere", "--out", "y"), "nowhere"),
        (("predict", "nowhere", "--model", "m", "--out", "y"), "give a model folder"),
        (("train", "debug", "--data", "x", "--out", "y", "--resume"), "y: no run to go on with"),
        (("report", "x", "--out", "."), ". is a folder: name the page"),
        (("evaluate", "--truth", "x", "--out", "y"), "either --pred FOLDER or --model"),
        (("evaluate", "--truth", "x", "--out", "y", "--pred", "z", "--fast"), "say how a --model"),
        (("tune", "m", "--data", "x", "--split", "test"), "--force"),
        (("report", "nowhere", "--out", "y.html"), "nowhere"),
        (("download", "--to", "y", "--cell-type", "A171"), "did you mean 'A172'"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = _run(capfd, *arguments)
    assert code == 2
    assert message in text
    assert "Traceback" not in text
    assert [line for line in text.splitlines() if line.startswith("error: ")]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.lrr=1", "did you mean 'lr'"),
        ("model.backbone=resnet5", "did you mean 'resnet50'"),
        ("model.heads=[pixelwize]", "did you mean 'pixelwise'"),
    ],
)
def test_unknown_settings_offer_the_nearest(
    override: str,
    message: str,
    tiny_store: object,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    store = tiny_store.path  # type: ignore[attr-defined]
    arguments = ("train", "debug", "--data", store, "--out", tmp_path / "run", "--set", override)
    code, text = _run(capfd, *arguments)
    assert (code, message in text) == (2, True), text
    assert not (tmp_path / "run").exists()


def test_a_failed_image_is_exit_1(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(np.eye(40, dtype=np.uint8)).save(folder / "good.png")
    (folder / "bad.png").write_bytes(b"no image")
    code, text = _run(capfd, "predict", folder, "--model", tiny_model, "--out", tmp_path / "out")
    assert code == 1
    assert "bad.png" in text
    assert (tmp_path / "out" / "labels" / "good.tif").is_file()


def test_who_stops_it_learns_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cellshed.demo.run_demo", stopped)
    code, text = _run(capfd, "demo")
    assert code == 130
    assert "train with --resume" in text


def test_fast_shows_images_at_one_scale(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "a.png")
    by_size = "predict.scales_by_size=[[20, [2]]]"
    common = (tmp_path / "a.png", "--model", tiny_model, "--set", by_size)
    several = ("--set", "predict.scales=[1, 0.5]")
    for option, scales, by_size in ((several, [1.0, 0.5], [[20, [2]]]), (("--fast",), [1.0], [])):
        out = tmp_path / f"out{len(option)}"
        assert _run(capfd, "predict", *common, "--out", out, *option)[0] == 0
        made_by = json.loads((out / "made_by.json").read_text())
        assert made_by["predict"]["scales"] == scales
        assert made_by["predict"]["scales_by_size"] == by_size


@pytest.mark.parametrize(
    ("hardware", "images", "precision", "told"),
    [
        (True, 2, "fp32", True),
        (True, 1, "fp32", False),
        (True, 2, "auto", False),
        (False, 2, "fp32", False),
    ],
)
def test_many_images_are_worth_a_word_on_speed(
    hardware: bool,
    images: int,
    precision: str,
    told: bool,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("cellshed.engines.registry._has_gpu", lambda: False)
    monkeypatch.setattr("cellshed.engines.registry.cpu_multiplies_bf16", lambda: hardware)
    monkeypatch.setattr("cellshed.cli.MANY", 2)
    for k in range(images):
        Image.fromarray(np.eye(40, dtype=np.uint8)).save(tmp_path / f"{k}.png")
    common = ("predict", tmp_path / "*.png", "--model", tiny_model, "--out", tmp_path / "out")
    code, text = _run(capfd, *common, "--precision", precision)
    assert code == 0, text
    assert ("Faster on this processor: --precision auto" in text) is told


def test_an_unwritable_folder_is_exit_2_and_earlier_results_stay(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.eye(40, dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "out").write_text("a file, where a folder is wanted")
    arguments = (tmp_path / "a.png", "--model", tiny_model, "--out", tmp_path / "out")
    code, text = _run(capfd, "predict", *arguments)
    assert code == 2, text
    assert (tmp_path / "out").read_text().startswith("a file")


@pytest.mark.parametrize("name", cellshed.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(cellshed, name) is not None


def test_fast_and_scales_contradict_one_another(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ("--fast", "--set", "predict.scales=[1, 0.5]", "--out", tmp_path / "out")
    code, text = _run(capfd, "predict", tmp_path, "--model", tiny_model, *options)
    assert (code, "--fast looks at images at one scale" in text) == (2, True)


@pytest.mark.parametrize("module", ["cellshed", "cellshed.cli", "cellshed.targets"])
def test_no_torch_before_it_is_needed(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_names_every_verb(capfd: pytest.CaptureFixture[str]) -> None:
    code, text = _run(capfd, "--help")
    assert code == 0
    verbs = (
        "download",
        "prepare",
        "train",
        "predict",
        "evaluate",
        "report",
        "demo",
        "tune",
        "models",
    )
    assert all(verb in text for verb in verbs)


def test_prepare_tells_splits_and_problems(
    tiny_livecell: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, text = _run(capfd, "prepare", tiny_livecell, "--out", tmp_path / "store")
    assert code == 0
    assert "9 images (6 train, 1 val, 2 test)" in text
    assert "warning" not in text
    mask = np.zeros((8, 8), np.uint8)
    mask[1, 1] = mask[6, 6] = 255
    for kind in ("images", "labels"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        Image.fromarray(mask).save(tmp_path / "set" / kind / "a.png")
    code, text = _run(capfd, "prepare", tmp_path / "set", "--out", tmp_path / "masks")
    assert code == 0
    assert "1 image (1 of no split), 1 cell;" in text
    assert (
        "manifest.json lists 1 problem; the first: a.png: the only number in its file, in 2 pieces"
        in text
    )


def test_warnings_for_users_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with plain_warnings():
        warnings.warn("heads start anew", stacklevel=1)
    assert capsys.readouterr().err == "warning: heads start anew\n"
