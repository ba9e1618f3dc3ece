"""Engines: every one in ENGINES gives torch's maps and labels, for any size of image."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cellshed.data.store import Store
from cellshed.engines import conversion, registry
from cellshed.engines.registry import ENGINES, choose_engine, choose_precision, open_engine
from cellshed.engines.torch_engine import over_arrays
from cellshed.model import build_model
from cellshed.model.folder import ModelCard, save_model
from cellshed.predict import load_model
from cellshed.settings import ModelSettings, NormalizeSettings

SIZES = [(32, 32), (96, 64), (64, 160)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLSHED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _need(engine: str) -> None:
    for package in ENGINES[engine].packages:
        pytest.importorskip(package)
    if engine != "torch":
        pytest.importorskip(registry.CONVERTER)


def _random_model(folder: Path, **changes: object) -> Path:
    tree = {
        "backbone": "featurenet",
        "backbone_levels": ("C2", "C3"),
        "pyramid_levels": ("P2", "P3"),
        "pyramid_width": 16,
        "head_width": 8,
        "head_hidden": 8,
        "pretrained": "none",
    }
    settings = ModelSettings.model_validate(tree | changes)
    card = ModelCard(model=settings, normalize=NormalizeSettings())
    save_model(folder, build_model(settings, seed=1).state_dict(), card)
    return folder


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "changes",
    [
        {"location": True, "in_channels": 2},
        {"fusion": "sum", "head_relu": True, "head_stride": 2, "separable": True},
        {"head_stride": 4, "head_finish": "shuffle", "location": False, "norm": "group"},
    ],
)
def test_the_maps_are_the_plain_network_s(
    engine: str, changes: dict[str, object], tmp_path: Path
) -> None:
    import torch

    from cellshed.model.folder import load_network

    _need(engine)
    folder = _random_model(tmp_path / "model", **changes)
    plain, card = load_network(folder)
    forward = open_engine(engine, folder, "cpu")
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        image = rng.normal(size=(1, card.model.in_channels, height, width)).astype(np.float32)
        found = forward(image)
        with torch.inference_mode():
            expected = plain(torch.from_numpy(image))
        assert list(found) == list(card.model.heads)
        for name, maps in expected.items():
            np.testing.assert_allclose(found[name], maps.numpy(), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_maps_stay_as_they_are_when_the_next_image_comes(engine: str, tmp_path: Path) -> None:
    _need(engine)
    forward = open_engine(engine, _random_model(tmp_path / "model"), "cpu")
    first = forward(np.ones((1, 1, 32, 64), np.float32))
    kept = {name: values.copy() for name, values in first.items()}
    forward(np.zeros((1, 1, 32, 64), np.float32))
    for name in kept:
        np.testing.assert_array_equal(first[name], kept[name])


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_network_cannot_compute_is_an_error_to_go_on_from(
    engine: str, tmp_path: Path
) -> None:
    _need(engine)
    forward = open_engine(engine, _random_model(tmp_path / "model"), "cpu")
    with pytest.raises((RuntimeError, ValueError)):
        forward(np.ones((1, 3, 32, 64), np.float32))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mirrors", ["4", "1"])
def test_the_labels_are_torch_s(
    engine: str, mirrors: str, tiny_model: Path, tiny_store: Store
) -> None:
    _need(engine)
    changes = [f"predict.mirrors={mirrors}", "decode.interior_threshold=0.2"]
    ours = load_model(tiny_model, engine=engine).with_changes(changes)
    torch_s = load_model(tiny_model, engine="torch").with_changes(changes)
    for i in range(2):
        image = np.asarray(tiny_store.image(i))[: 128 - 5 * i, : 160 - 7 * i]
        differ = ours.segment(image) != torch_s.segment(image)
        assert differ.mean() < 0.002  # ties: pixels that both maps give to either of two cells


@pytest.mark.parametrize("engine", [name for name, engine in ENGINES.items() if engine.bf16])
def test_bf16_is_near_and_told(engine: str, tiny_model: Path, tiny_store: Store) -> None:
    _need(engine)
    exact = load_model(tiny_model, engine=engine, device="cpu")
    rough = load_model(tiny_model, engine=engine, device="cpu", precision="bf16")
    image = np.asarray(tiny_store.image(0))
    found, expected = rough.maps(image), exact.maps(image)
    for name, maps in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], maps, atol=0.1)  # bf16 has 8 bits
        assert np.abs(found[name] - maps).mean() < 0.01
    assert exact.maker()["precision"] == "fp32"
    assert rough.maker()["precision"] == "bf16"


@pytest.mark.parametrize("usual", [True, False])
def test_torch_computes_without_tf32_and_leaves_the_setting_as_it_was(usual: bool) -> None:
    seen = []

    def net(x: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(torch.backends.cudnn.allow_tf32)
        return {"head": x}

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = usual
    try:
        over_arrays(net)(np.zeros((1, 1, 4, 4), np.float32))
        assert torch.backends.cudnn.allow_tf32 is usual
    finally:
        torch.backends.cudnn.allow_tf32 = before
    assert seen == [False]


@pytest.mark.parametrize("hardware", [True, False])
def test_auto_precision_is_what_hardware_and_engine_have(
    hardware: bool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_has_gpu", lambda: False)
    monkeypatch.setattr(registry, "cpu_multiplies_bf16", lambda: hardware)
    fast = "bf16" if hardware else "fp32"
    assert choose_precision("auto", "auto", tiny_model) == fast
    for name, engine in ENGINES.items():
        expected = fast if engine.bf16 else "fp32"
        assert choose_precision("auto", name, tiny_model, "cpu") == expected
        assert choose_precision("bf16", name, tiny_model, "cpu") == "bf16"
        assert choose_precision("fp32", name, tiny_model, "cpu") == "fp32"
    with pytest.raises(ValueError, match="did you mean 'bf16'"):
        choose_precision("bf61", "auto", tiny_model)


@pytest.mark.parametrize(
    ("there", "expected"), [({"onnxruntime", "torch"}, "fp32"), ({"openvino"}, "bf16")]
)
def test_auto_precision_is_one_that_an_engine_for_the_folder_has(
    there: set[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that holds the network for ONNX Runtime and OpenVINO alone."""
    (tmp_path / "model.onnx").touch()
    monkeypatch.setattr(registry, "_has_gpu", lambda: False)
    monkeypatch.setattr(registry, "cpu_multiplies_bf16", lambda: True)
    monkeypatch.setattr(registry, "is_there", lambda *names: {*names} <= there)
    assert choose_precision("auto", "auto", tmp_path) == expected


def test_auto_precision_asks_the_processor_where_the_graphics_card_has_no_part(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_multiplies_bf16", lambda device: device != "cpu")
    assert choose_precision("auto", "openvino", tiny_model) == "fp32"
    assert choose_precision("auto", "torch", tiny_model) == "bf16"


def test_only_engines_of_the_precision_are_taken(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"openvino", "onnxruntime", "onnx", "torch"}
    monkeypatch.setattr(registry, "find_spec", lambda name: name in there or None)
    monkeypatch.setattr(registry, "_has_gpu", lambda: False)
    assert choose_engine("auto", tiny_model, precision="bf16") == "openvino"
    there.discard("openvino")
    assert choose_engine("auto", tiny_model, precision="bf16") == "torch"
    with pytest.raises(ValueError, match="bf16: use --engine openvino or torch"):
        choose_engine("onnx", tiny_model, precision="bf16")


def test_a_network_is_converted_once(tiny_model: Path, cache: Path) -> None:
    pytest.importorskip("onnx")
    path = conversion.onnx_file(tiny_model)
    written = path.stat().st_mtime_ns
    assert path.parent == cache
    assert conversion.onnx_file(tiny_model) == path
    assert path.stat().st_mtime_ns == written
    assert [p.name for p in cache.iterdir()] == [path.name]  # nothing half-written is left


def test_only_the_latest_networks_are_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr(conversion, "KEPT", 2)
    cache.mkdir()
    for age, name in enumerate(("new", "middle", "old")):
        (cache / f"{name}.onnx").write_text("")
        os.utime(cache / f"{name}.onnx", (1000 - age, 1000 - age))
    added = conversion.onnx_file(_random_model(tmp_path / "model"))
    assert {path.name for path in cache.iterdir()} == {"new.onnx", added.name}


def test_other_weights_are_another_file(tmp_path: Path) -> None:
    one = conversion._fingerprint(_random_model(tmp_path / "one"))
    same = conversion._fingerprint(_random_model(tmp_path / "same"))
    other = conversion._fingerprint(_random_model(tmp_path / "other", head_width=16))
    assert one == same != other


def test_a_cache_that_cannot_be_written_does_not_matter(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CELLSHED_CACHE", str(tmp_path / "file" / "cache"))
    assert conversion.onnx_file(tiny_model).is_file()


def test_a_network_that_is_converted_beside_the_cache_goes_with_the_process(
    tiny_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "file").write_text("")
    (tmp_path / "temporary").mkdir()
    code = (
        "from pathlib import Path; from cellshed.engines.conversion import onnx_file;"
        f"assert onnx_file(Path({str(tiny_model)!r})).is_file()"
    )
    places = {
        "CELLSHED_CACHE": str(tmp_path / "file" / "cache"),
        "TMPDIR": str(tmp_path / "temporary"),
    }
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | places)
    assert not list((tmp_path / "temporary").glob("cellshed-*"))


def test_auto_is_the_first_that_is_installed(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"openvino", "onnxruntime", "onnx", "torch"}
    monkeypatch.setattr(registry, "find_spec", lambda name: name in there or None)
    monkeypatch.setattr(registry, "_has_gpu", lambda: False)
    assert choose_engine("auto", tiny_model) == next(iter(ENGINES))
    there.discard("onnxruntime")
    assert choose_engine("auto", tiny_model) == "openvino"
    there.discard("onnx")  # which converts
    assert choose_engine("auto", tiny_model) == "torch"
    there.add("onnx")
    monkeypatch.setattr(registry, "_has_gpu", lambda: True)
    assert choose_engine("auto", tiny_model) == "torch"
    assert choose_engine("auto", tiny_model, "cpu") == "openvino"


def test_what_cannot_be_used_is_named(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="did you mean 'onnx'"):
        load_model(tiny_model, engine="onx")
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install openvino onnx"):
        load_model(tiny_model, engine="openvino")
    monkeypatch.undo()
    if importlib.util.find_spec("onnxruntime"):
        with pytest.raises(ValueError, match="--engine torch for 'cuda'"):
            load_model(tiny_model, engine="onnx", device="cuda")


def test_a_folder_without_a_network_is_named(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"needs model\.safetensors"):
        load_model(folder, engine="torch")


def test_no_torch_where_another_engine_has_its_file(tiny_model: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    conversion.onnx_file(tiny_model)
    code = (
        "import sys, numpy as np, cellshed;"
        "image = np.zeros((40, 50), np.uint8);"
        f"cellshed.load_model({str(tiny_model)!r}, engine='onnx').segment(image);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
