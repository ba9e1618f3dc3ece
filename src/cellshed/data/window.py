"""A horizontal band of every image of a store, as a store of its own."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellshed.data.store import Store


class Window(Store):
    """The rows of a store's images between two shares of their height.

    Cells that the band's edge cuts are cut; n_cells and the hash stay those of the whole store.
    """

    def __init__(self, store: Store, first: float, last: float) -> None:
        """Take the rows from `first` to `last`, shares of the height in [0, 1]."""
        rows = {r.name: (round(first * r.height), round(last * r.height)) for r in store.records}
        records = tuple(replace(r, height=rows[r.name][1] - rows[r.name][0]) for r in store.records)
        super().__init__(store.path, store.manifest, records)
        self._rows = rows

    def image(self, index: int) -> NDArray[Any]:
        """See Store."""
        return super().image(index)[self._band(index)]

    def labels(self, index: int) -> NDArray[np.integer]:
        """See Store."""
        return super().labels(index)[self._band(index)]

    def crop(
        self, index: int, top: int, left: int, height: int, width: int
    ) -> tuple[NDArray[Any], NDArray[np.integer]]:
        """See Store."""
        record = self.records[index]
        if not (0 <= top < record.height and 0 <= left < record.width):
            raise ValueError(
                f"crop at row {top}, column {left}: the band of {record.name} is "
                f"{record.height}x{record.width}"
            )
        part = (slice(top, top + height), slice(left, left + width))
        return self.image(index)[part].copy(), self.labels(index)[part].copy()

    def _band(self, index: int) -> slice:
        return slice(*self._rows[self.records[index].name])
