"""A model as a file for other programs: ONNX or OpenVINO, in float32 or 8-bit integers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cellshed
from cellshed.data.images import list_images, read_image
from cellshed.data.store import MANIFEST, Store, open_store
from cellshed.engines.registry import CONVERTER, ENGINES, choose_engine, is_there
from cellshed.files import whole_folder
from cellshed.inference import Maps
from cellshed.metrics.overlap import overlap
from cellshed.metrics.scores import COUNT_NAMES, as_scores, count
from cellshed.model.folder import ModelCard, find_model, read_card, write_card
from cellshed.predict import Segmenter, load_model
from cellshed.progress import Progress
from cellshed.spelling import nearest
from cellshed.targets import TARGETS
from cellshed.tiling import predict_tiled
from cellshed.training.split import of_splits

FORMATS = ("onnx", "openvino")
IMAGES = 32
"""At most so many images are looked at for the ranges of an int8 network."""
TOLERANCE = 0.01
"""Object F1 that an int8 network may lose before it is advised against."""

Image = NDArray[Any]


@dataclass(frozen=True)
class Exported:
    """What was written, and how well it segments where that was asked for."""

    folder: Path
    float32_f1: float | None = None
    """Object F1 at IoU 0.5 on the validation images, pooled; None without int8 or labels."""
    int8_f1: float | None = None

    def text(self) -> str:
        """Return the scores in one line, or nothing."""
        if self.float32_f1 is None or self.int8_f1 is None:
            return ""
        lost = self.float32_f1 - self.int8_f1
        advice = "" if lost <= TOLERANCE else f": {lost:.3f} lost, float32 is the better choice"
        found = f"float32 {self.float32_f1:.3f}, int8 {self.int8_f1:.3f}"
        return f"object F1 at IoU 0.5 on val: {found}{advice}"


def export_model(
    model: str | Path | None,
    out: str | Path,
    *,
    to: str = "onnx",
    calibrate: str | Path | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write a model's network for other programs, with its card and a README.

    The folder serves `cellshed predict --model` too, with the engines that read the file.

    Args:
        model: what load_model takes.
        out: the folder to write.
        to: onnx or openvino.
        calibrate: makes the network int8, with the ranges seen on these images: a store, whose
            labelled val images are then segmented by both networks, or a folder of images.
        progress: called with (images scored, images in all).

    Raises:
        ValueError: unknown form, a package that isn't installed, no images, or `out` exists.
    """
    if to not in FORMATS:
        raise ValueError(f"--format: unknown form '{to}'; {nearest(to, FORMATS)}")
    source = find_model(model)
    choose_engine(to, source)
    if calibrate is not None and not is_there(*ENGINES["onnx"].packages, CONVERTER):
        raise ValueError("--int8: pip install onnx onnxruntime")
    segmenter = Segmenter(_no_maps, read_card(source))
    images = None if calibrate is None else _calibration_images(Path(calibrate))
    with whole_folder(out) as folder:
        _write(source, folder, to, None if images is None else (segmenter, images))
        write_card(folder, segmenter.card)
        (folder / "README.md").write_text(_readme(segmenter.card, to, images is not None), "utf-8")
    labelled = None if calibrate is None else _validation_images(Path(calibrate))
    if labelled is None:
        return Exported(Path(out))
    both = (load_model(source, engine=to), load_model(out, engine=to))
    return Exported(Path(out), *_f1(both, labelled, progress))


def _write(
    source: Path, folder: Path, to: str, calibration: tuple[Segmenter, Sequence[Image]] | None
) -> None:
    """Write the network's files; with images in 8 bits."""
    from cellshed.engines.conversion import onnx_file

    with TemporaryDirectory() as temporary:
        onnx = onnx_file(source)
        if calibration is not None:
            from cellshed.engines.quantise import quantise

            small = Path(temporary) / "model.onnx"
            quantise(onnx, small, _batches(*calibration))
            onnx = small
        if to == "openvino":
            from cellshed.engines.openvino_engine import write_ir

            write_ir(onnx, folder / "model.xml")
        else:
            (folder / "model.onnx").write_bytes(onnx.read_bytes())


def _calibration_images(path: Path) -> list[Image]:
    """Return up to IMAGES images, evenly spread; of a store those that it was trained on."""
    if (path / MANIFEST).is_file():
        whole = open_store(path)
        store = next(iter(of_splits([whole], "train")), whole)
        return [np.asarray(store.image(i)) for i in _spread(len(store))]
    files = list_images([path])
    return [read_image(files[i]) for i in _spread(len(files))]


def _validation_images(path: Path) -> Store | None:
    if not (path / MANIFEST).is_file():
        return None
    return next(iter(of_splits([open_store(path)], "val")), None)


def _spread(count: int) -> list[int]:
    chosen: list[int] = np.unique(np.linspace(0, count - 1, IMAGES).round().astype(int)).tolist()
    return chosen


def _batches(segmenter: Segmenter, images: Sequence[Image]) -> list[NDArray[np.float32]]:
    """Return the tiles of images as the network sees them."""
    batches: list[NDArray[np.float32]] = []

    def note(tile: NDArray[np.float32]) -> Maps:
        batches.append(np.ascontiguousarray(tile.transpose(2, 0, 1)[None]))
        return {}

    settings = segmenter.card.predict
    for image in images:
        seen = segmenter.prepare(image, zoom=settings.zoom)
        predict_tiled(note, seen, settings.tile, settings.overlap)
    return batches


def _no_maps(batch: NDArray[np.float32]) -> Maps:
    raise AssertionError("a segmenter that only prepares images")


def _f1(
    segmenters: Sequence[Segmenter], val: Store, progress: Progress | None
) -> tuple[float, ...]:
    """Return each segmenter's object F1 at IoU 0.5, from counts over all images."""
    counts = [np.zeros(len(COUNT_NAMES)) for _ in segmenters]
    for i in range(len(val)):
        truth = np.asarray(val.labels(i), dtype=np.int32)
        for total, segmenter in zip(counts, segmenters, strict=True):
            total += count(overlap(truth, segmenter.segment(np.asarray(val.image(i)))))
        if progress is not None:
            progress(i + 1, len(val))
    return tuple(float(as_scores(total)["thresholds"]["0.50"]["f1"]) for total in counts)


def _readme(card: ModelCard, to: str, int8: bool) -> str:
    """Return what a program needs to know that uses the file."""
    file = "model.onnx" if to == "onnx" else "model.xml and model.bin"
    heads = "\n".join(
        f"- `{name}`: (N, {TARGETS[name].channels}, H, W), {_range(name)}"
        for name in card.model.heads
    )
    zoom = card.predict.zoom
    enlarged = f"Enlarge images {zoom:g} times first (`predict.zoom`). " if zoom != 1 else ""
    return f"""# {card.name or "A network of cellshed"}

Written by cellshed {cellshed.__version__}: {file}, {"int8 convolutions" if int8 else "float32"}.

Input `image`: float32 (N, {card.model.in_channels}, H, W), any H and W that are multiples of 32; \
mirror an image beyond its
right and lower border to get there. {enlarged}Each image is normalised by itself as
the section `normalize` of `model.yaml` says; {_normalisation(card)}

Outputs, float32 of the same H and W:

{heads}

`model.yaml` has the settings of the watershed that turns them into cells; `cellshed predict
--model THIS_FOLDER` does all of it. Licence of the training data: {card.licence or "not stated"}.
"""


def _range(name: str) -> str:
    target = TARGETS[name]
    if target.activation == "softmax":
        return f"probabilities of {', '.join(target.channel_names)}"
    return "values from 0 up"


def _normalisation(card: ModelCard) -> str:
    settings = card.normalize
    match settings.method:
        case "image":
            return "here: minus its mean, divided by its standard deviation, each channel alone."
        case "percentile":
            return f"here: percentiles {settings.low:g} and {settings.high:g} become 0 and 1."
        case "dataset":
            return f"here: minus {list(settings.mean)}, divided by {list(settings.std)}."
        case "none":
            return "here: not at all."
        case _:
            return f"here: local histogram equalisation, tiles of {settings.kernel_size} pixels."
