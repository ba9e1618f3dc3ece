"""Overlays: which pixels are painted, and that neighbours differ."""

import numpy as np
import pytest

from cellshed.report.overlay import (
    CYCLE,
    EXTRA,
    MATCHED,
    MISSED,
    WHITE,
    closeup,
    draw,
    draw_matches,
    stretch,
)


def two_squares(size=20):
    labels = np.zeros((size, size), np.int32)
    labels[4:10, 4:10] = 1
    labels[4:10, 10:16] = 2
    return labels


def test_outline_is_the_inner_boundary_and_nothing_else():
    labels = np.zeros((9, 9), np.int32)
    labels[2:7, 2:7] = 1
    image = np.arange(81.0).reshape(9, 9)
    picture = draw(image, labels)
    changed = (picture != stretch(image)).any(axis=2)
    ring = labels > 0
    ring[3:6, 3:6] = False
    assert (changed == ring).all()


def test_touching_cells_differ_in_colour():
    labels = np.arange(36).reshape(6, 6).repeat(5, 0).repeat(5, 1) * 7 + 7  # same k % 7
    picture = draw(np.zeros((30, 30)), labels)
    centre_of_edges = picture[::5, ::5]
    assert (centre_of_edges[:, 1:] != centre_of_edges[:, :-1]).any(axis=2).all()
    assert (centre_of_edges[1:] != centre_of_edges[:-1]).any(axis=2).all()


def test_cells_one_pixel_apart_differ_in_colour():
    labels = np.zeros((8, 30), np.int32)
    labels[2:6, 2:6], labels[2:6, 7:11] = 1, 8
    picture = draw(np.zeros((8, 30)), labels)
    assert (picture[2, 2] != picture[2, 7]).any()


def test_the_frame_of_the_image_is_no_outline():
    picture = draw(np.zeros((10, 10)), np.ones((10, 10), np.int32))
    assert (picture == 128).all()


@pytest.mark.parametrize("numbers", [(1, 2), (70_000, 2**31 - 1)])
def test_any_label_numbers_give_the_same_edges(numbers):
    labels = np.array((0, *numbers))[two_squares()]
    changed = (draw(np.zeros((20, 20)), labels) != 128).any(axis=2)
    expected = (draw(np.zeros((20, 20)), two_squares()) != 128).any(axis=2)
    assert (changed == expected).all()


def test_truth_is_dotted_white_below_the_prediction():
    labels, truth = two_squares(), np.roll(two_squares(), 3, axis=0)
    picture = draw(np.zeros((20, 20)), labels, truth)
    alone = draw(np.zeros((20, 20)), labels)
    painted = (alone != 128).any(axis=2)
    assert (picture[painted] == alone[painted]).all()
    rest = picture[~painted]
    assert set(map(tuple, rest)) == {(128, 128, 128), tuple(WHITE)}


def test_boxes_frame_each_cell():
    labels = np.zeros((20, 20), np.int32)
    labels[np.arange(5, 15), np.arange(5, 15)] = 3  # a diagonal line
    changed = (draw(np.zeros((20, 20)), labels, boxes=True) != 128).any(axis=2)
    assert changed[5, 5:15].all()
    assert changed[14, 5:15].all()
    assert changed[5:15, 5].all()
    assert changed[5:15, 14].all()
    assert not changed[:5].any()
    assert not changed[15:].any()
    assert not changed[7, 9:14].any()


@pytest.mark.parametrize(
    "image",
    [
        np.full((20, 20), 7, np.uint16),
        np.full((20, 20), np.nan),
        np.ones((20, 20), bool),
        np.zeros((20, 20, 2), np.float32),
        np.full((20, 20, 3), 2**40, np.int64),
    ],
    ids=["constant", "nan", "bool", "two-channels", "int64"],
)
def test_dull_images_still_show_the_outlines(image):
    picture = draw(image, two_squares())
    assert picture.dtype == np.uint8
    assert (picture[4, 4:16] != picture[0, 0]).any(axis=1).all()


def test_stretch_maps_percentiles_and_ignores_outliers():
    image = np.linspace(0, 1000, 10_000).reshape(100, 100)
    image[0, 0], image[0, 1], image[0, 2] = np.nan, np.inf, 1e9
    grey = stretch(image)[..., 0]
    assert grey[0, 0] == grey[0, 1] == 0
    assert grey[0, 2] == 255
    assert (grey[1:].ravel()[[0, -1]] == (0, 255)).all()
    assert abs(int(grey[50, 0]) - 127) <= 2


def test_stretch_keeps_the_colours_of_rgb():
    image = np.zeros((10, 10, 3), np.uint8)
    image[:5, :, 0], image[5:, :, 2] = 200, 100
    picture = stretch(image)
    assert tuple(picture[0, 0]) == (255, 0, 0)
    assert tuple(picture[9, 0]) == (0, 0, 127)


def test_a_few_bright_pixels_on_a_flat_image_are_seen():
    image = np.zeros((100, 100))
    image[3, 3] = 5
    assert stretch(image)[3, 3, 0] == 255


def test_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match=r"labels of shape \(20, 20\) on an image of \(20, 21\)"):
        draw(np.zeros((20, 21)), two_squares())
    with pytest.raises(ValueError, match=r"shape \(20,\)"):
        stretch(np.zeros(20))


def test_matches_are_coloured_by_outcome():
    truth = two_squares(30)
    labels = np.zeros_like(truth)
    labels[4:10, 4:10], labels[20:25, 20:25] = 5, 6
    picture = draw_matches(np.zeros((30, 30)), labels, truth, ([5], [1]))
    assert tuple(picture[4, 4]) == tuple(MATCHED)
    assert tuple(picture[20, 20]) == tuple(EXTRA)
    assert tuple(picture[4, 15]) == tuple(MISSED)
    assert tuple(picture[0, 0]) == (128, 128, 128)


def test_closeup_shows_image_truth_and_prediction_side_by_side():
    labels = two_squares(64)
    truth = np.where(labels > 0, 1, 0)
    image = np.random.default_rng(0).random((64, 64))
    picture = closeup(image, labels, truth, (4, 4, 10, 16), scale=4)
    height, width = (10 + 12) * 4, (16 + 12) * 4
    assert picture.shape == (height, 3 * width + 8, 3)
    plain, middle, right = (picture[:, i * (width + 4) :][:, :width] for i in range(3))
    assert (plain == stretch(image)[:22, :28].repeat(4, 0).repeat(4, 1)).all()
    corner = (4 * 4, 4 * 4)
    assert tuple(middle[corner]) == tuple(WHITE)
    assert tuple(right[corner]) in set(map(tuple, CYCLE))
    shared = (7 * 4, 10 * 4)  # where 2 begins: an edge of the prediction alone
    assert (middle[shared] == plain[shared]).all()
    assert (right[shared] != plain[shared]).any()


def test_closeup_dims_bystanders():
    labels = np.zeros((40, 40), np.int32)
    labels[10:15, 10:15], labels[10:15, 20:25] = 1, 2
    picture = closeup(np.zeros((40, 40)), labels, labels, (10, 10, 15, 15), scale=1)
    truth = picture[:, 27 + 4 :]
    assert tuple(truth[10, 10]) == (255, 255, 255)
    assert 128 < truth[10, 20, 0] < 200


def test_closeup_can_be_about_some_of_the_cells_in_the_box():
    labels = np.zeros((40, 40), np.int32)
    labels[10:15, 10:15], labels[10:15, 15:20] = 7, 9
    image, box = np.zeros((40, 40)), (10, 10, 15, 20)
    picture = closeup(image, labels, labels, box, cells=([], [9]), scale=1)
    truth, pred = picture[:, 32 + 4 : 2 * 32 + 4], picture[:, 2 * (32 + 4) :]
    assert 128 < truth[10, 10, 0] < 200
    assert tuple(truth[10, 15]) == (255, 255, 255)
    assert not (set(map(tuple, pred.reshape(-1, 3))) & set(map(tuple, CYCLE)))


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (5, 0, 3, 5), (0, 0, 65, 5), (-1, 0, 5, 5)])
def test_closeup_refuses_a_box_outside(box):
    with pytest.raises(ValueError, match=r"box \("):
        closeup(np.zeros((64, 64)), two_squares(64), two_squares(64), box)
