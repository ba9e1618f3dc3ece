"""Tiles cover an image, their weights sum to one, and no seam is left."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from cellshed.tiling import predict_tiled, reference_tiles, reference_window, windows


def box_mean(radius):
    """A local function that reaches `radius` pixels and doesn't care where it is."""

    def function(tile):
        mean = uniform_filter(tile.astype(np.float64), (2 * radius + 1, 2 * radius + 1, 0))
        return {"mean": mean, "twice": np.concatenate([2 * mean, -mean], axis=2)}

    return function


geometry = st.tuples(
    st.integers(1, 400), st.sampled_from([32, 64, 96, 128]), st.integers(0, 96)
).filter(lambda g: g[1] - g[2] >= 32)


@given(geometry)
def test_weights_of_an_axis_sum_to_one_and_steps_are_multiples(case):
    length, tile, overlap = case
    cut = windows(length, tile, overlap)
    total = np.zeros(cut[-1].start + cut[-1].size)
    for window in cut:
        assert window.start % 32 == window.size % 32 == 0
        total[window.start : window.start + window.size] += window.weights
    assert np.abs(total - 1).max() < 1e-6
    assert cut[0].start == 0
    assert length <= total.size < length + 32
    assert all(a.start + a.size - b.start >= overlap for a, b in itertools.pairwise(cut))


@settings(max_examples=40, deadline=None)
@example((300, 64, 0), 100, 0)
@example((300, 64, 32), 100, 0)
@example((400, 128, 96), 200, 0)
@given(geometry, st.integers(1, 200), st.integers(0, 2**31))
def test_tiles_leave_no_seam_in_a_local_function(case, width, seed):
    height, tile, overlap = case
    radius = overlap // 4
    image = np.random.default_rng(seed).normal(size=(height, width, 1))
    function = box_mean(radius)
    whole = function(image)
    tiled = predict_tiled(function, image, tile, overlap)
    inner = (
        slice(radius, max(height - radius, radius)),
        slice(radius, max(width - radius, radius)),
    )
    for name, values in tiled.items():
        assert values.dtype == np.float32
        assert values.shape == whole[name].shape
        np.testing.assert_allclose(values[inner], whole[name][inner], atol=2e-6)


def test_a_function_that_knows_its_place_in_the_tile_fades_without_a_jump():
    # Each tile answers with another number; the blend may not jump between neighbouring pixels.
    count = iter(range(100))

    def function(tile):
        return {"tile": np.full((*tile.shape[:2], 1), next(count))}

    values = predict_tiled(function, np.zeros((64, 224, 1)), 128, 64)["tile"]
    assert values[0, 0, 0] == 0
    assert values[0, -1, 0] == 2
    assert np.abs(np.diff(values[..., 0], axis=1)).max() < 0.07
    assert (np.diff(values[..., 0], axis=0) == 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (33, 5), (128, 128)])
def test_an_image_that_fits_is_done_in_one_pass_on_a_mirrored_border(shape):
    seen = []

    def function(tile):
        seen.append(tile)
        return {"same": tile}

    image = np.arange(np.prod(shape), dtype=np.float32).reshape(*shape, 1)
    np.testing.assert_array_equal(predict_tiled(function, image, 128, 32)["same"], image)
    (tile,) = seen
    padding = [(0, -side % 32) for side in shape]
    np.testing.assert_array_equal(tile, np.pad(image, [*padding, (0, 0)], mode="reflect"))


def test_no_more_than_one_tile_is_asked_for_at_once():
    shapes = []

    def function(tile):
        shapes.append(tile.shape)
        return {"same": tile}

    image = np.random.default_rng(0).normal(size=(300, 200, 2)).astype(np.float32)
    tiled = predict_tiled(function, image, 96, 32)["same"]
    np.testing.assert_allclose(tiled, image, atol=1e-6)
    assert set(shapes) == {(96, 96, 2)}
    assert len(shapes) == 5 * 3  # steps of 64 reach 300 in 4 gaps and 200 in 2


@pytest.mark.parametrize(
    ("tile", "overlap", "words"),
    [(100, 32, "tile 100"), (0, 0, "tile 0"), (64, 33, "give 0 to 32"), (64, -1, "overlap -1")],
)
def test_impossible_geometry_is_refused_with_the_remedy(tile, overlap, words):
    with pytest.raises(ValueError, match=words):
        predict_tiled(lambda part: {"same": part}, np.zeros((200, 200, 1)), tile, overlap)


def test_the_reference_pads_to_whole_steps_and_its_weights_exceed_one():
    assert reference_tiles(300, 128) == ([0, 96, 192], (10, 10))
    assert reference_tiles(257, 256) == ([0, 192], (96, 95))
    assert reference_tiles(100, 128) == ([0], (14, 14))
    window = reference_window(256, 64, 64)
    np.testing.assert_allclose((window[:64] + window[-64:]), 1.000122, atol=1e-6)
    assert (window[64:-64] == 1).all()


@pytest.mark.realdata
def test_tiles_and_weights_are_those_recorded_from_the_reference(reference):
    records = np.load(reference / "misc.npz")
    for key in (k for k in records.files if k.startswith("spline/")):
        size, left, right = (int(part) for part in key.split("/")[1].split("_"))
        np.testing.assert_allclose(reference_window(size, left, right), records[key], atol=1e-12)
    cases = {k: v for k, v in json.loads(str(records["info_json"])).items() if "tile/" in k}
    assert len(cases) == 6
    for key, case in cases.items():
        image = records[f"{key}/in"][0].astype(np.float32)
        np.testing.assert_allclose(
            reference_untile(image, case), records[f"{key}/untiled_gain"][0], atol=1e-6
        )


def reference_untile(image, case):
    """Cut as the reference does, scale tile k by 1 + 0.1 k, and put together again."""
    tile, ratio = case["tile"], case["stride_ratio"]
    axes = [reference_tiles(length, tile, ratio) for length in image.shape[:2]]
    for axis, name in zip(axes, "xy", strict=True):
        assert axis[0] == sorted(set(case["info"][f"{name}_starts"]))
        assert list(axis[1]) == case["info"][f"pad_{name}"]
    (rows, pad_rows), (columns, pad_columns) = axes
    padded = np.pad(image, (pad_rows, pad_columns, (0, 0)), mode=case["pad_mode"])
    overlap = tile - case["stride_x"]
    blend = tile < min(padded.shape[:2]) and tile >= 32 and ratio >= 0.5
    out = np.zeros(padded.shape)
    for k, (row, column) in enumerate((r, c) for r in rows for c in columns):
        place = (slice(row, row + tile), slice(column, column + tile))
        values = padded[place] * (1 + 0.1 * k)
        if blend:
            sides = [
                reference_window(tile, overlap * (start > 0), overlap * (start < starts[-1]))
                for start, starts in ((row, rows), (column, columns))
            ]
            out[place] += values * np.outer(*sides)[..., None]
        else:
            out[place] = values
    return out[pad_rows[0] :, pad_columns[0] :][: image.shape[0], : image.shape[1]]
