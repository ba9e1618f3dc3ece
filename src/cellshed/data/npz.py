"""The npz files of the LIVECell-Mesmer study: one per split, with X and y."""

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.data.store import Record


def export_npz(store: Path, records: Sequence[Record]) -> None:
    """Write `npz/SPLIT.npz` into a store's folder: X (N, H, W, C) float32, y (N, H, W, 1) int32.

    One image at a time is in memory.

    Raises:
        ValueError: the images of a split differ in shape.
    """
    (store / "npz").mkdir()
    for split in sorted({record.split for record in records}):
        chosen = [record for record in records if record.split == split]
        shapes = sorted({(r.height, r.width, r.channels) for r in chosen})
        if len(shapes) > 1:
            raise ValueError(
                f"images of split '{split}' are of {len(shapes)} shapes, such as {shapes[0]} and "
                f"{shapes[-1]}; an npz needs one: give a size"
            )
        height, width, channels = shapes[0]
        with zipfile.ZipFile(store / "npz" / f"{split}.npz", "w", zipfile.ZIP_DEFLATED) as file:
            for name, folder, kind, depth in (
                ("X", "images", np.float32, channels),
                ("y", "labels", np.int32, 1),
            ):
                paths = (store / folder / f"{record.name}.npy" for record in chosen)
                shape = (len(chosen), height, width, depth)
                _write_array(file, name, np.dtype(kind), shape, map(np.load, paths))


def _write_array(
    file: zipfile.ZipFile,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    parts: Iterable[NDArray[Any]],
) -> None:
    """Write an array in npy format, slice by slice along its first axis."""
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    entry = zipfile.ZipInfo(f"{name}.npy")  # a fixed date: equal content gives equal files
    entry.compress_type = zipfile.ZIP_DEFLATED
    with file.open(entry, "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_2_0(stream, header)
        for part in parts:
            stream.write(np.ascontiguousarray(part.reshape(shape[1:]), dtype).tobytes())
