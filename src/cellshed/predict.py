"""A trained model applied to images: image in, labels out."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from cellshed.config import parse_config, with_overrides
from cellshed.data.images import one_channel
from cellshed.engines.registry import choose_precision, network_hash, open_engine
from cellshed.inference import Forward, Maps, predict_maps
from cellshed.metrics.calibration import calibrate
from cellshed.model.folder import ModelCard, find_model, read_card
from cellshed.normalize import as_channels, as_taken, normalize
from cellshed.rivals import View, best_cells, certain_cells, gain_of_second, mean_confidence
from cellshed.scale import FOR_ALL, scales_for, smaller_scales, zoomed
from cellshed.settings import LARGEST_CHANGE, Config, DecodeSettings

Diameter = float | Literal["auto"] | None
"""Mean diameter in pixels of the cells in an image; None: not told."""
ZOOMS = (1.0, 0.5, 0.71, 1.41, 2.0)
"""Scales that auto tries."""
HOME_ADVANTAGE = 0.05
"""The mean raw confidence at another scale must exceed that at the image's own by this: with less,
some images of the training's own scale would be resized and their scores fall."""


@dataclass(frozen=True)
class Prediction:
    """The cells of one image."""

    labels: NDArray[np.int32]
    """(H, W), 0 = background, cells 1..n."""
    confidence: NDArray[np.float32]
    """(n,) in [0, 1]; entry k - 1 belongs to label k. With a tuned model the probability that the
    cell has an IoU above 0.5 with a true one; else a rank alone."""
    maps: Maps
    """Head name -> (h, w, C), what the network said, at the first of the scales at which it saw
    the image."""
    scales: tuple[float, ...] = ()
    """At which the network saw the image, without predict.zoom."""


class Segmenter:
    """A model ready to segment: network, normalisation and decoder together."""

    def __init__(
        self, forward: Forward, card: ModelCard, fingerprint: str = "", precision: str = "fp32"
    ) -> None:
        """Put the parts together.

        Args:
            forward: the network.
            card: its model.yaml.
            fingerprint: SHA-256 of the weights.
            precision: what the network computes in.
        """
        self.card = card
        self.diameter: Diameter = None
        self._forward = forward
        self._fingerprint = fingerprint
        self.precision = precision

    def with_changes(self, overrides: Iterable[str]) -> "Segmenter":
        """Return the same model with other settings, such as "decode.radius=3".

        Only the sections decode and predict can be changed after training. Who sets predict.scales
        wants these: they then stand for cells of all sizes.
        """
        overrides = list(overrides)
        sections = {
            "decode": self.card.decode.model_dump(),
            "predict": self.card.predict.model_dump(),
        }
        if "predict.scales" in [override.partition("=")[0].strip() for override in overrides]:
            sections["predict"] |= FOR_ALL
        config = parse_config(yaml.safe_dump(sections), overrides)
        trained = Config(decode=config.decode, predict=config.predict)
        for name, value in trained:
            if value != getattr(config, name):
                raise ValueError(f"--set {name}: a trained model has decode and predict to set")
        update = {"decode": config.decode, "predict": config.predict}
        other = copy.copy(self)
        other.card = self.card.model_copy(update=update)
        return other

    def with_diameter(self, diameter: Diameter) -> "Segmenter":
        """Return the same model for images whose cells have this mean diameter, in pixels.

        Images are then shown to the network at the scale at which cells are as large as those that
        it was trained on.

        Args:
            diameter: in pixels; "auto": each image is shown at five scales from half to double,
                at about eight times the cost, and the one at which the cells are surest is
                taken, its own unless another is clearly better; None: images as they are.

        Raises:
            ValueError: no such diameter, or the model doesn't say what it was trained on.
        """
        other = copy.copy(self)
        other.diameter = diameter if diameter in (None, "auto") else self._possible(diameter)
        return other

    def _possible(self, diameter: Any) -> float:
        """Return a diameter in pixels as a number that images can be resized by."""
        try:
            pixels = float(diameter)
        except (TypeError, ValueError) as error:
            raise ValueError(f"diameter '{diameter}': give a number of pixels, or auto") from error
        if self._trained is None:
            raise ValueError(
                f"diameter {diameter}: the model '{self.card.name}' doesn't say how large its "
                "training cells were: leave the diameter out, or train again"
            )
        change = self._trained / pixels if pixels > 0 else 0.0
        if not 1 / LARGEST_CHANGE <= change <= LARGEST_CHANGE:
            raise ValueError(
                f"diameter {diameter}: the model's cells have {self._trained}, and images are "
                f"resized by {LARGEST_CHANGE:g} at most; give the mean diameter in pixels"
            )
        return pixels

    def maker(self) -> dict[str, Any]:
        """Return what labels depend on besides the image: weights and settings, as for JSON."""
        card = self.card.model_dump(mode="json")
        told = ("name", "normalize", "decode", "calibration", "predict")
        settings = {name: card[name] for name in told}
        own = {"weights": self._fingerprint, "precision": self.precision}
        return own | {"diameter": self.diameter} | settings

    def prepare(
        self, image: NDArray[Any], channel: int | None = None, zoom: float = 1.0
    ) -> NDArray[np.float32]:
        """Return the image as network input, (h, w, C) normalised.

        Args:
            image: (H, W) or (H, W, C), any numeric dtype.
            channel: the one channel to use; None: all, or the first of several equal ones.
            zoom: factor of height and width.

        Raises:
            ValueError: channels don't suit the model, or pixels aren't finite.
        """
        chosen = _choose_channels(image, self.card.model.in_channels, channel)
        return normalize(zoomed(chosen, zoom), self.card.normalize)

    def maps(self, image: NDArray[Any], *, channel: int | None = None) -> Maps:
        """Return the network's maps of an image of any size, each (h, w, C).

        Height and width are those at which the network saw the image: its own, but for a diameter,
        predict.zoom and the first of predict.scales.
        """
        return self._first_view(image, channel)[1].maps

    def views(self, image: NDArray[Any], *, channel: int | None = None) -> list[View]:
        """Return the image as seen at each of predict.scales, as `maps` does for the first of them.

        With predict.scales_by_size at those scales that suit the cells of that first view; with
        predict.surer_when_smaller at smaller ones where those show the cells to be in pieces.
        """
        zoom, first = self._first_view(image, channel)
        settings = self.card.predict
        seen = {settings.scales[0]: first}

        def look(scales: Sequence[float]) -> list[View]:
            for scale in scales:
                if scale not in seen:
                    seen[scale] = self._view(image, channel, zoom * scale)
            return [seen[scale] for scale in scales]

        scales = settings.scales
        if settings.scales_by_size:
            scales = scales_for(certain_cells(first, self.card.decode)[0], settings)
        views = look(scales)
        return look(smaller_scales(scales)) if self._in_pieces(scales, views) else views

    def _in_pieces(self, scales: Sequence[float], views: Sequence[View]) -> bool:
        """Tell whether cells at the second, smaller scale are so much surer than at the first."""
        gain = self.card.predict.surer_when_smaller
        if not gain or len(scales) < 2 or scales[1] >= scales[0]:
            return False
        return gain_of_second(views, self.card.decode) >= gain

    def _first_view(self, image: NDArray[Any], channel: int | None) -> tuple[float, View]:
        """Return the scale that the diameter asks for, and the view at the first of the scales."""
        if self.diameter == "auto":
            return self._best_view(image, channel)
        zoom = 1.0
        if isinstance(self.diameter, float):
            assert self._trained is not None
            zoom = self._trained / self.diameter
        return zoom, self._view(image, channel, zoom * self.card.predict.scales[0])

    def _view(self, image: NDArray[Any], channel: int | None, zoom: float) -> View:
        prepared = self.prepare(image, channel, zoom * self.card.predict.zoom)
        return View(predict_maps(self._forward, prepared, self.card.predict), zoom)

    def _best_view(self, image: NDArray[Any], channel: int | None) -> tuple[float, View]:
        """Return the scale at which the cells found are the surest, on average, and the view."""
        best, most = None, float("-inf")
        for zoom in ZOOMS:
            view = self._view(image, channel, zoom * self.card.predict.scales[0])
            mean = mean_confidence(view, self.card.decode)
            mean += HOME_ADVANTAGE if zoom == 1 else 0.0
            if mean > most:
                best, most = (zoom, view), mean
        assert best is not None
        return best

    @property
    def _trained(self) -> float | None:
        """Median diameter in pixels of the cells that it was trained on."""
        known = self.card.data.get("cell_diameter")
        return float(known) if known else None

    def predict(
        self, image: NDArray[Any], *, channel: int | None = None, **changes: Any
    ) -> Prediction:
        """Return labels, confidences and maps of an image.

        Args:
            image: (H, W) or (H, W, C), any size, any numeric dtype.
            channel: the one channel to use.
            changes: fields of DecodeSettings that differ from the model's own.
        """
        changed = self._with_decode(changes)
        views = changed.views(image, channel=channel)
        height, width = np.shape(image)[:2]
        return changed.decode(views, (height, width))

    def _with_decode(self, changes: Mapping[str, Any]) -> "Segmenter":
        """Return the same model with other decode settings: at which scales it looks, too."""
        other = copy.copy(self)
        other.card = self.card.model_copy(update={"decode": self.decode_settings(**changes)})
        return other

    def decode(
        self, views: Sequence[View], shape: tuple[int, int] | None = None, **changes: Any
    ) -> Prediction:
        """Turn an image's views into labels and confidences, by the model's decode settings.

        Cells are found at the scale of the maps, which the settings were tuned at, and brought to
        the image's size; a cell that has no pixel left there is dropped.

        Args:
            views: of this model, see `views`.
            shape: height and width of the image; None: those of the first view's maps.
            changes: fields of DecodeSettings that differ from the model's own.
        """
        labels, sure = best_cells(views, self.decode_settings(**changes), shape)
        if self.card.calibration is not None:
            sure = calibrate(sure, self.card.calibration)
        return Prediction(labels, sure, views[0].maps, tuple(view.scale for view in views))

    def segment(self, image: NDArray[Any], **changes: Any) -> NDArray[np.int32]:
        """Return the labels of an image, (H, W) int32."""
        return self.predict(image, **changes).labels

    def decode_settings(self, **changes: Any) -> DecodeSettings:
        """Return the model's decode settings with some fields changed."""
        if not changes:
            return self.card.decode
        return with_overrides(self.card.decode, changes, "decode")


def load_model(
    name: str | Path | None = None,
    *,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "fp32",
    diameter: Diameter = None,
) -> Segmenter:
    """Load a model for segmentation.

    Args:
        name: a model folder, a run folder, or the name of a shipped model; None: `phase`.
        device: auto, cpu, cuda or mps.
        engine: what computes the maps: torch, onnx or openvino; auto: torch where there is a GPU,
            else the fastest that is installed. The first time, a network is converted for
            another engine than torch; the result is kept in the user's cache.
        precision: fp32: the same labels on all machines, up to ties; bf16: faster where hardware
            multiplies it, slower elsewhere, not with onnx; auto: whichever is faster.
        diameter: mean diameter of the cells in the images, in pixels; see
            `Segmenter.with_diameter`.

    Raises:
        ValueError: it isn't a model, or device or engine aren't there, or the diameter is none.
    """
    folder = find_model(name)
    card = read_card(folder)
    precision = choose_precision(precision, engine, folder, device)
    forward = open_engine(engine, folder, device, precision)
    return Segmenter(forward, card, network_hash(folder), precision).with_diameter(diameter)


def segment(
    image: NDArray[Any], model: Any = None, *, diameter: Diameter = None, **changes: Any
) -> NDArray[np.int32]:
    """Find every cell of an image.

    Args:
        image: (H, W) or (H, W, C), any size, any numeric dtype.
        model: a Segmenter, or what load_model takes; None: the shipped model `phase`.
        diameter: mean diameter of the cells in the image, in pixels; "auto" estimates it.
        changes: fields of DecodeSettings, such as maxima_threshold=0.2.

    Returns:
        Labels (H, W) int32: 0 background, cells 1..n.
    """
    segmenter = model if isinstance(model, Segmenter) else load_model(model)
    if diameter is not None:
        segmenter = segmenter.with_diameter(diameter)
    return segmenter.segment(image, **changes)


def _choose_channels(image: NDArray[Any], wanted: int, channel: int | None) -> NDArray[Any]:
    """Return the (H, W) or (H, W, wanted) part of an image that a model takes."""
    image = as_channels(image)
    if channel is not None:
        return one_channel(image, channel)
    taken = as_taken(image, wanted)
    if taken.shape[2] == wanted:
        return taken
    raise ValueError(
        f"image with {image.shape[2]} channels, the model takes {wanted}: choose one, channel=0 "
        "being the first (--channel of predict and of prepare), or convert the image"
    )
