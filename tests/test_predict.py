"""Model folders and the Segmenter: what is loaded, what is refused, what comes out."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import cellshed
from cellshed.data.store import Store
from cellshed.engines.torch_engine import find_device
from cellshed.metrics.calibration import calibrate
from cellshed.model.folder import read_card, write_card
from cellshed.predict import load_model, segment
from cellshed.settings import CalibrationSettings


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (32, 32), (100, 130), (130, 97, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_size_and_type_gives_labels_of_the_same_size(
    tiny_model: Path, shape: tuple[int, ...], dtype: type
) -> None:
    image = (np.random.default_rng(0).random(shape) * 200).astype(dtype)
    labels = segment(image, tiny_model)
    assert labels.shape == shape[:2]
    assert labels.dtype == np.int32


def test_a_prediction_has_a_confidence_for_each_cell(tiny_model: Path, tiny_store: Store) -> None:
    found = load_model(tiny_model).predict(tiny_store.image(0), interior_threshold=0.0)
    assert len(found.confidence) == found.labels.max()
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    assert set(found.maps) == {"inner_distance", "pixelwise"}
    np.testing.assert_allclose(found.maps["pixelwise"].sum(axis=2), 1, atol=1e-5)


def test_calibration_changes_confidences_but_not_their_order(
    tiny_model: Path, tiny_store: Store, tmp_path: Path
) -> None:
    folder = _copy(tiny_model, tmp_path / "model")
    image, low = tiny_store.image(0), {"interior_threshold": 0.0}
    raw = load_model(folder).predict(image, **low)
    calibration = CalibrationSettings(rise=2.0, fall=1.0, offset=0.5)
    write_card(folder, read_card(folder).model_copy(update={"calibration": calibration}))
    calibrated = load_model(folder).predict(image, **low)
    np.testing.assert_array_equal(raw.labels, calibrated.labels)
    np.testing.assert_array_equal(calibrated.confidence, calibrate(raw.confidence, calibration))
    assert (np.diff(calibrated.confidence[np.argsort(raw.confidence)]) >= 0).all()


def test_scaling_of_the_intensities_does_not_matter(tiny_model: Path, tiny_store: Store) -> None:
    segmenter = load_model(tiny_model)
    image = np.asarray(tiny_store.image(0), dtype=np.float32)
    one, two = segmenter.maps(image), segmenter.maps(image * 37 + 1000)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=1e-3)


def test_with_a_zoom_the_network_sees_a_larger_image(tiny_model: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 60), np.uint8)
    segmenter = load_model(tiny_model, device="cpu").with_changes(["predict.zoom=1.5"])
    prediction = segmenter.predict(image)
    assert prediction.labels.shape == (40, 60)
    assert prediction.maps["inner_distance"].shape[:2] == (60, 90)
    assert len(prediction.confidence) == prediction.labels.max()


def test_several_scales_are_as_many_views(tiny_model: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 60), np.uint8)
    changes = ["predict.scales=[1, 0.5, 1.5]"]
    segmenter = load_model(tiny_model, device="cpu").with_changes(changes)
    views = segmenter.views(image)
    assert [view.shape for view in views] == [(40, 60), (20, 30), (60, 90)]
    prediction = segmenter.predict(image, interior_threshold=0.0)
    assert prediction.labels.shape == (40, 60)
    assert len(prediction.confidence) == prediction.labels.max()
    np.testing.assert_array_equal(prediction.maps["pixelwise"], views[0].maps["pixelwise"])


@pytest.mark.parametrize("scales", ["[]", "[1, 0]", "[-1]", "[1, 9]"])
def test_scales_that_are_none_are_refused(tiny_model: Path, scales: str) -> None:
    with pytest.raises(ValueError, match=r"predict\.scales"):
        load_model(tiny_model).with_changes([f"predict.scales={scales}"])


def test_decode_settings_can_be_changed_for_a_call(tiny_model: Path, tiny_store: Store) -> None:
    segmenter = load_model(tiny_model)
    assert segmenter.segment(tiny_store.image(0), interior_threshold=2.0).max() == 0
    assert segmenter.with_changes(["decode.radius=3"]).card.decode.radius == 3
    with pytest.raises(ValueError, match="did you mean 'maxima_threshold'"):
        segmenter.segment(tiny_store.image(0), maxima_treshold=0.2)
    with pytest.raises(ValueError, match="decode and predict"):
        segmenter.with_changes(["training.lr=1"])


def test_colour_images_are_grey_or_refused_or_chosen_from(tiny_model: Path) -> None:
    segmenter = load_model(tiny_model)
    grey = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    as_rgb = np.repeat(grey[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(segmenter.segment(as_rgb), segmenter.segment(grey))
    coloured = as_rgb.copy()
    coloured[0, 0, 0] ^= 1
    with pytest.raises(ValueError, match="--channel"):
        segmenter.segment(coloured)
    one = segmenter.predict(coloured, channel=2).labels
    np.testing.assert_array_equal(one, segmenter.segment(grey))
    with pytest.raises(ValueError, match="channel 3: the image has 3"):
        segmenter.predict(coloured, channel=3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused(tiny_model: Path, bad: float) -> None:
    image = np.ones((40, 40), np.float32)
    image[3, 4] = bad
    with pytest.raises(ValueError, match=r"NaN|finite|infinite"):
        segment(image, tiny_model)


@pytest.mark.parametrize("shape", [(0, 0), (0, 40), (40, 40, 0), (40,)])
def test_an_image_without_pixels_is_refused(tiny_model: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image of shape .*: expected \(H, W\)"):
        segment(np.zeros(shape, np.uint8), tiny_model)


def test_a_constant_image_has_no_trouble(tiny_model: Path) -> None:
    assert np.isfinite(load_model(tiny_model).maps(np.full((50, 50), 7))["pixelwise"]).all()


def _copy(model: Path, to: Path) -> Path:
    shutil.copytree(model, to)
    return to


def test_a_pickle_is_never_opened(tiny_model: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    folder = _copy(tiny_model, tmp_path / "model")
    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_model(folder)
    assert not (tmp_path / "ran").exists()


def test_a_card_cannot_run_code(tiny_model: Path, tmp_path: Path) -> None:
    folder = _copy(tiny_model, tmp_path / "model")
    trap = f"!!python/object/apply:os.mkdir ['{tmp_path / 'ran'}']"
    (folder / "model.yaml").write_text(trap)
    with pytest.raises(ValueError, match="not a model card"):
        load_model(folder)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_model_is_named(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give a model folder"):
        load_model(tmp_path)
    folder = _copy(tiny_model, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="missing"):
        load_model(folder)


def test_unknown_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="known are auto"):
        find_device("tpu")


def test_public_names_are_lazy_and_known() -> None:
    assert cellshed.segment is segment
    with pytest.raises(AttributeError, match="no attribute 'segmnet'"):
        cellshed.segmnet  # noqa: B018
