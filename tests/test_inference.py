"""Maps of whole images: any size, and the same from any side with mirrors."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cellshed.inference import predict_maps
from cellshed.settings import PredictSettings


def _shifted(x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """A network with a preference: each pixel takes its left neighbour's value."""
    return {"inner_distance": np.roll(x, 1, axis=3)}


def test_maps_are_what_the_network_says() -> None:
    image = np.arange(32 * 64, dtype=np.float32).reshape(32, 64, 1)
    maps = predict_maps(_shifted, image, PredictSettings())
    assert np.array_equal(maps["inner_distance"], np.roll(image, 1, axis=1))


@pytest.mark.parametrize("mirrors", [2, 4])
def test_mirrors_by_hand(mirrors: int) -> None:
    image = np.zeros((32, 32, 1), np.float32)
    image[5, 7] = 1
    maps = predict_maps(_shifted, image, PredictSettings(mirrors=mirrors))
    expected = np.zeros((32, 32, 1), np.float32)
    expected[5, [6, 8]] = 0.5  # half of the views shift it to either side
    assert np.array_equal(maps["inner_distance"], expected)


@pytest.mark.parametrize(("mirrors", "turns"), [(2, [(-1, -1)]), (4, [(-1, 1), (1, -1)])])
def test_with_mirrors_a_mirrored_image_has_mirrored_maps(
    mirrors: int, turns: list[tuple[int, int]]
) -> None:
    image = np.random.default_rng(0).normal(size=(64, 96, 1)).astype(np.float32)
    settings = PredictSettings(mirrors=mirrors)
    maps = predict_maps(_shifted, image, settings)["inner_distance"]
    for rows, columns in turns:
        mirrored = predict_maps(_shifted, image[::rows, ::columns], settings)["inner_distance"]
        np.testing.assert_allclose(mirrored[::rows, ::columns], maps, atol=1e-6)


@pytest.mark.parametrize(("before", "now"), [(False, 1), (True, 4), (2, 2)])
def test_a_switch_from_before_says_how_many_mirrors(before: bool | int, now: int) -> None:
    assert PredictSettings.model_validate({"mirrors": before}).mirrors == now


@pytest.mark.parametrize("wrong", [0, 3, 8])
def test_there_are_one_two_or_four_mirrors(wrong: int) -> None:
    with pytest.raises(ValueError, match="mirrors"):
        PredictSettings.model_validate({"mirrors": wrong})
