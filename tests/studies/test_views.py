"""Views to tune on: an image's turned and mirrored copies, each with its labels turned alike."""

import numpy as np
import pytest

from cellshed.data.store import Store
from cellshed.studies import views
from cellshed.studies.views import TURNS, views_of


class _Echo:
    """A segmenter whose view of an image is the image."""

    def views(self, image: np.ndarray) -> list[np.ndarray]:
        return [image]


def test_the_eight_copies_differ_and_hold_the_same_pixels() -> None:
    image = np.arange(6).reshape(2, 3)
    copies = [views._turned(image, turn) for turn in TURNS]
    assert np.array_equal(copies[0], image)
    assert len({(copy.shape, copy.tobytes()) for copy in copies}) == 8
    assert all(sorted(copy.ravel()) == list(range(6)) for copy in copies)


def test_each_copy_of_an_image_keeps_its_labels(tiny_store: Store) -> None:
    (seen,) = views_of(_Echo(), [tiny_store], turns=8)  # type: ignore[arg-type]
    assert len(seen) == 8 * len(tiny_store)
    for place, ((image,), labels) in enumerate(seen):
        original = np.asarray(tiny_store.image(place // 8))
        own = np.asarray(tiny_store.labels(place // 8))
        pairs = set(zip(np.ravel(original), own.ravel(), strict=True))
        assert set(zip(np.ravel(image), labels.ravel(), strict=True)) == pairs


@pytest.mark.parametrize("turns", [0, 9])
def test_an_image_has_eight_at_most(tiny_store: Store, turns: int) -> None:
    with pytest.raises(ValueError, match="1 to 8, itself the first"):
        views_of(_Echo(), [tiny_store], turns=turns)  # type: ignore[arg-type]
