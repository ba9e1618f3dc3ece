"""The training loop: reproducible, resumable, and clear about what stops it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cellshed.config import load_config
from cellshed.data.images import write_labels
from cellshed.data.prepare import prepare
from cellshed.data.store import Store
from cellshed.model.folder import read_card
from cellshed.predict import load_model
from cellshed.settings import Config
from cellshed.training import learner, loop
from cellshed.training.loop import train
from cellshed.training.run import Status


def _config(*changes: str) -> Config:
    return load_config("debug", ["training.device=cpu", *changes])


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last" / "model.safetensors")


def _assert_same(first: Path, second: Path) -> None:
    one, two = _weights(first), _weights(second)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_a_run_leaves_all_that_it_promises(tiny_store: Store, tmp_path: Path) -> None:
    seen: list[Status] = []
    best = train(_config(), tiny_store, tmp_path / "run", progress=seen.append)
    assert best == tmp_path / "run" / "best"
    for name in ("config.yaml", "history.csv", "environment.json", "last/state.pt"):
        assert (tmp_path / "run" / name).is_file()
    assert list((tmp_path / "run" / "events").iterdir())
    lines = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert len(lines) == 3
    assert {"epoch", "loss", "loss_pixelwise", "val_loss", "val_f1", "lr"} <= set(
        lines[0].split(",")
    )
    assert [p.row is not None for p in seen].count(True) == 2
    assert seen[-1].seconds_left == 0
    labels = load_model(best).segment(tiny_store.image(0))
    assert labels.shape == tiny_store.labels(0).shape


def test_same_seed_same_weights_other_seed_other_weights(tiny_store: Store, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(_config("training.epochs=1", f"training.seed={seed}"), tiny_store, tmp_path / name)
    _assert_same(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError):
        _assert_same(tmp_path / "a", tmp_path / "c")


class Stopped(Exception):
    """Stands for whatever ends a process."""


def test_a_run_stopped_in_the_middle_ends_with_the_same_weights(
    tiny_store: Store, tmp_path: Path
) -> None:
    config = _config("training.epochs=3", "training.ema=0.9")
    train(config, tiny_store, tmp_path / "whole")

    def stop(now: Status) -> None:
        if now.epoch == 1 and now.step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(config, tiny_store, tmp_path / "cut", progress=stop)
    train(config, tiny_store, tmp_path / "cut", resume=True)
    _assert_same(tmp_path / "whole", tmp_path / "cut")
    histories = [(tmp_path / n / "history.csv").read_text().splitlines() for n in ("whole", "cut")]
    assert [len(h) for h in histories] == [4, 4]


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(tiny_store: Store, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "cellshed", "train", "debug", "--data", str(tiny_store.path)),
        *("--set", "training.epochs=4", "--set", "training.device=cpu"),
    ]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True)
    cut = [*command, "--out", str(tmp_path / "cut")]
    process = subprocess.Popen(cut)
    while not (tmp_path / "cut" / "last" / "state.pt").is_file():
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    subprocess.run([*cut, "--resume"], check=True)
    _assert_same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("method", ["image", "dataset"])
def test_grey_saved_in_colour_is_trained_on_as_grey(
    method: str, tiny_store: Store, tmp_path: Path
) -> None:
    """The network takes one channel; three equal ones are that, as in prediction."""
    for channels in (1, 3):
        folder = tmp_path / f"{channels}"
        for i, record in enumerate(tiny_store.records):
            if record.split != "test":
                place = folder / record.split
                (place / "images").mkdir(parents=True, exist_ok=True)
                image = np.stack([tiny_store.image(i)] * channels, axis=2).squeeze()
                Image.fromarray(image).save(place / "images" / f"{record.name}.png")
                write_labels(place / "labels" / f"{record.name}.tif", tiny_store.labels(i))
        config = _config(f"normalize.method={method}")
        train(config, prepare(folder, folder / "store"), tmp_path / f"run{channels}")
    _assert_same(tmp_path / "run1", tmp_path / "run3")


def _in_two_processes(*words: str) -> str:
    """Run a Python program in two processes that know of each other; return what they print."""
    command = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone")
    told = subprocess.run(
        [*command, *words],
        check=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        text=True,
    )
    return told.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("device", "val_every"), [("cpu", 1), ("auto", 9)])
def test_two_processes_train_one_model(
    tiny_store: Store, tmp_path: Path, device: str, val_every: int
) -> None:
    run = tmp_path / "run"
    told = _in_two_processes(
        *("-m", "cellshed", "train", "debug", "--data", str(tiny_store.path), "--out", str(run)),
        *("--set", f"training.device={device}", "--set", f"training.val_every={val_every}"),
    )
    assert len((run / "history.csv").read_text().splitlines()) == 3
    load_model(run)
    assert told.count("the best model") == told.count("Next:") == 1


SLOW_TO_SAVE = """
import sys, time
from cellshed.config import load_config
from cellshed.training import loop

def save(*told, save=loop.save_model):
    time.sleep(1)
    save(*told)

loop.save_model = save
config = load_config("debug", ["training.device=cpu", "training.val_every=9"])
best = loop.train(config, sys.argv[1], sys.argv[2])
assert (best / "model.yaml").is_file()
"""


@pytest.mark.slow
def test_no_process_returns_before_the_best_model_is_there(
    tiny_store: Store, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(SLOW_TO_SAVE)
    _in_two_processes(str(program), str(tiny_store.path), str(tmp_path / "run"))


def test_a_run_is_never_overwritten(tiny_store: Store, tmp_path: Path) -> None:
    train(_config("training.epochs=1"), tiny_store, tmp_path / "run")
    with pytest.raises(ValueError, match="--resume"):
        train(_config("training.epochs=1"), tiny_store, tmp_path / "run")


def test_resuming_with_other_settings_is_refused(tiny_store: Store, tmp_path: Path) -> None:
    train(_config("training.epochs=1"), tiny_store, tmp_path / "run")
    with pytest.raises(ValueError, match=r"training\.lr = 0\.002, now it is 0\.1"):
        train(
            _config("training.epochs=1", "training.lr=0.1"),
            tiny_store,
            tmp_path / "run",
            resume=True,
        )


def test_resuming_with_other_images_is_refused(tiny_store: Store, tmp_path: Path) -> None:
    train(_config("training.epochs=1"), tiny_store, tmp_path / "run")
    fewer = tiny_store.subset(tiny_store.records[1:])
    with pytest.raises(ValueError, match="was trained on other images"):
        train(_config("training.epochs=2"), fewer, tmp_path / "run", resume=True)


def test_a_finished_run_can_be_made_longer(tiny_store: Store, tmp_path: Path) -> None:
    train(_config("training.epochs=1"), tiny_store, tmp_path / "run")
    train(_config("training.epochs=2"), tiny_store, tmp_path / "run", resume=True)
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 3
    assert load_config(tmp_path / "run" / "config.yaml").training.epochs == 2


def test_training_starts_from_the_weights_it_is_given(tiny_store: Store, tmp_path: Path) -> None:
    train(_config("training.epochs=1"), tiny_store, tmp_path / "first")
    still = _config("training.epochs=1", "training.lr=1e-30", "training.steps_per_epoch=1")
    train(still, tiny_store, tmp_path / "second", init=tmp_path / "first" / "last")
    before, after = _weights(tmp_path / "first"), _weights(tmp_path / "second")
    for name in before:
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(before[name], after[name]), name


def test_a_loss_that_is_not_finite_names_its_batch(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(logits: dict[str, torch.Tensor], *_: object) -> dict[str, torch.Tensor]:
        return {name: value.sum() * float("nan") for name, value in logits.items()}

    monkeypatch.setattr(learner, "head_losses", broken)
    with pytest.raises(FloatingPointError, match="in the batch of") as error:
        train(_config(), tiny_store, tmp_path / "run")
    assert any(record.name in str(error.value) for record in tiny_store.records)


def test_patience_ends_a_run_early(tiny_store: Store, tmp_path: Path) -> None:
    changes = ("training.epochs=9", "training.patience=1", "training.lr=1e-30")
    train(_config(*changes), tiny_store, tmp_path / "run")
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) < 9


def test_minutes_end_a_run_early(tiny_store: Store, tmp_path: Path) -> None:
    train(
        _config("training.epochs=1000", "training.max_minutes=0.02"), tiny_store, tmp_path / "run"
    )
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) < 500


def test_a_run_whose_time_runs_out_while_writing_validates_its_last_weights(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.Trainer, "_own_share", lambda self: float(bool(self.state.history)))
    best = train(_config("training.epochs=9", "training.val_every=5"), tiny_store, tmp_path / "run")
    assert read_card(best).scores["epoch"] == 2
    last = (tmp_path / "run" / "history.csv").read_text().splitlines()[-1]
    assert last.startswith("2,")


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'mps'"):
        train(_config("training.device=mps"), tiny_store, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_last_weights_may_be_what_is_kept(tiny_store: Store, tmp_path: Path) -> None:
    ruinous = ("training.lr=0.5", "training.ema=0", "training.val_every=1", "training.epochs=3")
    run = tmp_path / "run"
    best = train(_config("training.select=last", *ruinous), tiny_store, run)
    assert read_card(best).scores["epoch"] == 3
    kept, last = load_file(best / "model.safetensors"), load_file(run / "last/model.safetensors")
    assert all(torch.equal(kept[name], last[name]) for name in last)
