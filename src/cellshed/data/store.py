"""A prepared data set: images and labels as memory-mapped arrays beside one manifest."""

import copy
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.files import write_text
from cellshed.spelling import nearest

FORMAT = 1
MANIFEST = "manifest.json"
NOT_ANNOTATED = -1
"""Label of pixels of which nobody said what they are: neither a cell's nor background."""


@dataclass(frozen=True)
class Record:
    """One image of a store."""

    name: str
    """Unique within the store; also the name of its files."""
    split: str
    """train, val, test, or all."""
    cell_type: str
    """Empty where the source tells none."""
    height: int
    width: int
    channels: int
    n_cells: int
    source: str = ""
    """Name of the folder or file it was prepared from."""
    well: str = ""
    location: int = 0
    hours: float = 0.0
    crop: int = 0
    image_hash: str = ""
    labels_hash: str = ""

    @property
    def together(self) -> tuple[str, ...]:
        """What images share that are nearly copies, those of one well; else it is the name."""
        own = (self.well,) if self.well else ("", self.name)
        return (self.source, self.cell_type, *own)


class Store:
    """Images and their labels, opened by open_store; reads only what is asked for."""

    def __init__(self, path: Path, manifest: dict[str, Any], records: tuple[Record, ...]) -> None:
        self.path = path
        self.manifest = manifest
        self.records = records
        self._layouts: dict[Path, _Layout] = {}

    @property
    def hash(self) -> str:
        """Fingerprint of all content, equal for equal input: 64 hexadecimal digits."""
        return str(self.manifest["hash"])

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        cells = sum(record.n_cells for record in self.records)
        return f"Store({str(self.path)!r}: {len(self)} images, {cells} cells)"

    def select(self, split: str | None = None, cell_types: Iterable[str] | None = None) -> "Store":
        """Return the same store with only the records of a split and of some cell types.

        Raises:
            ValueError: the store has no such split or cell type; the nearest is offered.
        """
        records = self.records
        if split is not None:
            _check_known("split", split, {r.split for r in self.records}, self.path)
            records = tuple(r for r in records if r.split == split)
        if cell_types is not None:
            wanted = set(cell_types)
            for cell_type in sorted(wanted):
                _check_known("cell type", cell_type, {r.cell_type for r in records}, self.path)
            records = tuple(r for r in records if r.cell_type in wanted)
        return self.subset(records)

    def subset(self, records: Iterable[Record]) -> "Store":
        """Return the same store with only the given records."""
        other = copy.copy(self)
        other.records = tuple(records)
        return other

    def image(self, index: int) -> NDArray[Any]:
        """Return an image, (H, W) or (H, W, C), mapped read-only, in the type as acquired."""
        return self._array("images", index)

    def labels(self, index: int) -> NDArray[np.integer]:
        """Return labels (H, W), 0 = background, mapped read-only: uint16 or, where needed, int32.

        Pixels of which nobody said what they are have NOT_ANNOTATED, -1.
        """
        return self._array("labels", index)

    def crop(
        self, index: int, top: int, left: int, height: int, width: int
    ) -> tuple[NDArray[Any], NDArray[np.integer]]:
        """Return copies of a part of an image and its labels, at most (height, width).

        Labels keep the numbers they have in the whole image.

        Raises:
            ValueError: the part doesn't start within the image.
        """
        record = self.records[index]
        if not (0 <= top < record.height and 0 <= left < record.width):
            raise ValueError(
                f"crop at row {top}, column {left}: image {record.name} is "
                f"{record.height}x{record.width}"
            )
        columns = slice(left, left + width)
        image = self._layout("images", index).read_rows(top, height)
        labels = self._layout("labels", index).read_rows(top, height)
        return image[:, columns].copy(), labels[:, columns].copy()

    def _array(self, kind: str, index: int) -> NDArray[Any]:
        layout = self._layout(kind, index)
        array: NDArray[Any] = np.memmap(layout.path, layout.dtype, "r", layout.offset, layout.shape)
        return array

    def _layout(self, kind: str, index: int) -> "_Layout":
        path = self.path / kind / f"{self.records[index].name}.npy"
        layout = self._layouts.get(path)
        if layout is None:
            layout = _read_layout(path)
            self._layouts[path] = layout
        return layout


@dataclass(frozen=True)
class _Layout:
    """Where the values of an npy file lie: kept, while the file itself is closed again.

    Open files, and mapped ones, are limited on many systems to fewer than a store has.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    def read_rows(self, first: int, count: int) -> NDArray[Any]:
        count = min(count, self.shape[0] - first)
        per_row = math.prod(self.shape[1:])
        start = self.offset + first * per_row * self.dtype.itemsize
        rows = np.fromfile(self.path, self.dtype, count * per_row, offset=start)
        return rows.reshape(count, *self.shape[1:])


def open_store(path: str | Path) -> Store:
    """Open a store that `prepare` wrote.

    Raises:
        ValueError: not a store, not a whole one, or one of a newer version.
    """
    path = Path(path)
    file = path / MANIFEST
    if not path.is_dir():
        raise ValueError(f"{path}: no such folder; make a store with 'cellshed prepare'")
    if not file.is_file():
        raise ValueError(
            f"{path}: no whole store (no {MANIFEST}); make one with 'cellshed prepare'"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        version = manifest["format"]
        records = tuple(_record(entry) for entry in manifest["records"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: damaged; prepare the store again") from error
    if version != FORMAT or "hash" not in manifest:
        raise ValueError(f"{file}: format {version}, this version reads {FORMAT}; prepare again")
    _check_whole(path, records)
    return Store(path, manifest, records)


def save_arrays(folder: Path, name: str, image: NDArray[Any], labels: NDArray[np.int32]) -> None:
    """Write one image and its labels into the folder of a store that is being built."""
    small = labels.min(initial=0) >= 0 and labels.max(initial=0) < 2**16
    compact = labels.astype(np.uint16) if small else labels
    for kind, array in (("images", image), ("labels", compact)):
        target = folder / kind / f"{name}.npy"
        target.parent.mkdir(exist_ok=True)
        np.save(target, np.ascontiguousarray(array))


def manifest_of(records: Iterable[Record], content: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest; its hash covers everything in `content` but the key "sources"."""
    manifest = {"format": FORMAT, **content, "records": [asdict(record) for record in records]}
    hashed = {key: value for key, value in manifest.items() if key != "sources"}
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    return {"hash": hashlib.sha256(text.encode()).hexdigest(), **manifest}


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest: last of all, so that a store that is not whole has none."""
    write_text(path, json.dumps(manifest, indent=1))


def array_hash(array: NDArray[Any]) -> str:
    """Return the fingerprint of an array's type, shape and values: 64 hexadecimal digits."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _record(entry: dict[str, Any]) -> Record:
    return Record(**{field.name: entry[field.name] for field in fields(Record)})


def _check_known(what: str, name: str, known: set[str], path: Path) -> None:
    if name not in known:
        raise ValueError(f"{path}: no {what} '{name}' in it; {nearest(name, known)}")


def _check_whole(path: Path, records: Iterable[Record]) -> None:
    for kind in ("images", "labels"):
        folder = path / kind
        there = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
        missing = [record.name for record in records if f"{record.name}.npy" not in there]
        if missing:
            raise ValueError(
                f"{path}: {len(missing)} files of its {kind} are missing, first "
                f"{missing[0]}.npy; prepare the store again"
            )


def _read_layout(path: Path) -> _Layout:
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            offset = file.tell()
        size = offset + math.prod(shape) * dtype.itemsize
        if version != (1, 0) or path.stat().st_size != size:
            raise ValueError("cut off")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: damaged or missing; prepare the store again") from error
    return _Layout(path, dtype, shape, offset)
