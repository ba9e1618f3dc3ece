"""A trained model applied to images: image in, labels out."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from cellshed.config import Config, DecodeSettings, parse_config, with_overrides
from cellshed.engines.registry import open_engine
from cellshed.inference import Forward, Maps, predict_maps
from cellshed.metrics.calibration import calibrate
from cellshed.model.folder import ModelCard, find_model, read_card
from cellshed.normalize import normalize
from cellshed.watershed import confidence, decode


@dataclass(frozen=True)
class Prediction:
    """The cells of one image."""

    labels: NDArray[np.int32]
    """(H, W), 0 = background, cells 1..n."""
    confidence: NDArray[np.float32]
    """(n,) in [0, 1]; entry k - 1 belongs to label k. With a tuned model the probability that the
    cell has an IoU above 0.5 with a true one; else a rank alone."""
    maps: Maps
    """Head name -> (H, W, C), what the network said."""


class Segmenter:
    """A model ready to segment: network, normalisation and decoder together."""

    def __init__(self, forward: Forward, card: ModelCard) -> None:
        self.card = card
        self._forward = forward

    def with_changes(self, overrides: Iterable[str]) -> "Segmenter":
        """Return the same model with other settings, such as "decode.radius=3".

        Only the sections decode and predict can be changed after training.
        """
        sections = {
            "decode": self.card.decode.model_dump(),
            "predict": self.card.predict.model_dump(),
        }
        config = parse_config(yaml.safe_dump(sections), overrides)
        trained = Config(decode=config.decode, predict=config.predict)
        for name, value in trained:
            if value != getattr(config, name):
                raise ValueError(f"--set {name}: a trained model has decode and predict to set")
        update = {"decode": config.decode, "predict": config.predict}
        return Segmenter(self._forward, self.card.model_copy(update=update))

    def prepare(self, image: NDArray[Any], channel: int | None = None) -> NDArray[np.float32]:
        """Return the image as network input, (H, W, C) normalised.

        Args:
            image: (H, W) or (H, W, C), any numeric dtype.
            channel: the one channel to use; None: all, or the first of several equal ones.

        Raises:
            ValueError: channels don't suit the model, or pixels aren't finite.
        """
        chosen = _choose_channels(np.asarray(image), self.card.model.in_channels, channel)
        return normalize(chosen, self.card.normalize)

    def maps(self, image: NDArray[Any], *, channel: int | None = None) -> Maps:
        """Return the network's maps of an image of any size, (H, W, C) each."""
        prepared = self.prepare(image, channel)
        return predict_maps(self._forward, prepared, self.card.predict)

    def predict(
        self, image: NDArray[Any], *, channel: int | None = None, **changes: Any
    ) -> Prediction:
        """Return labels, confidences and maps of an image.

        Args:
            image: (H, W) or (H, W, C), any size, any numeric dtype.
            channel: the one channel to use.
            changes: fields of DecodeSettings that differ from the model's own.
        """
        maps = self.maps(image, channel=channel)
        return self.decode(maps, **changes)

    def decode(self, maps: Maps, **changes: Any) -> Prediction:
        """Turn maps into labels and confidences, by the model's decode settings."""
        settings = self.decode_settings(**changes)
        labels = decode(maps, settings)
        sure = confidence(labels, maps, settings)
        if self.card.calibration is not None:
            sure = calibrate(sure, self.card.calibration)
        return Prediction(labels, sure, maps)

    def segment(self, image: NDArray[Any], **changes: Any) -> NDArray[np.int32]:
        """Return the labels of an image, (H, W) int32."""
        return self.predict(image, **changes).labels

    def decode_settings(self, **changes: Any) -> DecodeSettings:
        """Return the model's decode settings with some fields changed."""
        if not changes:
            return self.card.decode
        return with_overrides(self.card.decode, changes, "decode")


def load_model(
    name: str | Path | None = None, *, device: str = "auto", engine: str = "auto"
) -> Segmenter:
    """Load a model for segmentation.

    Args:
        name: a model folder, a run folder, or the name of a shipped model; None: `phase`.
        device: auto, cpu, cuda or mps.
        engine: what computes the maps: torch, onnx or openvino; auto: torch where there is a GPU,
            else the fastest that is installed. The first time, a network is converted for
            another engine than torch; the result is kept in the user's cache.

    Raises:
        ValueError: it isn't a model, or device or engine aren't there.
    """
    folder = find_model(name)
    card = read_card(folder)
    return Segmenter(open_engine(engine, folder, device), card)


def segment(image: NDArray[Any], model: Any = None, **changes: Any) -> NDArray[np.int32]:
    """Find every cell of an image.

    Args:
        image: (H, W) or (H, W, C), any size, any numeric dtype.
        model: a Segmenter, or what load_model takes; None: the shipped model `phase`.
        changes: fields of DecodeSettings, such as maxima_threshold=0.2.

    Returns:
        Labels (H, W) int32: 0 background, cells 1..n.
    """
    segmenter = model if isinstance(model, Segmenter) else load_model(model)
    return segmenter.segment(image, **changes)


def _choose_channels(image: NDArray[Any], wanted: int, channel: int | None) -> NDArray[Any]:
    """Return the (H, W) or (H, W, wanted) part of an image that a model takes."""
    if image.ndim not in (2, 3):
        raise ValueError(f"image of shape {image.shape}: expected (H, W) or (H, W, C)")
    found = 1 if image.ndim == 2 else image.shape[2]
    if channel is not None:
        if not 0 <= channel < found:
            raise ValueError(f"channel {channel}: the image has {found}, counted from 0")
        return image if image.ndim == 2 else image[:, :, channel]
    if found == wanted:
        return image
    if wanted == 1 and (image == image[:, :, :1]).all():
        return image[:, :, 0]
    raise ValueError(
        f"image with {found} channels, the model takes {wanted}: "
        "choose one with --channel (counted from 0), or convert the image"
    )
