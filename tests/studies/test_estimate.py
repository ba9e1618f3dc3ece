"""How long a study will take: steps and pixels at measured times."""

import pytest

from cellshed.config import load_config
from cellshed.data.store import Store
from cellshed.studies import estimate as module
from cellshed.studies.estimate import estimate
from cellshed.studies.plan import Run

SETTINGS = ["training.steps_per_epoch=7", "training.epochs=4", "training.val_every=2"]


def _runs(**changes: tuple[str, ...]) -> list[Run]:
    return [Run(name, name, 0, {}, changes=wanted) for name, wanted in changes.items()]


def test_steps_and_pixels_are_added_up(tiny_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_probe", lambda config: (2.0, 1e-3))
    records = {
        split: [r for r in tiny_store.records if r.split == split] for split in ("val", "test")
    }
    pixels = {split: sum(r.height * r.width for r in found) for split, found in records.items()}
    (found,) = estimate(_runs(one=()), load_config("debug", SETTINGS), [tiny_store], threads=1)
    expected = 4 * 7 * 2.0 + 1e-3 * (2 * pixels["val"] + pixels["test"])
    images = 2 * len(records["val"]) + len(records["test"])
    assert found == pytest.approx(expected + images * module._DECODING)


def test_each_look_at_an_image_is_counted(
    tiny_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_probe", lambda config: (0.0, 1.0))
    monkeypatch.setattr(module, "_DECODING", 0.0)
    runs = _runs(
        plain=(),
        zoom=("predict.zoom=1.5",),
        mirrors=("predict.mirrors=4",),
        scales=("predict.scales=[1.0, 0.5]",),
        all=("predict.zoom=1.5", "predict.mirrors=4", "predict.scales=[1.0, 0.5]"),
    )
    pixels = {
        split: sum(r.height * r.width for r in tiny_store.records if r.split == split)
        for split in ("val", "test")
    }
    val, test = 2 * pixels["val"], pixels["test"]  # two validations, each at one scale
    found = estimate(runs, load_config("debug", SETTINGS), [tiny_store], threads=1)
    assert found == pytest.approx(
        [
            val + test,
            1.5**2 * (val + test),
            4 * (val + test),
            val + 1.25 * test,
            4 * 1.5**2 * (val + 1.25 * test),
        ]
    )


def test_minutes_end_a_run_earlier(tiny_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_probe", lambda config: (100.0, 1e-3))
    base = load_config("debug", [*SETTINGS, "training.max_minutes=3"])
    assert estimate(_runs(one=()), base, [tiny_store], threads=1) == [180]


def test_what_changes_the_time_of_a_step_is_measured_anew(
    tiny_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def probe(config: object) -> tuple[float, float]:
        asked.append(config)
        return 1.0, 1e-6

    monkeypatch.setattr(module, "_probe", probe)
    runs = _runs(
        a=("training.lr=0.1",),
        b=("training.lr=0.2",),
        c=("training.precision=bf16",),
        d=("training.batch_size=4",),
    )
    estimate(runs, load_config("debug", ["training.device=cpu"]), [tiny_store], threads=1)
    assert len(asked) == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_probe_takes_real_steps(precision: str) -> None:
    config = load_config("debug", ["training.device=cpu", f"training.precision={precision}"])
    step, pixel = module._probe(config)
    assert step > 0
    assert pixel > 0
