"""Exported networks: predict takes them, their README is right, int8 is scored."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cellshed.cli import app
from cellshed.data.store import Store
from cellshed.engines.registry import CONVERTER, ENGINES, choose_engine
from cellshed.export import FORMATS, Exported, _batches, export_model
from cellshed.model.folder import read_card, write_card
from cellshed.predict import load_model


def _need(form: str) -> None:
    for package in (*ENGINES[form].packages, CONVERTER):
        pytest.importorskip(package)


@pytest.mark.parametrize("form", FORMATS)
def test_an_exported_network_segments_as_the_model(
    form: str, tiny_model: Path, tiny_store: Store, tmp_path: Path
) -> None:
    _need(form)
    exported = export_model(tiny_model, tmp_path / "out", to=form)
    assert exported.text() == ""
    image = np.asarray(tiny_store.image(0))
    ours = load_model(exported.folder, engine=form).maps(image)
    for name, maps in load_model(tiny_model, engine="torch").maps(image).items():
        np.testing.assert_allclose(ours[name], maps, atol=1e-4)
    readme = (exported.folder / "README.md").read_text()
    assert "`pixelwise`: (N, 3, H, W), probabilities of edge, interior, background" in readme
    assert "`inner_distance`: (N, 1, H, W), values from 0 up" in readme
    assert "Enlarge" not in readme
    assert choose_engine("auto", exported.folder, "cpu") in ENGINES
    with pytest.raises(ValueError, match=r"needs model\.safetensors"):
        load_model(exported.folder, engine="torch")


def test_the_readme_says_that_images_are_enlarged(tiny_model: Path, tmp_path: Path) -> None:
    _need("onnx")
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    card = read_card(model)
    predict = card.predict.model_copy(update={"zoom": 1.25})
    write_card(model, card.model_copy(update={"predict": predict}))
    readme = (export_model(model, tmp_path / "out").folder / "README.md").read_text()
    assert "Enlarge images 1.25 times first" in readme


def test_int8_is_close_and_scored_on_val(
    tiny_model: Path, tiny_store: Store, tmp_path: Path
) -> None:
    _need("onnx")
    seen: list[tuple[int, int]] = []
    exported = export_model(
        tiny_model,
        tmp_path / "out",
        calibrate=tiny_store.path,
        progress=lambda *step: seen.append(step),
    )
    count = len(tiny_store.select(split="val"))
    assert seen == [(i + 1, count) for i in range(count)]
    assert exported.text().startswith("object F1 at IoU 0.5 on val: float32 ")
    image = np.asarray(tiny_store.image(0))
    small = load_model(exported.folder, engine="onnx").maps(image)
    differences = [
        np.abs(small[name] - maps).mean()
        for name, maps in load_model(tiny_model, engine="torch").maps(image).items()
    ]
    assert 0 < max(differences) < 0.05
    assert "int8" in (exported.folder / "README.md").read_text()


def test_ranges_for_int8_are_seen_at_the_scale_of_the_network(tiny_model: Path) -> None:
    segmenter = load_model(tiny_model).with_changes(["predict.zoom=1.5"])
    image = np.random.default_rng(0).integers(0, 255, (64, 128), np.uint8)
    (batch,) = _batches(segmenter, [image])
    assert batch.shape == (1, 1, 96, 192)
    np.testing.assert_array_equal(batch[0, 0], segmenter.prepare(image, zoom=1.5)[:, :, 0])


def test_int8_by_images_alone_has_no_scores(
    tiny_model: Path, tiny_livecell: Path, tmp_path: Path
) -> None:
    _need("onnx")
    exported = export_model(tiny_model, tmp_path / "out", calibrate=tiny_livecell / "images")
    assert (exported.float32_f1, exported.int8_f1) == (None, None)


def test_int8_that_loses_is_advised_against() -> None:
    assert "better choice" not in Exported(Path(), 0.750, 0.745).text()
    assert (
        Exported(Path(), 0.750, 0.700)
        .text()
        .endswith("float32 0.750, int8 0.700: 0.050 lost, float32 is the better choice")
    )


def test_what_cannot_be_exported_is_named(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'openvino'"):
        export_model(tiny_model, tmp_path / "out", to="openvio")
    _need("onnx")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("")
    with pytest.raises(ValueError, match="exists already"):
        export_model(tiny_model, tmp_path / "there")
    with pytest.raises(ValueError, match="both --int8 and --calibrate"):
        app(["export", "m", "--out", str(tmp_path / "out"), "--int8"], standalone_mode=False)
