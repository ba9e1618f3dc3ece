"""True cells of a store, a COCO file, a LIVECell folder or a folder of label images."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.data.coco import image_masks, paint_image
from cellshed.data.coco_file import CocoImage, read_coco
from cellshed.data.coco_images import cell_type, image_finder, names, path_in_file
from cellshed.data.images import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    joined,
    read_image,
    read_labels,
    stem,
)
from cellshed.data.livecell import (
    cell_type_of,
    find_annotations,
    index_images,
    is_livecell,
    parse_name,
)
from cellshed.data.store import MANIFEST, Store, open_store
from cellshed.scale import resize_labels, scaled_shape, zoomed
from cellshed.settings import LARGEST_CHANGE
from cellshed.spelling import nearest

Labels = NDArray[np.integer[Any]]
Image = NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """One image with true cells; nothing is read yet."""

    name: str
    """Unique among the samples."""
    cell_type: str
    """Empty where unknown."""
    aliases: tuple[str, ...]
    """Names that its prediction may have, the best first."""
    read_labels: Callable[[], Labels]
    """Its true cells as a label image (H, W)."""
    read_image: Callable[[], Image] | None = None
    annotations: CocoImage | None = None
    """Its true cells as annotations, which may overlap."""

    def masks(self, shape: tuple[int, int]) -> tuple[list[bytes], list[float | None]] | None:
        """Return each annotated cell's run-length mask and stated area, None without any."""
        if self.annotations is None:
            return None
        masks, _ = image_masks(self.annotations, shape)
        return [mask.counts for mask in masks], [mask.area for mask in masks]


@dataclass(frozen=True)
class Truth:
    """All images to score against."""

    source: str
    split: str
    """Empty where the source has no splits."""
    samples: tuple[Sample, ...]


def open_truth(
    truth: Store | str | Path,
    *,
    split: str = "test",
    cell_types: Sequence[str] | None = None,
    images: str | Path | None = None,
) -> Truth:
    """Find the images and true cells of a source.

    Args:
        truth: a store or its folder, a COCO file, a folder laid out as LIVECell, or a folder of
            label images, which may stand in `labels/` beside `images/`.
        split: of a store or a LIVECell folder; of a store without splits "test" means all.
        cell_types: only these.
        images: folder of the images, where the truth is a COCO file or label images.

    Raises:
        ValueError: it is none of these, or nothing is left of it; names the remedy.
    """
    if images is not None and not Path(images).is_dir():
        raise ValueError(f"images {images}: no such folder")
    roots = _image_roots(images)
    if isinstance(truth, Store):
        found = _from_store(truth, split)
    elif (path := Path(truth)).suffix.lower() == ".json":
        found = Truth(str(path), "", tuple(_from_coco(path, roots)))
    elif (path / MANIFEST).is_file():
        found = _from_store(open_store(path), split)
    elif is_livecell(path):
        found = Truth(str(path), split, tuple(_from_livecell(path, split, cell_types)))
    elif path.is_dir():
        found = Truth(str(path), "", tuple(_from_folder(path, roots)))
    else:
        raise ValueError(f"{path}: no such truth; give a store, a COCO file or a folder of labels")
    samples = _of_types(found, cell_types)
    return replace(found, samples=tuple(_with_unique_names(samples)))


def at_scale(truth: Truth, scale: float) -> Truth:
    """Return the same images and cells, enlarged or reduced by a factor.

    Cells are then those of the label image, without what overlapping annotations cover; cells
    that have no pixel left are no longer asked for.

    Raises:
        ValueError: no such factor.
    """
    if scale == 1:
        return truth
    if not 1 / LARGEST_CHANGE <= scale <= LARGEST_CHANGE:
        raise ValueError(
            f"scale {scale}: give a factor of the images' sides from {1 / LARGEST_CHANGE} to "
            f"{LARGEST_CHANGE:g}; 2 doubles them"
        )
    return replace(truth, samples=tuple(_scaled(sample, scale) for sample in truth.samples))


def _scaled(sample: Sample, scale: float) -> Sample:
    def labels() -> Labels:
        found = np.asarray(sample.read_labels(), np.int32)
        return resize_labels(found, scaled_shape(found.shape, scale))

    def image() -> Image:
        assert sample.read_image is not None
        return zoomed(sample.read_image(), scale)

    read_image = None if sample.read_image is None else image
    return replace(sample, read_labels=labels, read_image=read_image, annotations=None)


def _from_store(store: Store, split: str) -> Truth:
    splits = {record.split for record in store.records}
    chosen = "all" if splits == {"all"} and split == "test" else split
    part = store.select(split=chosen)
    samples = [
        Sample(
            record.name,
            record.cell_type,
            (record.name, joined(filter(None, [record.cell_type]), record.name)),
            partial(part.labels, index),
            partial(part.image, index),
        )
        for index, record in enumerate(part.records)
    ]
    return Truth(str(store.path), chosen, tuple(samples))


def _from_livecell(folder: Path, split: str, cell_types: Sequence[str] | None) -> Iterable[Sample]:
    files = find_annotations(folder, split, cell_types, None)
    if not files:
        raise ValueError(f"{folder}: no annotations of split '{split}'; choose one that is there")
    places = index_images(folder, split)
    for file in files:
        for image in read_coco(file).images:
            name = path_in_file(image).name
            yield _annotated(image, places.get(name), cell_type_of(name), file)


def _from_coco(file: Path, roots: Sequence[Path]) -> Iterable[Sample]:
    images = read_coco(file).images
    find = image_finder(images, roots or (file.parent, file.parent / "images"))
    for image in images:
        yield _annotated(image, find(image), cell_type(image), file)


def _annotated(image: CocoImage, path: Path | None, kind: str, file: Path) -> Sample:
    return Sample(
        names(image)[0],
        kind,
        names(image),
        partial(_paint, image, path, file),
        None if path is None else partial(read_image, path),
        image,
    )


def _paint(image: CocoImage, path: Path | None, file: Path) -> Labels:
    if path is not None and (image.height is None or image.width is None):
        height, width = read_image(path).shape[:2]
    elif image.height and image.width:
        height, width = image.height, image.width
    else:
        raise ValueError(
            f"{file}: image {image.file_name} has no height and width, and its file is not at "
            "hand; give the folder of the images (--images)"
        )
    return paint_image(image, (height, width)).labels


def _from_folder(folder: Path, roots: Sequence[Path]) -> Iterable[Sample]:
    labels = folder / "labels" if (folder / "labels").is_dir() else folder
    files = sorted(
        path
        for path in labels.iterdir()
        if path.suffix.lower() in LABEL_SUFFIXES and not path.name.startswith(".")
    )
    for file in files:
        name = stem(file)
        image = _find_image(base_name(name), roots or _image_roots(folder / "images"))
        parsed = parse_name(base_name(name))
        yield Sample(
            name,
            parsed.cell_type if parsed else "",
            (name, base_name(name)),
            partial(read_labels, file),
            None if image is None else partial(read_image, image),
        )


LABEL_ENDINGS = (
    "_cp_masks", "_masks", "_mask", "_labels", "_label", "_label_image", "_instances", "_seg",
    "_pred", "",
)  # fmt: skip
"""What tools append to an image's name for its label image, in the order they are looked for."""


def base_name(name: str) -> str:
    """Return a label file's name without what a tool appended to its image's."""
    for ending in LABEL_ENDINGS:
        if ending and name.endswith(ending):
            return name.removesuffix(ending)
    return name


def _image_roots(images: str | Path | None) -> list[Path]:
    """Return the folders that images may lie in, one below another, the given one first."""
    if images is None:
        return []
    root = Path(images)
    if root.is_dir():
        return [root, *sorted(path for path in root.rglob("*") if path.is_dir())]
    return []


def _find_image(name: str, roots: Sequence[Path]) -> Path | None:
    tried = (root / f"{name}{suffix}" for root in roots for suffix in IMAGE_SUFFIXES)
    return next((path for path in tried if path.is_file()), None)


def _of_types(truth: Truth, cell_types: Sequence[str] | None) -> list[Sample]:
    samples = list(truth.samples)
    if cell_types is not None:
        known = {sample.cell_type.lower(): sample.cell_type for sample in samples}
        for name in cell_types:
            if name.lower() not in known:
                hint = nearest(name, known.values()) if any(known) else "it tells no cell types"
                raise ValueError(f"{truth.source}: no images of cell type '{name}'; {hint}")
        wanted = {name.lower() for name in cell_types}
        samples = [sample for sample in samples if sample.cell_type.lower() in wanted]
    if not samples:
        raise ValueError(f"{truth.source}: no label images in it ({', '.join(LABEL_SUFFIXES)})")
    return samples


def _with_unique_names(samples: Iterable[Sample]) -> Iterable[Sample]:
    samples = list(samples)
    times = Counter(sample.name for sample in samples)
    taken: set[str] = set()
    for sample in samples:
        names = sample.aliases[1:] if times[sample.name] > 1 else (sample.name,)
        name = next((name for name in names if name not in taken), None)
        if name is None:
            raise ValueError(f"two true images are named '{sample.name}'; rename one of them")
        taken.add(name)
        aliases = (name,) if times[sample.name] > 1 else sample.aliases
        yield replace(sample, name=name, aliases=aliases)
