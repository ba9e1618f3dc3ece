"""A network applied to whole images: normalised image in, maps out."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cellshed.settings import PredictSettings
from cellshed.tiling import predict_tiled

Maps = dict[str, NDArray[np.float32]]
Forward = Callable[[NDArray[np.float32]], Maps]
"""A network: (1, C, H, W), H and W multiples of 32 -> head name -> (1, channels, H, W). It raises
RuntimeError where it can't, for want of memory for example."""

MIRRORS = ((1, 1), (-1, -1), (-1, 1), (1, -1))
"""Steps along rows and columns of an image and of its three mirror images, first the half turn,
which brings most (docs/experiments.md)."""


def predict_maps(forward: Forward, image: NDArray[np.float32], settings: PredictSettings) -> Maps:
    """Return each head's map of an image of any size.

    Args:
        forward: the network, see Forward.
        image: (H, W, C), normalised as the network was trained.
        settings: tile, overlap, and how many mirror images to average over.

    Returns:
        Head name -> (H, W, channels), float32.
    """

    def one_tile(tile: NDArray[np.float32]) -> Maps:
        outputs = forward(np.ascontiguousarray(tile.transpose(2, 0, 1)[None]))
        return {name: found[0].transpose(1, 2, 0) for name, found in outputs.items()}

    whole = one_tile if settings.mirrors == 1 else _over(MIRRORS[: settings.mirrors], one_tile)
    return predict_tiled(whole, image, settings.tile, settings.overlap)


def _over(
    mirrors: Sequence[tuple[int, int]], function: Callable[[NDArray[np.float32]], Maps]
) -> Callable[[NDArray[np.float32]], Maps]:
    """Return a function that gives the mean of the maps of a tile's mirror images."""

    def average(tile: NDArray[np.float32]) -> Maps:
        views = [function(tile[::rows, ::columns]) for rows, columns in mirrors]
        return {
            name: np.mean(
                [
                    view[name][::rows, ::columns]
                    for view, (rows, columns) in zip(views, mirrors, strict=True)
                ],
                axis=0,
            )
            for name in views[0]
        }

    return average
