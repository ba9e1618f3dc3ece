"""Which precision a training computes in."""

import json
from pathlib import Path

import pytest
import torch

from cellshed.config import load_config
from cellshed.data.store import Store
from cellshed.engines import torch_engine
from cellshed.training import precision
from cellshed.training.loop import train
from cellshed.training.precision import MIXED, choose_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("wanted", ["fp32", "bf16", "fp16"])
def test_a_precision_that_is_named_is_taken(wanted: str) -> None:
    assert choose_precision(wanted, CPU) == wanted
    assert wanted in MIXED


@pytest.mark.parametrize(("hardware", "found"), [(True, "bf16"), (False, "fp32")])
def test_auto_asks_the_processor(
    hardware: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_engine, "cpu_multiplies_bf16", lambda: hardware)
    assert choose_precision("auto", CPU) == found


def test_auto_is_full_precision_where_nothing_is_known() -> None:
    assert choose_precision("auto", torch.device("mps")) == "fp32"


@pytest.mark.parametrize("hardware", [True, False])
def test_a_run_says_what_auto_came_to(
    hardware: bool, tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: hardware)
    changes = ["training.device=cpu", "training.precision=auto", "training.epochs=1"]
    run = tmp_path / "run"
    train(load_config("debug", changes), tiny_store, run)
    told = json.loads((run / "environment.json").read_text())
    assert told["precision"] == ("bf16" if hardware else "fp32")
    assert load_config(run / "config.yaml").training.precision == "auto"
