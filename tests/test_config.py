"""Settings: presets, overrides, and errors that name the remedy."""

import pytest
import yaml

from cellshed.config import load_config, parse_config, presets, to_yaml
from cellshed.settings import Config


def test_every_preset_loads_and_survives_a_round_trip() -> None:
    assert {"reference", "default", "cpu-small", "debug"} <= set(presets())
    for name in presets():
        config = load_config(name)
        assert parse_config(to_yaml(config)) == config


def test_the_reference_preset_is_the_papers_recipe() -> None:
    config = load_config("reference")
    training = config.training
    assert (training.epochs, training.batch_size, training.lr) == (50, 2, 5e-4)
    assert (training.clip, training.clip_norm) == ("variable", 1e-3)
    assert config.model.heads == ("inner_distance", "pixelwise")
    assert config.targets.inner_distance.alpha == "auto"
    assert config.decode.small_objects_threshold == 15


def test_overrides_reach_their_field() -> None:
    config = parse_config("", ["training.lr=3e-4", "model.heads=[pixelwise]", "augment.flip=no"])
    assert config.training.lr == 3e-4
    assert config.model.heads == ("pixelwise",)
    assert config.augment.flip is False


def test_overrides_win_over_the_file() -> None:
    assert parse_config("training: {lr: 0.5}", ["training.lr=0.25"]).training.lr == 0.25


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().training.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainin: {lr: 1}", "unknown setting 'trainin'; did you mean 'training'?"),
        ("training: {lrr: 1}", "unknown setting 'training.lrr'; did you mean 'lr'?"),
        ("training: {lr: -1}", "training.lr = -1"),
        ("augment: {zoom: [2, 1]}", "the smaller first"),
        ("predict: {tile: 1000}", "tile 1000: give a multiple of 32"),
        ("predict: {tile: 256, overlap: 225}", "overlap 225 with tiles of 256: give at most 224"),
        ("targets: {pixelwise: {dilatoin: 1}}", "did you mean 'dilation'"),
        ("- 1", "expected sections"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="settings") as error:
        parse_config(text)
    assert message in str(error.value)


@pytest.mark.parametrize("override", ["training.lr", "=3", "licence.x=1"])
def test_malformed_overrides_are_refused(override: str) -> None:
    with pytest.raises(ValueError, match="--set"):
        parse_config("licence: free", [override])


def test_a_missing_file_offers_the_nearest_preset() -> None:
    with pytest.raises(ValueError, match="did you mean 'cpu-small'"):
        load_config("cpu-smal")


def test_yaml_has_no_python_tags() -> None:
    assert yaml.safe_load(to_yaml(Config()))["training"]["lr"] == Config().training.lr
