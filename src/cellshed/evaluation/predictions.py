"""Predicted cells: label images of any tool in a folder, or of a model that makes them."""

import csv
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cellshed.data.coco_images import folders_of
from cellshed.data.images import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    joined,
    read_labels,
    stem,
    write_labels,
)
from cellshed.evaluation.results import SCORES
from cellshed.evaluation.truth import LABEL_ENDINGS, Labels, Sample, Truth
from cellshed.outputs import COCO, MADE_BY, TABLE

Confidence = NDArray[np.float64]
OF_A_MODEL = "model"
"""Where confidences come from that are no file's."""


class Segmentation(Protocol):
    """What a model returns for one image."""

    @property
    def labels(self) -> NDArray[np.int32]:
        """(H, W), 0 = background, cells 1..n."""

    @property
    def confidence(self) -> NDArray[np.float32]:
        """(n,); entry k - 1 belongs to label k."""


class Segmenter(Protocol):
    """A model ready to segment."""

    def predict(self, image: NDArray[Any]) -> Segmentation:
        """Find the cells of an image (H, W) or (H, W, C)."""


class Predictions(Protocol):
    """A source of predicted cells."""

    source: str
    confidence: str
    """Where confidences come from, for the record."""

    def read(self, sample: Sample) -> tuple[Labels, Confidence | None]:
        """Return labels (H, W), and the confidence of each label, ascending, if known."""

    def labels(self, sample: Sample) -> Labels:
        """Return the labels again."""

    def keep(self) -> None:
        """Leave the labels where they belong, once all has gone well."""


def open_predictions(pred: Segmenter | str | Path, truth: Truth, out: Path) -> Predictions:
    """Find a prediction for each sample; a model's are made when they are read.

    Raises:
        ValueError: there is no prediction for a sample, or no image for a model to segment; or
            a model's labels would replace others than those of an earlier evaluation.
    """
    if isinstance(pred, str | Path):
        return _Folder(Path(pred), truth.samples, out)
    return _Model(pred, truth.samples, _own_labels(out, Path(truth.source)))


def _own_labels(out: Path, truth: Path) -> Path:
    """Return OUT/labels, unless somebody else's work lies there."""
    labels = out / "labels"
    there = labels.is_dir() and any(labels.iterdir())
    if truth.resolve() in (out.resolve(), labels.resolve()) or (there and not _made_here(out)):
        raise ValueError(
            f"{labels} holds label images that evaluate didn't write and would replace: choose "
            "another folder for the scores"
        )
    return labels


def _outdated_labels(out: Path, files: Path) -> Path | None:
    """Return OUT/labels if a model made them for an earlier evaluation, and they aren't scored."""
    labels = out / "labels"
    outdated = labels.is_dir() and _made_here(out) and labels.resolve() != files.resolve()
    return labels if outdated else None


def _made_here(out: Path) -> bool:
    """Tell whether an earlier evaluation had a model make OUT/labels."""
    if (out / MADE_BY).exists():  # predict did
        return False
    try:
        scores = json.loads((out / SCORES).read_text(encoding="utf-8"))
        return bool(scores["confidence"] == OF_A_MODEL)
    except (OSError, ValueError, KeyError, TypeError):
        return False


class _Model:
    def __init__(self, segmenter: Segmenter, samples: Sequence[Sample], out: Path) -> None:
        missing = [sample.name for sample in samples if sample.read_image is None]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(samples)} images to segment are not at hand, first "
                f"'{missing[0]}'; give the folder of the images (--images)"
            )
        self.source = str(getattr(getattr(segmenter, "card", None), "name", "") or "a model")
        self.confidence = OF_A_MODEL
        self._segmenter = segmenter
        self._out = out
        self._arriving = out.with_name(f".{out.name}.part")
        shutil.rmtree(self._arriving, ignore_errors=True)

    def read(self, sample: Sample) -> tuple[Labels, Confidence | None]:
        assert sample.read_image is not None
        found = self._segmenter.predict(np.asarray(sample.read_image()))
        write_labels(self._path(sample), found.labels)
        present = np.flatnonzero(np.bincount(found.labels.ravel())[1:])
        return found.labels, np.asarray(found.confidence, np.float64)[present]

    def labels(self, sample: Sample) -> Labels:
        return read_labels(self._path(sample))

    def keep(self) -> None:
        shutil.rmtree(self._out, ignore_errors=True)
        self._arriving.rename(self._out)

    def _path(self, sample: Sample) -> Path:
        return self._arriving / f"{sample.name}.tif"


class _Folder:
    def __init__(self, folder: Path, samples: Sequence[Sample], out: Path) -> None:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder of predicted label images")
        inner = folder / "labels"
        self.source = str(folder)
        files = inner if inner.is_dir() else folder
        self._paths = _match_files(files, samples)
        self._outdated = _outdated_labels(out, files)
        self._table = _read_confidences(
            [folder, folder.parent] if folder.name == "labels" else [folder]
        )
        self.confidence = self._table.source if self._table else ""

    def read(self, sample: Sample) -> tuple[Labels, Confidence | None]:
        labels = self.labels(sample)
        if self._table is None:
            return labels, None
        return labels, self._table.of(
            self._paths[sample.name], sample, np.unique(labels[labels > 0])
        )

    def labels(self, sample: Sample) -> Labels:
        return read_labels(self._paths[sample.name])

    def keep(self) -> None:
        """They are where they were; those that an earlier evaluation's model made go."""
        if self._outdated is not None:
            shutil.rmtree(self._outdated)


def _match_files(folder: Path, samples: Sequence[Sample]) -> dict[str, Path]:
    """Return the label file of each sample, by the sample's name."""
    there: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in LABEL_SUFFIXES and not path.name.startswith("."):
            there.setdefault(stem(path), []).append(path)
    chosen: dict[str, Path] = {}
    missing = []
    for sample in samples:
        names = (alias + ending for alias in sample.aliases for ending in LABEL_ENDINGS)
        files = next((there[name] for name in names if name in there), [])
        if len(files) > 1:
            raise ValueError(
                f"{folder}: both {files[0].name} and {files[1].name} may be the labels of "
                f"'{sample.name}'; keep one"
            )
        if files:
            chosen[sample.name] = files[0]
        else:
            missing.append(sample.name)
    if missing:
        raise ValueError(
            f"{folder}: no label image for {len(missing)} of {len(samples)} true images, first "
            f"'{missing[0]}'; name it {missing[0]}.tif, .png or .npy, or score a split or cell "
            "type that is whole"
        )
    return chosen


@dataclass(frozen=True)
class _Table:
    """Confidences by image and label."""

    source: str
    by_image: dict[str, dict[int, float]]

    def of(self, path: Path, sample: Sample, labels: NDArray[np.integer[Any]]) -> Confidence:
        names = (stem(path), *sample.aliases)
        known = next((self.by_image[name] for name in names if name in self.by_image), {})
        missing = [label for label in labels.tolist() if label not in known]
        if missing:
            raise ValueError(
                f"{self.source}: no confidence for label {missing[0]} of {path.name}; "
                "write it again together with the labels, or remove it"
            )
        return np.array([known[label] for label in labels.tolist()], np.float64)


def _read_confidences(folders: Sequence[Path]) -> _Table | None:
    for folder in folders:
        for name, read in ((TABLE, _from_csv), (COCO, _from_coco)):
            if (folder / name).is_file():
                found = read(folder / name)
                if found:
                    return _Table(str(folder / name), found)
    return None


def _from_csv(path: Path) -> dict[str, dict[int, float]]:
    by_image: dict[str, dict[int, float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"image", "label", "confidence"} <= set(rows.fieldnames or ()):
            return {}
        for number, row in enumerate(rows, start=2):
            try:
                label, confidence = int(row["label"]), float(row["confidence"] or "nan")
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}: line {number}: label '{row['label']}' and confidence "
                    f"'{row['confidence']}' are not both numbers; write the table again"
                ) from error
            if np.isfinite(confidence):
                by_image.setdefault(row["image"], {})[label] = confidence
    return _by_name(list(by_image.items()))


def _by_name(images: Sequence[tuple[str, dict[int, float]]]) -> dict[str, dict[int, float]]:
    """Return what is known of images, given as paths, by their names.

    A name is without suffix, joined with the folders, and also without these where no other image
    is named so. Two images of one path have none.
    """
    named = [(*_image_names(text), of_image) for text, of_image in images]
    full = Counter(name for name, _, _ in named)
    bare = Counter(name for _, name, _ in named)
    short = {name: of_image for _, name, of_image in named if bare[name] == 1}
    return short | {name: of_image for name, _, of_image in named if full[name] == 1}


def _image_names(text: str) -> tuple[str, str]:
    """Return an image's name with folders and without; what isn't a suffix of images stays."""
    path = Path(text.replace("\\", "/"))
    known = path.suffix.lower() in (*IMAGE_SUFFIXES, *LABEL_SUFFIXES)
    name = stem(path) if known else path.name
    return joined(folders_of(path), name), name


def _from_coco(path: Path) -> dict[str, dict[int, float]]:
    """Scores in a COCO file that was written beside labels 1..n, in their order."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        by_id: dict[Any, dict[int, float]] = {image["id"]: {} for image in tree["images"]}
        for cell in tree["annotations"]:
            of_image = by_id[cell["image_id"]]
            of_image[len(of_image) + 1] = float(cell["score"])
        return _by_name([(image["file_name"], by_id[image["id"]]) for image in tree["images"]])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
