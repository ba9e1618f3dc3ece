"""Maps of whole images: any size, and the same from any side with mirrors."""

import numpy as np
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


def test_mirrors_by_hand() -> None:
    image = np.zeros((32, 32, 1), np.float32)
    image[5, 7] = 1
    maps = predict_maps(_shifted, image, PredictSettings(mirrors=True))
    expected = np.zeros((32, 32, 1), np.float32)
    expected[5, [6, 8]] = 0.5  # two views shift it to either side
    assert np.array_equal(maps["inner_distance"], expected)


def test_with_mirrors_a_mirrored_image_has_mirrored_maps() -> None:
    image = np.random.default_rng(0).normal(size=(64, 96, 1)).astype(np.float32)
    settings = PredictSettings(mirrors=True)
    maps = predict_maps(_shifted, image, settings)["inner_distance"]
    for rows, columns in ((-1, 1), (1, -1)):
        mirrored = predict_maps(_shifted, image[::rows, ::columns], settings)["inner_distance"]
        np.testing.assert_allclose(mirrored[::rows, ::columns], maps, atol=1e-6)
