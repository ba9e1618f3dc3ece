"""Labels to the maps that the network learns, and the registry TARGETS of such maps.

The transforms are those of Greenwald et al., Nature Biotechnology 40, 555 (2022), as their
software computes them where the text says something else.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import ArrayLike, NDArray

from cellshed.class_maps import foreground, pixelwise, pixelwise_separated
from cellshed.distance_maps import Map, Measured, inner_of, measure, outer_of
from cellshed.regions import as_labels
from cellshed.settings import TargetsSettings
from cellshed.spelling import nearest


class Source:
    """A label image that several targets are computed from; what they share is measured once."""

    def __init__(self, labels: ArrayLike) -> None:
        self.labels = as_labels(labels)
        self._measured: dict[int, Measured] = {}

    def measured(self, erosion: int) -> Measured:
        """Return distances and pieces of the labels eroded by so many pixels."""
        if erosion not in self._measured:
            self._measured[erosion] = measure(self.labels, erosion)
        distance, found = self._measured[erosion]
        return Measured(distance.copy(), found)


@dataclass(frozen=True)
class Target:
    """A map that a head of the network learns, and how."""

    name: str
    """Also the name of its settings in TargetsSettings."""
    channel_names: tuple[str, ...]
    loss: Literal["mse", "cross_entropy"]
    activation: Literal["relu", "softmax"]
    compute: Callable[[Source, TargetsSettings], NDArray[Any]]
    """Returns the map, (H, W) or (H, W, C)."""

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.channel_names)

    def encode(self, labels: ArrayLike | Source, settings: TargetsSettings) -> NDArray[Any]:
        """Return the map (H, W, C) of a label image."""
        source = labels if isinstance(labels, Source) else Source(labels)
        return self.compute(source, settings).reshape(*source.labels.shape, self.channels)


def encode_targets(
    labels: ArrayLike, names: Iterable[str], settings: TargetsSettings
) -> dict[str, NDArray[Any]]:
    """Return the named targets of a label image; what they share is computed once.

    Args:
        labels: integer (H, W), 0 = background.
        names: of TARGETS.
        settings: arguments of each target.

    Returns:
        For each name its map (H, W, C): float32 if its loss is mse, else uint8 and one-hot.

    Raises:
        ValueError: an unknown name, or labels that are no label image.
    """
    names = tuple(names)
    for name in names:
        if name not in TARGETS:
            raise ValueError(f"unknown target '{name}'; {nearest(name, TARGETS)}")
    source = Source(labels)
    return {name: TARGETS[name].encode(source, settings) for name in names}


def _compute_inner(source: Source, settings: TargetsSettings) -> Map:
    how = settings.inner_distance
    return inner_of(source.measured(how.erosion), how.alpha, how.beta, how.power)


def _compute_outer(source: Source, settings: TargetsSettings) -> Map:
    how = settings.outer_distance
    return outer_of(source.measured(how.erosion), how.normalize)


_ALL = (
    Target("inner_distance", ("inner_distance",), "mse", "relu", _compute_inner),
    Target("outer_distance", ("outer_distance",), "mse", "relu", _compute_outer),
    Target(
        "pixelwise",
        ("edge", "interior", "background"),
        "cross_entropy",
        "softmax",
        lambda source, settings: pixelwise(source.labels, **settings.pixelwise.model_dump()),
    ),
    Target(
        "pixelwise_separated",
        ("background_edge", "cell_edge", "interior", "background"),
        "cross_entropy",
        "softmax",
        lambda source, settings: pixelwise_separated(
            source.labels, **settings.pixelwise_separated.model_dump()
        ),
    ),
    Target(
        "foreground",
        ("background", "foreground"),
        "cross_entropy",
        "softmax",
        lambda source, settings: foreground(source.labels),
    ),
)

TARGETS: dict[str, Target] = {target.name: target for target in _ALL}
"""The targets by name. The contract test goes through all of them, new ones included."""
