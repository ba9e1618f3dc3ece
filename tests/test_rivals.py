"""Cells of several views: the surest win, and what the views agree on is surer."""

from collections.abc import Sequence

import numpy as np
import pytest

from cellshed import rivals
from cellshed.inference import Maps
from cellshed.rivals import AGREEMENT, USUAL, View, certain_cells
from cellshed.settings import DecodeSettings, TargetsSettings
from cellshed.targets import encode_targets
from cellshed.watershed import decode_with_confidence

SETTINGS = DecodeSettings(confidence_threshold=0.0)


def best_cells(
    maps: Sequence[Maps], settings: DecodeSettings, shape: tuple[int, int] | None = None
) -> rivals.Cells:
    return rivals.best_cells([View(one) for one in maps], settings, shape)


def _discs(*rows: int) -> np.ndarray:
    y, x = np.mgrid[:96, :64]
    labels = np.zeros((96, 64), np.int32)
    for k, row in enumerate(rows, 1):
        labels[(y - row) ** 2 + (x - 30) ** 2 < 12**2] = k
    return labels


def _maps(labels: np.ndarray) -> dict[str, np.ndarray]:
    targets = encode_targets(labels, ("inner_distance", "pixelwise"), TargetsSettings())
    return {name: target.astype(np.float32) for name, target in targets.items()}


def _fainter(maps: dict[str, np.ndarray], factor: float) -> dict[str, np.ndarray]:
    return {name: values * np.float32(factor) for name, values in maps.items()}


def _two_halves() -> np.ndarray:
    """The upper disc of two, cut in two cells."""
    labels = _discs(20, 70)
    labels[(labels == 1) & (np.arange(96)[:, None] > 20)] = 3
    return labels


def test_one_view_is_decoded_as_it_is() -> None:
    maps = _maps(_discs(20, 70))
    labels, sure = best_cells([maps], SETTINGS)
    expected, expected_sure = decode_with_confidence(maps, SETTINGS)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(sure, expected_sure)


def test_cells_of_any_view_are_there_however_doubtful() -> None:
    upper, lower = _maps(_discs(20)), _fainter(_maps(_discs(70)), 0.9)
    settings = SETTINGS.model_copy(update={"confidence_threshold": 0.95})
    views = [View(upper), View(lower)]
    assert not rivals.best_cells(views, settings)[0].any()
    anywhere = rivals.cells_of_any(views, settings, (96, 64))
    both = decode_with_confidence(upper, SETTINGS)[0] + decode_with_confidence(lower, SETTINGS)[0]
    np.testing.assert_array_equal(anywhere, both > 0)


def test_equal_views_give_their_cells_surer_than_one() -> None:
    maps = _maps(_discs(20, 70))
    alone, sure_alone = best_cells([maps], SETTINGS)
    labels, sure = best_cells([maps, maps, maps], SETTINGS)
    np.testing.assert_array_equal(labels, alone)
    expected = np.minimum(sure_alone + AGREEMENT * (1 - USUAL), 1)
    np.testing.assert_allclose(sure, expected, rtol=1e-6)


@pytest.mark.parametrize("faint_first", [True, False])
def test_of_a_whole_and_its_halves_the_surer_wins(faint_first: bool) -> None:
    whole, halves = _maps(_discs(20, 70)), _maps(_two_halves())
    for sure, doubtful, cells in ((whole, halves, 2), (halves, whole, 3)):
        views = [sure, _fainter(doubtful, 0.8)]
        labels, confidence = best_cells(views[::-1] if faint_first else views, SETTINGS)
        assert labels.max() == len(confidence) == cells
        expected = best_cells([sure], SETTINGS)[0]
        np.testing.assert_array_equal(labels > 0, expected > 0)


def test_what_only_one_view_shows_is_found_with_less_confidence() -> None:
    labels, sure = best_cells([_maps(_discs(20, 70)), _maps(_discs(70))], SETTINGS)
    assert labels.max() == 2
    assert sure[0] < sure[1] - 0.2  # numbered in reading order
    both = best_cells([_maps(_discs(20, 70)), _maps(_discs(70))], _with_threshold(sure.mean()))
    assert both[0].max() == 1
    assert both[0][70, 30] == 1


def _with_threshold(value: float) -> DecodeSettings:
    return SETTINGS.model_copy(update={"confidence_threshold": float(value)})


def test_views_of_other_sizes_meet_at_the_size_of_the_image() -> None:
    labels = _discs(20, 70)
    large = labels.repeat(2, axis=0).repeat(2, axis=1)
    small = labels[::2, ::2]
    found, sure = best_cells([_maps(labels), _maps(large), _maps(small)], SETTINGS, labels.shape)
    assert found.shape == labels.shape
    assert found.max() == len(sure) == 2
    assert (sure > 0.8).all()
    assert ((found > 0) == (labels > 0)).mean() > 0.97


def test_smaller_views_may_have_smaller_cells() -> None:
    labels = _discs(20, 70)
    least = int((labels == 1).sum()) - 150
    settings = SETTINGS.model_copy(update={"small_objects_threshold": least})
    maps, small = _maps(labels), _maps(labels[::2, ::2])
    assert best_cells([small], settings)[0].max() == 0
    found, sure = best_cells([maps, small], settings, labels.shape)
    assert found.max() == 2
    without = best_cells([maps], settings)[1] - AGREEMENT * USUAL
    assert (sure > without + 0.1).all()  # they agree


def test_a_cell_needs_most_of_its_pixels_free() -> None:
    layers = np.zeros((2, 1, 10), np.int32)
    layers[0, 0, :4] = 1
    layers[1, 0, 3:10] = 1  # 6 of 7 free
    layers[1, 0, 0] = 2  # none free
    view, ids = np.array([0, 1, 1]), np.array([1, 1, 2])
    boxes = rivals._boxes(layers)
    np.testing.assert_array_equal(boxes, [[0, 0, 0, 3], [0, 0, 3, 9], [0, 0, 0, 0]])
    found, winners = rivals._settle(layers, boxes, view, ids, np.array([0, 1, 2]), 0.7)
    assert found.tolist() == [[1, 1, 1, 1, 2, 2, 2, 2, 2, 2]]
    assert winners.tolist() == [0, 1]
    found, winners = rivals._settle(layers, boxes, view, ids, np.array([0, 1, 2]), 0.9)
    assert found.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0, 0, 0]]
    assert winners.tolist() == [0]


def test_a_cell_keeps_one_piece() -> None:
    layers = np.zeros((2, 1, 10), np.int32)
    layers[0, 0, 7] = 1
    layers[1, 0] = 1  # 7 to the left of the surer one, 2 to its right
    view, ids = np.array([0, 1]), np.array([1, 1])
    boxes = rivals._boxes(layers)
    found, winners = rivals._settle(layers, boxes, view, ids, np.array([0, 1]), 0.7)
    assert found.tolist() == [[1, 1, 1, 1, 1, 1, 1, 2, 0, 0]]
    assert winners.tolist() == [1, 0]


def test_pieces_touch_by_their_corners_too() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [1, 0, 0, 0]], bool)
    piece, size = rivals._largest_piece(mask)
    assert size == 3
    assert piece.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]]
    assert rivals._largest_piece(np.zeros((2, 3), bool))[1] == 0


def test_without_cells_there_are_none() -> None:
    empty = _maps(np.zeros((40, 50), np.int32))
    labels, sure = best_cells([empty, empty], SETTINGS, (40, 50))
    assert labels.shape == (40, 50)
    assert labels.max() == 0
    assert len(sure) == 0


def test_a_view_finds_its_cells_again_only_with_other_settings() -> None:
    view = View(_maps(_discs(20, 70)))
    assert view.shape == (96, 64)
    first = view.cells(SETTINGS)
    assert view.cells(SETTINGS.model_copy())[0] is first[0]
    larger = SETTINGS.model_copy(update={"small_objects_threshold": 10_000})
    assert view.cells(larger)[0].max() == 0
    np.testing.assert_array_equal(view.cells(SETTINGS)[0], first[0])


def test_certain_cells_are_those_that_the_threshold_leaves() -> None:
    labels = _discs(20, 70)
    maps = _maps(labels)
    maps["pixelwise"][labels == 2] *= 0.6
    sure = decode_with_confidence(maps, SETTINGS)[1]
    settings = SETTINGS.model_copy(update={"confidence_threshold": float(sure.mean())})
    left, left_sure = certain_cells(View(maps), settings)
    expected, expected_sure = decode_with_confidence(maps, settings)
    np.testing.assert_array_equal(left > 0, expected > 0)
    np.testing.assert_array_equal(left_sure, expected_sure)
    assert 0 < (left > 0).sum() < (labels > 0).sum()


def test_how_much_surer_a_second_view_is_costs_no_decoding_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = []

    def decode(maps: Maps, settings: DecodeSettings) -> rivals.Cells:
        decoded.append(settings)
        return decode_with_confidence(maps, settings)

    settings = DecodeSettings(confidence_threshold=0.2, small_objects_threshold=300)
    small = _maps(_discs(20, 70)[::2, ::2])  # discs of 12 pixels, of which 300 * 1 / 4 are enough
    views = [View(_fainter(_maps(_discs(20, 70)), 0.8)), View(small)]
    expected = [rivals.mean_confidence(view, settings) for view in views]
    assert expected[1] == 0  # by itself the second view has no cell of 300 pixels
    monkeypatch.setattr(rivals, "decode_with_confidence", decode)
    assert rivals.gain_of_second(views, settings) == expected[1] - expected[0]
    labels, _ = rivals.best_cells(views, settings)
    assert labels.max() == 2
    assert len(decoded) == 1  # the first view had been decoded so before
