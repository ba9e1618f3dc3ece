"""Models of the package: found by name, taken by default, never rewritten."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import cellshed
from cellshed.data.store import Store
from cellshed.model import folder as model_folder
from cellshed.model.folder import (
    WEIGHTS,
    describe_shipped,
    find_model,
    load_network,
    read_card,
    read_weights,
    save_model,
    shipped_models,
)
from cellshed.predict import load_model
from cellshed.studies.tuning import tune


@pytest.fixture
def shipped(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the models phase and open; the working folder is empty."""
    package = tmp_path / "package"
    net, card = load_network(tiny_model)
    scores = {"test": {"drawn": {"f1": 0.5, "interval": [0.25, 0.75]}}}
    named = card.model_copy(update={"summary": "Drawn cells.", "licence": "MIT", "scores": scores})
    for name in ("phase", "open"):
        save_model(package / name, net.state_dict(), named, half=True)
    monkeypatch.setattr(model_folder, "SHIPPED", package)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return package


def test_a_shipped_model_is_found_by_name_and_by_default(shipped: Path) -> None:
    assert find_model("open") == shipped / "open"
    assert find_model() == find_model("phase") == shipped / "phase"
    with pytest.raises(ValueError, match="did you mean 'phase'"):
        find_model("phas")


def test_a_path_goes_before_a_name_unless_it_holds_no_model(
    shipped: Path, tiny_model: Path
) -> None:
    Path("phase").mkdir()
    assert find_model("phase") == shipped / "phase"
    shutil.copytree(tiny_model, "phase", dirs_exist_ok=True)
    assert find_model("phase") == Path("phase")
    assert find_model() == shipped / "phase"


def test_without_shipped_models_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_folder, "SHIPPED", tmp_path / "nothing")
    with pytest.raises(ValueError, match="--model is missing"):
        load_model()
    assert describe_shipped()[0].startswith("no model ships")


def test_half_precision_halves_kernels_and_is_read_as_float32(
    shipped: Path, tiny_model: Path
) -> None:
    whole, half = read_weights(tiny_model), read_weights(shipped / "phase")
    ratio = (shipped / "phase" / WEIGHTS).stat().st_size / (tiny_model / WEIGHTS).stat().st_size
    assert ratio < 0.65
    assert (shipped / "phase" / WEIGHTS).stat().st_mode & 0o444 == 0o444
    for name, tensor in whole.items():
        assert half[name].dtype == tensor.dtype
        bound = 2.0**-11 if tensor.ndim > 1 else 0.0  # half a unit in the last place
        torch.testing.assert_close(half[name], tensor, rtol=bound, atol=1e-7 if bound else 0.0)


def test_the_default_model_segments(shipped: Path, tiny_store: Store) -> None:
    image = tiny_store.image(0)
    np.testing.assert_array_equal(cellshed.segment(image), cellshed.segment(image, "phase"))


def test_the_list_names_size_licence_and_scores(shipped: Path) -> None:
    text = "\n".join(describe_shipped())
    assert "phase: Drawn cells." in text
    assert "MIT" in text
    assert "drawn: object F1 at IoU 0.5: 0.50 [0.25, 0.75]" in text


def test_tuning_a_shipped_model_is_refused(shipped: Path, tiny_store: Store) -> None:
    before = read_card(shipped / "phase")
    with pytest.raises(ValueError, match="--init phase"):
        tune("phase", tiny_store)
    assert read_card(shipped / "phase") == before


def test_models_of_this_package_are_small_and_say_what_they_are() -> None:
    for folder in shipped_models().values():
        card = read_card(folder)
        assert (folder / WEIGHTS).stat().st_size <= 12e6
        assert card.summary
        assert card.licence
        assert card.recipe
        assert (folder / "card.md").is_file()
