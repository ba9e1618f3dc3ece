"""Image and label files: read with checks, written whole or not at all."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.data.store import NOT_ANNOTATED
from cellshed.files import whole_file

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
LABEL_SUFFIXES = (".tif", ".tiff", ".png", ".npy")
_MAX_CHANNELS = 16
"""More than these along a channel axis are no channels of a microscope image."""
_ALPHA = (1, 2)
"""Kinds of a tif's extra samples that are transparency, associated or not; 0 is unspecified."""


def read_image(path: str | Path) -> NDArray[Any]:
    """Read an image as acquired: tif, OME-TIFF, png or jpg; 8 or 16 bit, or float.

    Args:
        path: a single image; a channel axis may come first or last, an alpha channel is dropped.

    Returns:
        (H, W), or (H, W, C) for several channels, in the file's own type.

    Raises:
        ValueError: not a whole image, a stack of several images, or pixels that are NaN or
            infinite.
    """
    path = Path(path)
    image = _to_plane(path, *_load(path))
    if image.dtype == np.bool_:
        image = image.astype(np.uint8)
    if image.dtype.kind not in "uif":
        raise ValueError(f"{path}: pixels of type {image.dtype}; save it as 8 or 16 bit or float")
    if image.size == 0:
        raise ValueError(f"{path}: an image without pixels")
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        bad = int((~np.isfinite(image)).sum())
        raise ValueError(f"{path}: {bad} pixels are NaN or infinite; replace them by numbers")
    return image


def one_channel(image: NDArray[Any], channel: int) -> NDArray[Any]:
    """Return one channel, (H, W), of an image (H, W) or (H, W, C).

    Raises:
        ValueError: the image has no such channel.
    """
    planes = image[:, :, None] if image.ndim == 2 else image
    if not 0 <= channel < planes.shape[2]:
        raise ValueError(f"channel {channel}: the image has {planes.shape[2]}, counted from 0")
    plane: NDArray[Any] = planes[:, :, channel]
    return plane


def read_labels(path: str | Path) -> NDArray[np.int32]:
    """Read a label image: integers, 0 = background, -1 = not annotated, from tif, png or npy.

    Returns:
        (H, W), each cell's own number as it stands in the file.

    Raises:
        ValueError: not a whole file, not a single plane, or numbers that are no labels.
    """
    path = Path(path)
    labels = _to_plane(path, *_load_labels(path))
    if labels.ndim != 2:
        raise ValueError(f"{path}: shape {labels.shape}; a label image has one channel, (H, W)")
    if labels.dtype == np.bool_:
        raise ValueError(
            f"{path}: a mask of true and false; number its cells first, e.g. with "
            "skimage.measure.label"
        )
    if labels.dtype.kind not in "ui":
        raise ValueError(
            f"{path}: labels of type {labels.dtype}; save each cell's number as an integer"
        )
    if labels.size == 0:
        raise ValueError(f"{path}: an image without pixels")
    if int(labels.min()) < NOT_ANNOTATED:
        raise ValueError(
            f"{path}: negative labels, down to {labels.min()}; 0 is background, and "
            f"{NOT_ANNOTATED} what nobody annotated"
        )
    if int(labels.max()) > np.iinfo(np.int32).max:
        raise ValueError(f"{path}: label {labels.max()} is too large; number the cells from 1")
    return labels.astype(np.int32)


def write_labels(path: str | Path, labels: NDArray[np.integer]) -> None:
    """Write labels (H, W) as a compressed tif, uint16 or, where needed, uint32.

    Where ground is not annotated, -1, it is int32.

    Raises:
        ValueError: not an integer (H, W) array of numbers from -1.
    """
    import tifffile

    if labels.ndim != 2 or labels.dtype.kind not in "uib":
        raise ValueError(f"labels are integers (H, W), not {labels.dtype} of shape {labels.shape}")
    least, largest = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if least < NOT_ANNOTATED:
        raise ValueError(f"negative labels, down to {least}; 0 is background")
    kind: type[np.integer[Any]] = np.int32 if least < 0 else np.uint32
    if least >= 0 and largest <= np.iinfo(np.uint16).max:
        kind = np.uint16
    with whole_file(path) as temporary:
        tifffile.imwrite(
            temporary, labels.astype(kind), compression="deflate", photometric="minisblack"
        )


def list_images(inputs: Iterable[str | Path]) -> list[Path]:
    """Return the images among files, globs and folders, each once, in order of the inputs.

    Args:
        inputs: a folder stands for all images in it and its subfolders, in order of their paths.

    Raises:
        ValueError: an input that is nothing, or no images at all.
    """
    found: dict[Path, None] = {}
    inputs = list(inputs)
    for item in inputs:
        found.update(dict.fromkeys(_expand(item)))
    if not found:
        names = ", ".join(str(item) for item in inputs) or "no input"
        raise ValueError(f"{names}: no images ({', '.join(IMAGE_SUFFIXES)})")
    return list(found)


def is_image(path: Path) -> bool:
    """Tell by its name whether a file is an image; hidden files aren't."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders, without what is hidden there."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file():
            yield path


def stem(path: Path) -> str:
    """Return a file's name without its suffix, `.ome.tif` taken as one."""
    return path.stem.removesuffix(".ome")


def pieces_of_only_cell(labels: NDArray[np.integer[Any]], cells: int) -> int:
    """Return into how many pieces the only cell falls; 0 where there isn't just one.

    More than one, 8-connected, look like a mask of all cells.

    Args:
        labels: (H, W), 0 = background.
        cells: how many there are in it.
    """
    from skimage.measure import label

    return int(label(labels > 0, connectivity=2, return_num=True)[1]) if cells == 1 else 0


def joined(folders: Iterable[str], name: str) -> str:
    """Return what an image is called where its name alone doesn't tell it from others."""
    return "-".join((*folders, name))


def _expand(item: str | Path) -> list[Path]:
    path = Path(item)
    if path.is_dir():
        return sorted(filter(is_image, visible_files(path)))
    if path.exists():
        return [path]
    if glob.has_magic(str(item)):
        paths = map(Path, glob.glob(str(item), recursive=True))  # noqa: PTH207
        return sorted(path for path in paths if is_image(path))
    raise ValueError(f"{item}: no such file or folder")


def _load(path: Path) -> tuple[NDArray[Any], str]:
    """Return the pixels and the names of their axes, where the file tells them."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    suffix = path.suffix.lower()
    try:
        if suffix in (".tif", ".tiff"):
            return _load_tif(path)
        if suffix == ".npy":
            return np.load(path, allow_pickle=False), ""
        if suffix == ".png":
            return _load_png(path)
        if suffix in IMAGE_SUFFIXES:
            return _load_jpeg(path)
    except Exception as error:
        raise ValueError(f"{path}: {_reason(error)}") from error
    raise ValueError(f"{path}: not an image; known: {', '.join(IMAGE_SUFFIXES)}")


def _reason(error: Exception) -> str:
    from PIL.Image import DecompressionBombError

    if isinstance(error, DecompressionBombError):
        return "more pixels than are read from a jpg; save it as tif or png"
    return f"not a whole image: {(str(error).splitlines() or [type(error).__name__])[0]}"


def _load_tif(path: Path) -> tuple[NDArray[Any], str]:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        pixels = _without_alpha(series.asarray(), series.axes, series.keyframe.extrasamples)
        alike = sum((s.shape, s.dtype) == (series.shape, series.dtype) for s in file.series)
        if alike > 1:  # other shapes are thumbnails, or labels of a slide
            return np.broadcast_to(pixels, (alike, *pixels.shape)), f"I{series.axes}"
        return pixels, series.axes


def _without_alpha(pixels: NDArray[Any], axes: str, extra: Sequence[int]) -> NDArray[Any]:
    """Return a tif's samples but those that are marked as alpha; unmarked ones are channels."""
    if "S" not in axes or not set(extra) & set(_ALPHA):
        return pixels
    axis = axes.index("S")
    first = pixels.shape[axis] - len(extra)
    alpha = [first + number for number, kind in enumerate(extra) if kind in _ALPHA]
    return np.delete(pixels, alpha, axis)


def _load_labels(path: Path) -> tuple[NDArray[Any], str]:
    """Return what `_load` does; of a png with a palette the indices, which are the labels."""
    from PIL import Image

    pixels, axes = _load(path)
    if path.suffix.lower() == ".png" and pixels.ndim > 2:
        with Image.open(path) as image:
            if image.mode == "P":
                return np.asarray(image), "YX"
    return pixels, axes


def _load_png(path: Path) -> tuple[NDArray[Any], str]:
    import imagecodecs

    pixels = imagecodecs.png_decode(path.read_bytes())  # Pillow cuts 16 bit colour down to 8
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels = pixels[..., :-1]  # transparency
    return pixels, "YX" if pixels.ndim == 2 else "YXS"


def _load_jpeg(path: Path) -> tuple[NDArray[Any], str]:
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image if image.mode == "L" else image.convert("RGB"))
    return pixels, "YX" if pixels.ndim == 2 else "YXS"


def _to_plane(path: Path, pixels: NDArray[Any], axes: str) -> NDArray[Any]:
    """Return (H, W) or (H, W, C); refuse several times, depths or images."""
    if len(axes) == pixels.ndim:
        kept = [i for i, axis in enumerate(axes) if axis in "YX" or pixels.shape[i] > 1]
        axes = "".join(axes[i] for i in kept)
        pixels = pixels.reshape([pixels.shape[i] for i in kept])
    if pixels.ndim == 2:
        return pixels
    if axes in ("CYX", "SYX") and pixels.shape[0] <= _MAX_CHANNELS:
        return np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 3 and axes in ("YXS", "YXC", "") and pixels.shape[2] <= _MAX_CHANNELS:
        return pixels
    named = f" (axes {axes})" if axes else ""
    raise ValueError(
        f"{path}: a stack of shape {pixels.shape}{named}; "
        "save one image per file, (H, W) or (H, W, C)"
    )
