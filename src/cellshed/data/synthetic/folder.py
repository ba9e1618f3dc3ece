"""Synthetic fields as a data set laid out like LIVECell's."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.data.coco import coco_tree
from cellshed.data.livecell import IMAGE_FOLDERS, SPLITS, annotation_file, known_split
from cellshed.data.synthetic.field import synthetic_field
from cellshed.data.synthetic.morphology import MORPHOLOGIES, known_morphology
from cellshed.data.synthetic.outlines import outlines
from cellshed.files import whole_folder

_SHARES = {"train": 0.6, "val": 0.15, "test": 0.25}


def write_synthetic(
    out: str | Path,
    *,
    images: int | Mapping[str, int] = 24,
    seed: int = 0,
    shape: tuple[int, int] = (520, 704),
    morphologies: Sequence[str] = tuple(MORPHOLOGIES),
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw a data set: images and COCO annotations in LIVECell's layout, whole or not at all.

    The polygons follow the pixels' edges, so painting them gives back the drawn labels exactly.
    The same arguments give the same bytes.

    Args:
        out: folder to make; it must not hold anything yet.
        images: how many, all splits together (3 or more), or per split.
        seed: of everything that is drawn.
        shape: height and width of the images, in pixels.
        morphologies: names of `MORPHOLOGIES`; the images take them in turn.
        progress: told how many of all images are done.

    Raises:
        ValueError: unknown morphology or split, no image, fields too small, or `out` not empty.
    """
    counts = _counts(images)
    if not morphologies:
        raise ValueError("morphologies is empty: name at least one")
    for name in morphologies:
        known_morphology(name)
    total, done = sum(counts.values()), 0
    ids = count(1)  # of all splits' annotations
    with whole_folder(out) as folder:
        for split, wanted in counts.items():
            writer = _Split(folder, split, ids)
            for _ in range(wanted):
                name = morphologies[done % len(morphologies)]
                image, labels = synthetic_field((seed, done), name, shape)
                writer.add(done, name, image, labels)
                done += 1
                if progress is not None:
                    progress(done, total)
            writer.close()


def _counts(images: int | Mapping[str, int]) -> dict[str, int]:
    """Return the number of images per split, in LIVECell's order of splits."""
    if isinstance(images, Mapping):
        given = {known_split(split): count for split, count in images.items()}
        counts = {split: given.get(split, 0) for split in SPLITS}
    else:
        rest = {split: max(1, round(images * _SHARES[split])) for split in ("val", "test")}
        counts = {"train": images - sum(rest.values()), **rest}
    too_few = isinstance(images, int) and images < len(SPLITS)
    if too_few or min(counts.values()) < 0 or not any(counts.values()):
        raise ValueError(f"images {images}: give 3 or more, or a number for each split")
    return counts


class _Split:
    """Writes the images of one split, then their annotations."""

    def __init__(self, folder: Path, split: str, ids: Iterator[int]) -> None:
        self._folder, self._split, self._ids = folder, split, ids
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(
        self, number: int, morphology: str, image: NDArray[np.uint8], labels: NDArray[np.int32]
    ) -> None:
        """Write one image; `number` counts those of all splits."""
        import tifffile

        cell_type = MORPHOLOGIES[morphology].cell_type
        name = _file_name(cell_type, number)
        path = self._folder / IMAGE_FOLDERS[self._split] / cell_type / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, image, metadata=None)
        height, width = labels.shape
        image_id = number + 1
        entry = {"id": image_id, "width": width, "height": height, "file_name": name}
        self._images.append(entry)
        self._annotations += _annotations(labels, image_id, self._ids)

    def close(self) -> None:
        """Write the annotations, unless the split has no images."""
        if not self._images:
            return
        path = self._folder / annotation_file(self._split)
        path.parent.mkdir(parents=True, exist_ok=True)
        tree = coco_tree(self._images, self._annotations)
        tree["info"] = {"description": "Synthetic phase-contrast fields drawn by cellshed"}
        path.write_text(json.dumps(tree, separators=(",", ":")), encoding="utf-8")


def _file_name(cell_type: str, number: int) -> str:
    """Return a name of LIVECell's scheme: each image is a well and time of its own."""
    row, column = "ABCDEFGH"[number // 12 % 8], number % 12 + 1
    days, hours = divmod(4 * (number // 96), 24)
    return f"{cell_type}_Phase_{row}{column}_1_{days:02d}d{hours:02d}h00m_1.tif"


def _annotations(
    labels: NDArray[np.int32], image_id: int, ids: Iterator[int]
) -> Iterator[dict[str, Any]]:
    """Yield one COCO annotation per label, each with the next of the ids."""
    areas = np.bincount(labels.ravel())[1:].tolist()
    for outline, area in zip(outlines(labels), areas, strict=True):
        (left, top), (right, bottom) = outline.min(0).tolist(), outline.max(0).tolist()
        yield {
            "id": next(ids),
            "image_id": image_id,
            "category_id": 1,
            "segmentation": [outline.ravel().tolist()],
            "area": area,
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": 0,
        }
