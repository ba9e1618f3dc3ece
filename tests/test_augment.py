"""Image and labels are warped together, to where they should be."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform, map_coordinates

from cellshed.augment import (
    Pose,
    Warp,
    place,
    reference_warp,
    sample_pose,
    sample_warp,
    warp,
)
from cellshed.normalize import Scaling
from cellshed.settings import AugmentSettings

STILL = AugmentSettings(rotation=0, zoom=(1, 1), flip=False)


def rng(seed=0):
    return np.random.default_rng(seed)


def scene(height=60, width=90):
    """A smooth image, and labels that are a known function of it."""
    row, column = np.mgrid[:height, :width]
    image = (row * 100 + column).astype(np.float32)
    return image, (row // 10 * 100 + column // 10 + 1).astype(np.int32)


def test_a_crop_that_is_only_shifted_is_a_slice():
    image, labels = scene()
    crop, crop_labels = warp(image, labels, place(Pose(), (20, 30), 16), 16)
    np.testing.assert_array_equal(crop[..., 0], image[12:28, 22:38])
    np.testing.assert_array_equal(crop_labels, labels[12:28, 22:38])


@pytest.mark.parametrize("flip", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_flips_and_quarter_turns_move_pixels_and_make_none_up(flip, turns):
    image = rng().integers(0, 255, (24, 24, 2)).astype(np.uint8)
    labels = rng(1).integers(0, 50, (24, 24)).astype(np.uint16)
    how = place(Pose(rotation=90 * turns, flip=flip), (11.5, 11.5), 24)
    crop, crop_labels = warp(image, labels, how, 24)
    flipped_axes = [axis for axis in range(2) if flip[axis]]
    for found, original in ((crop, image), (crop_labels, labels)):
        turned = np.rot90(original, turns)
        np.testing.assert_array_equal(found, np.flip(turned, flipped_axes))


@pytest.mark.parametrize("turn", [-180.0, -37.0, 12.5, 90.0])
def test_rotation_and_zoom_turn_and_magnify_about_the_centre(turn):
    # A linear image stays linear: its gradient is turned back and divided by the zoom.
    row, column = np.mgrid[:200, :200].astype(np.float64)
    image = 3 * row + 5 * column
    how = place(Pose(rotation=turn, zoom=(2.0, 0.8)), (99.5, 99.5), 64)
    crop = warp(image, np.zeros((200, 200), np.int32), how, 64)[0][..., 0]
    cos, sin = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    np.testing.assert_allclose(np.diff(crop, axis=0), (3 * cos - 5 * sin) / 2.0, atol=2e-3)
    np.testing.assert_allclose(np.diff(crop, axis=1), (3 * sin + 5 * cos) / 0.8, atol=2e-3)
    assert crop[31:33, 31:33].mean() == pytest.approx(8 * 99.5, abs=1e-2)


@pytest.mark.parametrize("fill", ["reflect", "nearest"])
@pytest.mark.parametrize("seed", range(5))
def test_the_warp_equals_scipy_inside_and_beyond_the_image(fill, seed):
    image = rng(seed).normal(size=(40, 70)).astype(np.float32)
    labels = rng(seed).integers(0, 9, (40, 70)).astype(np.int32)
    (a, b, row), (c, d, column) = sample_warp(rng(seed), AugmentSettings(), (40, 70), 64).matrix
    crop, crop_labels = warp(image, labels, Warp(((a, b, row), (c, d, column)), fill), 64)
    mode = {"reflect": "mirror", "nearest": "nearest"}[fill]
    arguments = {"offset": (row, column), "output_shape": (64, 64), "mode": mode}
    matrix = np.array([[a, b], [c, d]])
    expected = affine_transform(image.astype(float), matrix, order=1, **arguments)
    np.testing.assert_allclose(crop[..., 0], expected, atol=1e-6)
    np.testing.assert_array_equal(
        crop_labels, affine_transform(labels, matrix, order=0, **arguments)
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_bent_crop_equals_scipys(seed):
    image, labels = scene(120, 150)
    how = sample_warp(rng(seed), AugmentSettings(bend=10), image.shape, 64)
    crop, crop_labels = warp(image, labels, how, 64)
    pixels = np.mgrid[:64, :64] + how.bend.astype(float)
    where = np.einsum("ij,jrc->irc", np.array(how.matrix)[:, :2], pixels)
    where += np.array(how.matrix)[:, 2, None, None]
    expected = map_coordinates(image.astype(float), where, order=1, mode="mirror")
    np.testing.assert_allclose(crop[..., 0], expected, atol=1e-3)
    nearest = map_coordinates(labels, where, order=0, mode="mirror")
    assert (crop_labels == nearest).mean() > 0.999  # but where a place is halfway


def test_bends_go_every_way_as_far_as_asked_and_smoothly():
    bends = [sample_warp(rng(i), AugmentSettings(bend=4), (300, 300), 128).bend for i in range(40)]
    deviations = [bend.std() for bend in bends]
    assert 3 < max(deviations) < 6  # 4 at most, and what chance adds to that of so few places
    assert min(deviations) < 1
    assert abs(np.mean(bends)) < 1
    for bend in bends:
        assert bend.shape == (2, 128, 128)
        steps = np.diff(bend, axis=1), np.diff(bend, axis=2)
        assert max(np.abs(step).max() for step in steps) < 1  # nothing folds


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(1, 50), st.integers(1, 50), st.sampled_from([1, 8, 31, 64])
)
def test_labels_go_where_the_image_goes(seed, height, width, size):
    # The image holds the labels' numbers: wherever it isn't between two, both must agree.
    labels = (rng(seed).random((height, width)) > 0.5).astype(np.int32)
    how = sample_warp(rng(seed), AugmentSettings(stretch=0.2, bend=5), (height, width), size)
    crop, crop_labels = warp(labels, labels, how, size)
    assert crop.shape == (size, size, 1)
    assert crop_labels.dtype == np.int32
    sure = np.isin(crop[..., 0], (0, 1))
    np.testing.assert_array_equal(crop_labels[sure], crop[..., 0][sure])


def test_the_scaling_is_that_of_the_whole_image():
    image = rng().normal(size=(50, 50, 2))
    labels = np.zeros((50, 50), np.int32)
    how = sample_warp(rng(), AugmentSettings(), (50, 50), 32)
    scale = Scaling(np.array([1.5, -2.0]), np.array([3.0, 0.5]))
    plain = warp(image, labels, how, 32)[0]
    scaled = warp(image, labels, how, 32, scale)[0]
    np.testing.assert_allclose(scaled, (plain - scale.offset) * scale.factor, atol=1e-6)


@pytest.mark.parametrize(
    ("image_dtype", "label_dtype"),
    [(np.uint8, np.uint16), (np.uint16, np.uint16), (np.int16, np.int64), (np.float64, np.uint8)],
)
def test_every_dtype_of_image_and_labels_gives_the_same(image_dtype, label_dtype):
    image, labels = (rng(i).integers(0, 99, (30, 30)) for i in range(2))
    how = sample_warp(rng(), AugmentSettings(), (30, 30), 32)
    expected = warp(image.astype(np.float32), labels.astype(np.int32), how, 32)
    found = warp(image.astype(image_dtype), labels.astype(label_dtype), how, 32)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_image_and_labels_of_different_size_are_refused():
    with pytest.raises(ValueError, match=r"\(5, 6\).*\(6, 5\)"):
        warp(np.zeros((5, 6)), np.zeros((6, 5), int), place(Pose(), (2, 2), 4), 4)


def corners(how, size):
    ends = np.array([[0, 0, 1], [0, size - 1, 1], [size - 1, 0, 1], [size - 1, size - 1, 1]])
    return ends @ np.array(how.matrix).T


def test_crops_that_can_lie_inside_do_and_reach_every_corner():
    chosen = AugmentSettings(zoom=(0.9, 1.5))
    places = np.array([corners(sample_warp(rng(i), chosen, (90, 120), 40), 40) for i in range(400)])
    assert places.min() >= -1e-9
    assert (places.max(axis=(0, 1)) <= [89 + 1e-9, 119 + 1e-9]).all()
    assert (places.min(axis=(0, 1)) < 3).all()
    assert (places.max(axis=(0, 1)) > [86, 116]).all()


def test_crops_that_cannot_lie_inside_are_centred():
    how = sample_warp(rng(), AugmentSettings(), (40, 300), 64)
    assert corners(how, 64)[:, 0].mean() == pytest.approx(19.5)


def test_without_rotation_and_zoom_every_offset_is_drawn_alike():
    counts = np.zeros((5, 3), int)
    chosen = STILL.model_copy(update={"flip": True})
    for seed in range(1500):
        ends = corners(sample_warp(rng(seed), chosen, (12, 10), 8), 8)
        row, column = ends.min(axis=0)
        assert row == int(row)
        counts[int(row), int(column)] += 1
    assert counts.min() > 60  # 100 each on average


def test_draws_stay_within_the_settings_and_fill_them():
    chosen = AugmentSettings(rotation=30, zoom=(0.5, 2), stretch=0.2)
    poses = [sample_pose(rng(i), chosen) for i in range(500)]
    turns = np.array([pose.rotation for pose in poses])
    zooms = np.array([pose.zoom for pose in poses])
    assert -30 <= turns.min() < -28
    assert 28 < turns.max() <= 30
    middle, ratio = np.sqrt(zooms.prod(1)), zooms[:, 0] / zooms[:, 1]
    assert 0.5 <= middle.min() < 0.52
    assert 1.9 < middle.max() <= 2
    assert abs(np.log(middle).mean()) < 0.06
    assert 0.8 <= ratio.min() < 0.81
    assert 1.24 < ratio.max() <= 1.25 + 1e-9
    assert {pose.flip for pose in poses} == {(a, b) for a in (False, True) for b in (False, True)}


def test_settings_of_zero_leave_the_pose():
    assert sample_pose(rng(), STILL) == Pose()


def test_the_reference_zooms_about_a_point_beside_the_middle():
    # Zoom 0.5 magnifies twice; the point (H / 2 + 0.5, W / 2 + 0.5) stays where it is.
    how = reference_warp((8, 8), zoom=(0.5, 0.5))
    assert how.matrix == ((0.5, 0.0, 2.25), (0.0, 0.5, 2.25))
    assert how.fill == "nearest"


@pytest.mark.realdata
def test_the_reference_warp_equals_its_records(reference):
    records = np.load(reference / "affine.npz")
    # The reference warps its maps with the image: let them travel as channels and as labels.
    image = np.concatenate([records["x"], records["inner"]], axis=2)
    labels = records["pixelwise"].argmax(2)
    cases = json.loads(str(records["cases_json"]))
    assert len(cases) == 11
    for name, case in cases.items():
        rows, columns = case["crop_indices"] or ((0, 128), (0, 128))
        window = (slice(*rows), slice(*columns))
        shape = labels[window].shape
        how = reference_warp(
            shape,
            theta=case["theta"],
            shift=(case["tx"], case["ty"]),
            shear=case["shear"],
            zoom=(case["zx"], case["zy"]),
            flip=(case["flip_vertical"], case["flip_horizontal"]),
        )
        warped, classes = warp(image[window], labels[window], how, shape[0])
        np.testing.assert_allclose(warped[..., :1], records[f"{name}/x"], atol=1e-6)
        np.testing.assert_allclose(warped[..., 1:], records[f"{name}/inner"], atol=1e-6)
        np.testing.assert_array_equal(classes, records[f"{name}/pixelwise"].argmax(2))
