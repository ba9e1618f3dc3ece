"""Training from another model: its settings go on, and it is the first candidate itself."""

import csv
import shutil
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from safetensors.torch import load_file

from cellshed.config import load_config
from cellshed.data.diameters import diameters, median_diameter, middle_diameter_of
from cellshed.data.store import Store
from cellshed.data.window import Window
from cellshed.model.folder import find_model, read_card, write_card
from cellshed.settings import CalibrationSettings
from cellshed.training.initial import (
    at_one_size,
    calibration_left,
    looks_of_its_own,
    settings_from,
    starting_model,
)
from cellshed.training.loop import train

FEW_STEPS = ("training.epochs=2", "training.steps_per_epoch=2", "training.val_every=1",
             "training.batch_size=2", "training.crop=64", "training.device=cpu")  # fmt: skip


@pytest.fixture
def initial(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with settings and calibration of its own."""
    folder = tmp_path / "initial"
    shutil.copytree(tiny_model, folder)
    card = read_card(folder)
    decode = card.decode.model_copy(update={"interior_threshold": 0.123, "radius": 3})
    changes = {"decode": decode, "licence": "MIT", "calibration": CalibrationSettings(offset=1)}
    write_card(folder, card.model_copy(update=changes))
    return folder


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as file:
        return list(csv.DictReader(file))


def test_what_the_settings_do_not_say_comes_from_the_initial_model(initial: Path) -> None:
    config = settings_from(load_config("finetune", ["decode.radius=4"]), initial)
    card = read_card(initial)
    assert (config.decode.interior_threshold, config.decode.radius) == (0.123, 4)
    assert config.model == card.model.model_copy(update={"norm": "frozen", "pretrained": "none"})
    assert config.normalize == card.normalize
    assert config.licence == "not stated; initial model: MIT"
    same = settings_from(load_config("finetune", ["licence=MIT"]), initial)
    assert same.licence == "MIT"
    assert config.training.lr == load_config("finetune").training.lr


BY_SIZE = ((14.0, (1.6,)), (40.0, (0.5, 0.25)), (500.0, (1.0, 0.5)))


@pytest.fixture
def by_size(initial: Path) -> Path:
    """The initial model, which looks at images by how large their cells are."""
    card = read_card(initial)
    looks = {"zoom": 1.25, "scales_by_size": BY_SIZE, "surer_when_smaller": 0.02}
    predict = card.predict.model_copy(update=looks)
    write_card(initial, card.model_copy(update={"predict": predict}))
    return initial


def test_cells_are_shown_at_the_scale_that_suits_them_in_training_too(
    by_size: Path, tiny_store: Store
) -> None:
    config = settings_from(load_config("finetune"), by_size)
    size = 1.25 * middle_diameter_of([tiny_store])
    assert 14 < size <= 40  # so that the second pair is it
    settled = at_one_size(config, [tiny_store])
    assert settled.predict.zoom == 1.25 * 0.5
    assert settled.predict.scales == (1.0, 0.5)
    assert settled.predict.scales_by_size == ()
    assert settled.predict.surer_when_smaller == 0
    assert settled.augment.zoom == (0.8 * 1.25 * 0.5, 1.25 * 1.25 * 0.5)


def test_cells_are_shown_at_the_initial_models_zoom(initial: Path, tiny_store: Store) -> None:
    card = read_card(initial)
    predict = card.predict.model_copy(update={"zoom": 1.5})
    write_card(initial, card.model_copy(update={"predict": predict}))
    config = settings_from(load_config("finetune"), initial)
    settled = at_one_size(config, [tiny_store])
    assert settled.predict == config.predict
    assert settled.augment.zoom == (0.8 * 1.5, 1.25 * 1.5)


def test_the_size_is_not_that_of_test_images(by_size: Path, tiny_store: Store) -> None:
    """No image of split test is read for it."""
    config = settings_from(load_config("finetune"), by_size)
    splits = {record.split for record in tiny_store.records}
    assert splits == {"train", "val", "test"}

    def read(index: int) -> NoReturn:
        raise AssertionError(tiny_store.records[index].name)

    test = tiny_store.select("test")
    test.labels = read  # type: ignore[method-assign]
    both = [tiny_store.select("train"), test]
    assert at_one_size(config, both) == at_one_size(config, both[:1])


def test_a_trained_model_looks_at_all_images_so_and_an_untrained_one_as_before(
    by_size: Path, tiny_store: Store, tmp_path: Path
) -> None:
    for name, changes, trained in (
        ("learned", [], True),
        ("nothing", ["training.lr=1e-30", "model.norm=frozen"], False),
    ):
        config = load_config("debug", [*FEW_STEPS, "training.select=loss", *changes])
        best = train(config, tiny_store, tmp_path / name, init=by_size)
        card = read_card(best if not trained else tmp_path / name / "last")
        assert (card.predict == read_card(by_size).predict) is not trained
        assert (card.predict.scales_by_size == ()) is trained


@pytest.mark.parametrize(
    ("said", "zoom", "scales", "by_size_still"),
    [
        ("zoom=1.0", 1.0, (1.0,), True),
        ("scales=[1, 0.75]", 1.25, (1.0, 0.75), False),
        ("scales_by_size=[[20, [1]]]", 1.25, (1.0,), True),
    ],
)
def test_looks_that_the_settings_name_stay(
    said: str,
    zoom: float,
    scales: tuple[float, ...],
    by_size_still: bool,
    by_size: Path,
    tiny_store: Store,
    tmp_path: Path,
) -> None:
    assert not looks_of_its_own(load_config("debug"))
    config = load_config("debug", [*FEW_STEPS, f"predict.{said}"])
    assert looks_of_its_own(config)
    train(config, tiny_store, tmp_path / "run", init=by_size)
    predict = read_card(tmp_path / "run/last").predict
    assert (predict.zoom, predict.scales) == (zoom, scales)
    assert bool(predict.scales_by_size) is by_size_still
    assert (predict.surer_when_smaller == 0.02) is by_size_still


def test_the_preset_finetune_starts_from_the_shipped_model(initial: Path) -> None:
    assert starting_model("finetune", None) == find_model("phase")
    assert starting_model("finetune", initial) == initial
    assert starting_model("debug", None) is None
    assert starting_model(load_config("finetune"), None) is None


def test_statistics_that_saw_no_image_are_not_held(tiny_store: Store, tmp_path: Path) -> None:
    """As of a file of one's own with the lines of the preset finetune, and no model named."""
    with pytest.raises(ValueError, match=r"norm = frozen holds .* start from a model"):
        train(load_config("finetune", FEW_STEPS), tiny_store, tmp_path / "run")


def test_heads_may_be_added_and_left_out(initial: Path, tiny_store: Store, tmp_path: Path) -> None:
    assert read_card(initial).model.heads == ("inner_distance", "pixelwise")
    heads = "model.heads=[outer_distance, pixelwise]"
    still = load_config("finetune", [heads, "training.lr=1e-12", "training.ema=0", *FEW_STEPS])
    with pytest.warns(UserWarning, match="because model settings differ"):
        train(still, tiny_store, tmp_path / "run", init=initial)
    before = load_file(initial / "model.safetensors")
    after = load_file(tmp_path / "run" / "last" / "model.safetensors")
    shared = {name for name in before if not name.startswith("heads.inner_distance.")}
    assert shared == {name for name in after if not name.startswith("heads.outer_distance.")}
    assert len(after) > len(shared)
    for name in shared:
        assert np.allclose(after[name].float(), before[name].float(), atol=1e-6), name


def test_finer_levels_may_be_added(tiny_store: Store, tmp_path: Path) -> None:
    coarse = load_config("debug", ["model.head_stride=2", *FEW_STEPS])
    initial = train(coarse, tiny_store, tmp_path / "initial")
    finer = ["model.backbone_levels=[C1, C2, C3]", "model.pyramid_levels=[P1, P2, P3]"]
    still = load_config("finetune", [*finer, "training.lr=1e-12", "training.ema=0", *FEW_STEPS])
    with pytest.warns(UserWarning, match="because model settings differ"):
        train(still, tiny_store, tmp_path / "run", init=initial)
    before = load_file(initial / "model.safetensors")
    after = load_file(tmp_path / "run" / "last" / "model.safetensors")
    assert {name.split(".")[2] for name in after.keys() - before.keys()} == {"c1", "p1"}
    for name in before:
        assert np.allclose(after[name].float(), before[name].float(), atol=1e-6), name


def test_a_wider_pyramid_takes_the_backbone_and_says_so(
    initial: Path, tiny_store: Store, tmp_path: Path
) -> None:
    wider = load_config("finetune", ["model.pyramid_width=24", *FEW_STEPS])
    with pytest.warns(UserWarning, match=r"heads\.inner_distance, heads\.pixelwise, pyramid\."):
        best = train(wider, tiny_store, tmp_path / "run", init=initial)
    told = read_card(best).data["initial"]["anew"]
    assert {part.split(".")[0] for part in told} == {"heads", "pyramid"}


def test_another_backbone_is_refused(initial: Path, tiny_store: Store, tmp_path: Path) -> None:
    other = load_config("finetune", ["model.in_channels=2", *FEW_STEPS])
    with pytest.raises(ValueError, match="the weights belong to other model settings"):
        train(other, tiny_store, tmp_path / "run", init=initial)


def test_training_never_ends_with_a_worse_model_on_val(
    initial: Path, tiny_store: Store, tmp_path: Path
) -> None:
    changes = ["training.lr=0.5", "training.ema=0", "training.select=loss", *FEW_STEPS]
    ruinous = load_config("finetune", changes)
    best = train(ruinous, tiny_store, tmp_path / "run", init=initial)
    rows = _rows(tmp_path / "run")
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    losses = [float(row["val_loss"]) for row in rows]
    assert losses[0] < min(losses[1:])
    kept, before = load_file(best / "model.safetensors"), load_file(initial / "model.safetensors")
    assert all((kept[name] == before[name]).all() for name in before)
    card = read_card(best)
    assert card.scores["epoch"] == 0
    assert card.calibration == CalibrationSettings(offset=1)
    assert card.data["initial"]["name"] == read_card(initial).name


def test_a_resumed_run_validates_the_initial_model_once(
    initial: Path, tiny_store: Store, tmp_path: Path
) -> None:
    one = load_config("finetune", [*FEW_STEPS, "training.epochs=1"])
    train(one, tiny_store, tmp_path / "run", init=initial)
    train(load_config("finetune", FEW_STEPS), tiny_store, tmp_path / "run", init=initial,
          resume=True)  # fmt: skip
    assert [row["epoch"] for row in _rows(tmp_path / "run")] == ["0", "1", "2"]


def test_a_single_image_is_enough(initial: Path, tiny_store: Store, tmp_path: Path) -> None:
    one = tiny_store.subset(tiny_store.select("train").records[:1])
    with pytest.warns(UserWarning, match="held back to choose by"):  # it has few cells
        best = train(load_config("finetune", FEW_STEPS), one, tmp_path / "run", init=initial)
    assert read_card(best).data["train"][0]["images"] == 1


def test_crops_of_a_band_lie_within_it(tiny_store: Store) -> None:
    band = Window(tiny_store, 0.5, 1)
    image, labels = band.crop(1, 3, 5, 1000, 20)
    half = tiny_store.records[1].height // 2
    np.testing.assert_array_equal(image, tiny_store.image(1)[half + 3 :, 5:25])
    np.testing.assert_array_equal(labels, tiny_store.labels(1)[half + 3 :, 5:25])
    with pytest.raises(ValueError, match="crop at row 64"):
        band.crop(1, half, 0, 4, 4)


def test_diameters_are_those_of_discs_of_the_same_area() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[2:6, 2:6] = 1  # 16 pixels
    labels[8:16, 8:16] = 3  # 64
    labels[18:, 4:9] = 2  # on the frame
    np.testing.assert_allclose(diameters(labels), np.sqrt(4 * np.array([16, 64]) / np.pi))
    assert diameters(np.zeros((4, 4), np.int32)).size == 0
    assert median_diameter([]) is None


def test_the_card_says_how_large_the_training_cells_are(
    tiny_model: Path, tiny_store: Store
) -> None:
    expected = median_diameter([tiny_store.select("train")])
    assert read_card(tiny_model).data["cell_diameter"] == expected
    assert 5 < expected < 100


def test_a_calibration_holds_for_the_weights_and_the_decoder_it_was_fitted_to(
    initial: Path, tiny_store: Store, tmp_path: Path
) -> None:
    train(load_config("finetune", FEW_STEPS), tiny_store, tmp_path / "run", init=initial)
    assert read_card(tmp_path / "run" / "last").calibration is None
    card = read_card(initial)
    same = settings_from(load_config("finetune"), initial)
    other = same.model_copy(
        update={"decode": same.decode.model_copy(update={"interior_smooth": 2.0})}
    )
    assert calibration_left(card, same, 0) == card.calibration
    assert calibration_left(card, same, 1) is None
    assert calibration_left(card, other, 0) is None
