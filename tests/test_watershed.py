import itertools
import json

import numpy as np
import pytest
from scipy import ndimage
from skimage import feature, measure, morphology, segmentation

from cellshed.settings import DecodeSettings, TargetsSettings
from cellshed.targets import encode_targets
from cellshed.watershed import (
    confidence,
    decode,
    decode_with_confidence,
    deep_watershed,
    interior_map,
    marker_map,
)

HEADS = ("inner_distance", "outer_distance", "pixelwise", "pixelwise_separated", "foreground")
SUBSETS = [s for n in range(1, 6) for s in itertools.combinations(HEADS, n)]
# What the reference takes where a recorded setting says nothing, and its older names.
DEFAULTS = {"interior_threshold": 0.01, "radius": 10,
            "small_objects_threshold": 0, "fill_holes_threshold": 0}  # fmt: skip
RENAMED = {
    "min_distance": "radius",
    "distance_threshold": "interior_threshold",
    "detection_threshold": "maxima_threshold",
}


def noisy_maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(30, 70, 2))
    maxima = ndimage.gaussian_filter(rng.random(shape), 2)
    interior = maxima + 0.3 * ndimage.gaussian_filter(rng.random(shape), 1)
    return tuple(((m - m.min()) / np.ptp(m)).astype(np.float32) for m in (maxima, interior))


def plain(maxima, interior, **options):
    """Do the same step by step with scipy and scikit-image, without hole filling."""
    o = {"maxima_threshold": 0.1, "interior_threshold": 0.3, "maxima_smooth": 0, "radius": 2,
         "interior_smooth": 1, "label_erosion": 0, "small_objects_threshold": 15,
         "pixel_expansion": 0, "maxima_algorithm": "h_maxima"} | options  # fmt: skip
    maxima = ndimage.gaussian_filter(maxima, o["maxima_smooth"])
    interior = ndimage.gaussian_filter(interior, o["interior_smooth"])
    if o["pixel_expansion"]:
        interior = ndimage.grey_dilation(interior, size=2 * o["pixel_expansion"] + 1)
    if o["maxima_algorithm"] == "h_maxima":
        peaks = morphology.h_maxima(maxima, o["maxima_threshold"], morphology.disk(o["radius"]))
    else:
        at = feature.peak_local_max(
            maxima,
            min_distance=o["radius"],
            threshold_abs=o["maxima_threshold"],
            exclude_border=o.get("exclude_border", False),
        )
        peaks = np.zeros(maxima.shape)
        peaks[tuple(at.T)] = 1
    markers = measure.label(peaks, connectivity=2)
    mask = interior > o["interior_threshold"]
    labels = segmentation.watershed(-interior, markers, mask=mask)
    for _ in range(o["label_erosion"]):
        labels[segmentation.find_boundaries(labels, mode="inner", background=0)] = 0
    areas = np.bincount(labels.ravel())
    labels[areas[labels] < o["small_objects_threshold"]] = 0
    return segmentation.relabel_sequential(labels)[0]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"maxima_threshold": 0.03, "radius": 1},
        {"radius": 7, "maxima_smooth": 1, "interior_smooth": 2},
        {"maxima_algorithm": "peak_local_max", "radius": 3},
        {"maxima_algorithm": "peak_local_max", "radius": 4, "exclude_border": True},
        {"label_erosion": 2, "maxima_threshold": 0.05},
        {"pixel_expansion": 2, "interior_threshold": 0.5},
        {"interior_smooth": 0, "interior_threshold": 0.0, "small_objects_threshold": 0},
        {"small_objects_threshold": 60, "interior_threshold": 0.45},
    ],
    ids=str,
)
def test_every_option_equals_scipy_and_scikit_image(options):
    for seed in range(6):
        maxima, interior = noisy_maps(seed)
        found = deep_watershed(maxima, interior, fill_holes_threshold=0, **options)
        assert found.dtype == np.int32
        assert np.array_equal(found, plain(maxima, interior, **options))
        assert found.max() > 2


def reference_filling(labels, threshold):
    """Fill holes as the reference does: in each cell's bounding box, where what touches the box
    counts as enclosed; cell by cell, each as those before it have left it.
    """
    labels = labels.copy()
    for region in measure.regionprops(labels):
        if region.image.any() and region.euler_number < 1:
            gaps, _ = ndimage.label(~region.image)
            small = np.bincount(gaps.ravel()) < threshold
            small[0] = False
            labels[region.slice][small[gaps]] = region.label
    return segmentation.relabel_sequential(labels)[0]


def recorded(reference):
    file = np.load(reference / "watershed.npz")
    settings = json.loads(str(file["cfgs_json"]))
    for key in file.files:
        if "/out_" in key:
            name, config = key.split("/out_")
            options = DEFAULTS | {RENAMED.get(k, k): v for k, v in settings[config].items()}
            maps = [file[f"{name}/{m}"].astype(np.float32) for m in ("maxima", "interior")]
            yield maps, options, file[key].astype(np.int32)


@pytest.mark.realdata
def test_every_recorded_output_of_the_reference(reference):
    cases = defective = 0
    for maps, options, output in recorded(reference):
        threshold = options.pop("fill_holes_threshold")
        unfilled = deep_watershed(*maps, fill_holes_threshold=0, **options)
        assert np.array_equal(reference_filling(unfilled, threshold), output)
        ours = deep_watershed(*maps, fill_holes_threshold=threshold, **options)
        # Where ours differ, the reference has filled what no cell encloses; ours never do.
        taken = (ours != output) & (output != unfilled)
        assert np.array_equal(ours != output, taken)
        assert not (ours[taken] != unfilled[taken]).any()
        cases += 1
        defective += taken.any()
    assert cases > 80
    assert defective < cases / 8


@pytest.mark.realdata
def test_recorded_hole_filling_by_itself(reference):
    file = np.load(reference / "watershed.npz")
    for key in file.files:
        if "/size" in key:
            before = file[key.split("/")[0] + "/in"]
            assert np.array_equal(reference_filling(before, int(key.split("size")[1])), file[key])


def two_cells() -> tuple[np.ndarray, np.ndarray]:
    """Return maps of two touching cells of radius 10, one with a hole of 5 pixels."""
    y, x = np.mgrid[:40, :60]
    left = np.hypot(y - 20, x - 20)
    right = np.hypot(y - 20, x - 39)
    maxima = np.maximum(1 / (1 + 0.05 * left**2), 1 / (1 + 0.05 * right**2))
    interior = np.clip(1.2 - np.minimum(left, right) / 10, 0, 1)
    interior[np.hypot(y - 26, x - 39) < 1.5] = 0
    return maxima.astype(np.float32), interior.astype(np.float32)


def test_touching_cells_are_cut_at_the_waist_and_holes_filled():
    maxima, interior = two_cells()
    labels = deep_watershed(maxima, interior, interior_smooth=0)
    assert labels.max() == 2
    assert (labels[20, 12:29] == 1).all()
    assert (labels[20, 31:48] == 2).all()
    assert labels[26, 39] == 2
    assert deep_watershed(maxima, interior, interior_smooth=0, fill_holes_threshold=9)[26, 39] == 0


def test_filling_takes_neither_background_nor_a_neighbour():
    maxima, interior = two_cells()
    # A third cell of 3x3 pixels in the corner of the second one's bounding box.
    interior[11:14, 46:49] = maxima[11:14, 46:49] = 0.9
    options = {"interior_smooth": 0, "small_objects_threshold": 5}
    unfilled = deep_watershed(maxima, interior, fill_holes_threshold=0, **options)
    filled = deep_watershed(maxima, interior, fill_holes_threshold=50, **options)
    hole = unfilled != filled
    assert hole.sum() == 9
    assert (filled[hole] == filled[20, 39]).all()
    assert (filled == filled[12, 47]).sum() == 9
    assert (reference_filling(unfilled, 50) == unfilled[12, 47]).sum() < 9


def test_inputs_of_any_layout_and_type_stay_unchanged():
    maxima, interior = noisy_maps(1)
    expected = deep_watershed(maxima, interior)
    both = np.stack([maxima, interior], axis=-1)
    before = both.copy()
    both.setflags(write=False)
    assert np.array_equal(deep_watershed(both[..., 0], both[..., 1]), expected)
    assert np.array_equal(both, before)
    assert np.array_equal(deep_watershed(np.asfortranarray(maxima), interior), expected)
    assert np.array_equal(deep_watershed(maxima.astype(float), interior.tolist()), expected)


def test_nothing_is_found_in_empty_and_constant_maps():
    for shape in ((0, 0), (0, 4), (1, 1), (3, 5)):
        for value in (0.0, 0.5):
            flat = np.full(shape, value, np.float32)
            for algorithm in ("h_maxima", "peak_local_max"):
                if shape == (1, 1) and algorithm == "peak_local_max":
                    continue  # scikit-image's rule: a single pixel is a peak
                labels = deep_watershed(flat, flat, maxima_algorithm=algorithm)
                assert labels.shape == shape
                assert not labels.any()


def test_what_is_wrong_is_named_with_its_remedy():
    good, nan = np.zeros((4, 5), np.float32), np.zeros((4, 5), np.float32)
    nan[1, 1] = np.nan
    with pytest.raises(TypeError, match="maxima_treshold"):
        deep_watershed(good, good, maxima_treshold=0.1)
    for arguments, options, words in [
        ((good, good.T), {}, r"\(4, 5\) and interior \(5, 4\)"),
        ((good[None], good), {}, "one map"),
        ((good, nan), {}, "interior holds NaN"),
        ((np.full((4, 5), np.inf), good), {}, "maxima holds NaN or infinity"),
        ((good, good), {"maxima_algorithm": "h_maximum"}, "did you mean 'h_maxima'"),
        ((good, good), {"maxima_threshold": 0}, "above 0"),
        ((good, good), {"radius": 0}, "at least 1"),
        ((good, good), {"interior_smooth": -1}, "interior_smooth = -1"),
        ((good, good), {"label_erosion": -1}, "label_erosion = -1"),
        ((good, good), {"pixel_expansion": 1.5}, "whole number"),
    ]:
        with pytest.raises(ValueError, match=words):
            deep_watershed(*arguments, **options)


def discs(*, touching: bool) -> np.ndarray:
    """Return labels of round cells of several sizes, two of which touch or are apart."""
    labels = np.zeros((96, 128), np.int32)
    y, x = np.mgrid[:96, :128]
    between = 0 if touching else 6
    circles = [(20, 25, 12), (20, 46 + between, 9), (60, 30, 17), (60, 90, 20), (18, 100, 8)]
    for k, (cy, cx, radius) in enumerate(circles, 1):
        inside = np.hypot(y - cy, x - cx) <= radius
        labels[inside & (labels == 0)] = k
    return labels


def as_maps(labels: np.ndarray, heads: tuple[str, ...]) -> dict[str, np.ndarray]:
    maps = encode_targets(labels, heads, TargetsSettings())
    return {name: m.astype(np.float32) for name, m in maps.items()}


def overlaps(true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the best IoU of each true cell."""
    table = np.zeros((true.max() + 1, found.max() + 1))
    np.add.at(table, (true, found), 1)
    union = table.sum(1, keepdims=True) + table.sum(0) - table
    return (table / union)[1:, 1:].max(1)


@pytest.mark.parametrize("heads", SUBSETS, ids="+".join)
@pytest.mark.parametrize("touching", [False, True])
def test_exact_maps_of_any_heads_give_the_cells_back(heads, touching):
    labels = discs(touching=touching)
    found = decode(as_maps(labels, heads), DecodeSettings())
    if touching and heads == ("foreground",):  # holds no border: touching cells are one
        assert found.max() == 4
    else:
        assert found.max() == 5
        assert overlaps(labels, found).min() > 0.6


def test_markers_come_from_the_map_that_the_settings_name():
    maps = as_maps(discs(touching=True), HEADS)
    assert marker_map(maps, DecodeSettings()) == "inner_distance"
    del maps["inner_distance"]
    assert marker_map(maps, DecodeSettings()) == "outer_distance"
    del maps["outer_distance"]
    assert marker_map(maps, DecodeSettings()) == "interior"
    blank = as_maps(discs(touching=False), HEADS) | {"inner_distance": np.zeros((96, 128, 1))}
    assert decode(blank, DecodeSettings()).max() == 0
    for other in ("outer_distance", "interior"):
        assert decode(blank, DecodeSettings(markers=other)).max() == 5


def test_the_interior_comes_from_the_best_map():
    maps = as_maps(discs(touching=True), HEADS)
    assert np.array_equal(interior_map(maps), maps["pixelwise"][..., 1])
    del maps["pixelwise"]
    assert np.array_equal(interior_map(maps), maps["pixelwise_separated"][..., 2])
    del maps["pixelwise_separated"]
    assert np.array_equal(interior_map(maps), maps["foreground"][..., 1])
    del maps["foreground"]
    assert np.array_equal(interior_map(maps), np.sqrt(maps["outer_distance"][..., 0]))
    del maps["outer_distance"]
    assert np.array_equal(interior_map(maps), np.sqrt(maps["inner_distance"][..., 0]))


def test_a_share_of_the_edge_joins_the_interior():
    maps = as_maps(discs(touching=True), HEADS)
    for name, edge, inside in (("pixelwise", 0, 1), ("pixelwise_separated", 0, 2)):
        only = {name: maps[name]}
        expected = maps[name][..., inside] + np.float32(0.5) * maps[name][..., edge]
        assert np.array_equal(interior_map(only, 0.5), expected)
    only = {"foreground": maps["foreground"]}
    assert np.array_equal(interior_map(only, 0.5), interior_map(only))


@pytest.mark.parametrize("touching", [False, True])
def test_with_the_edge_cells_reach_their_rim(touching):
    labels = discs(touching=touching)
    maps = as_maps(labels, ("inner_distance", "pixelwise"))
    bare, full = (
        decode(maps, DecodeSettings(edge_weight=weight, interior_threshold=0.55, interior_smooth=0))
        for weight in (0, 0.6)
    )
    assert full.max() == bare.max() == labels.max()
    assert ((bare > 0) <= (full > 0)).all()
    assert (full[labels > 0] > 0).all()
    assert (bare[labels > 0] == 0).any()


def test_connected_interior_is_certain_first_then_grows():
    interior = np.zeros((20, 30), np.float32)
    interior[5:15, 4:12] = interior[5:15, 16:26] = 0.4
    interior[8:12, 6:10] = interior[8:12, 19:23] = 0.9
    interior[9, 12:16] = 0.35  # a bridge
    interior[1:4, 20:28] = 0.45  # never likelier than not
    maps = {"foreground": np.stack([1 - interior, interior], axis=-1)}
    labels = decode(maps, DecodeSettings(interior_smooth=0))
    assert labels.max() == 2
    assert (labels[5:15, 4:12] == 1).all()
    assert (labels[5:15, 16:26] == 2).all()
    assert not labels[1:4, 20:28].any()
    assert decode(maps, DecodeSettings(interior_smooth=0, label_erosion=1))[5, 4] == 0
    assert decode(maps, DecodeSettings(interior_smooth=0, small_objects_threshold=95)).max() == 1


def test_decode_passes_every_setting_on():
    maxima, interior = noisy_maps(2)
    maps = {"inner_distance": maxima, "foreground": np.stack([1 - interior, interior], axis=-1)}
    peaks = {"maxima_algorithm": "peak_local_max", "maxima_threshold": 0.5}
    border = peaks | {"exclude_border": True}
    for changes in ({"radius": 5}, peaks, border, {"label_erosion": 1}):
        expected = deep_watershed(maxima, interior, **changes)
        assert np.array_equal(decode(maps, DecodeSettings(**changes)), expected)


def test_maps_that_cannot_be_decoded_are_named():
    one, three = np.zeros((8, 8, 1), np.float32), np.zeros((8, 8, 3), np.float32)
    for maps, changes, words in [
        ({}, {}, "the maps are none"),
        ({"nuclei": one}, {}, "the maps are nuclei: cells are found in any of pixelwise"),
        ({"pixelwise": three}, {"markers": "inner_distance"}, "set decode.markers=auto"),
        ({"pixelwise": one}, {}, r"pixelwise has shape \(8, 8, 1\): give \(H, W, 3\)"),
        ({"inner_distance": three}, {}, r"inner_distance has shape \(8, 8, 3\)"),
        ({"pixelwise": three * np.nan}, {}, "NaN"),
    ]:
        with pytest.raises(ValueError, match=words):
            decode(maps, DecodeSettings(**changes))


def test_confidence_of_an_ideal_cell_and_of_none():
    labels = np.zeros((20, 20), np.int32)
    labels[5:15, 5:15] = 1
    inside = (labels > 0).astype(np.float32)
    maps = {"inner_distance": inside, "foreground": np.stack([1 - inside, inside], axis=-1)}
    assert confidence(labels, maps, DecodeSettings()).tolist() == [1.0]
    nothing = confidence(np.zeros_like(labels), maps, DecodeSettings())
    assert nothing.shape == (0,)
    assert nothing.dtype == np.float32
    whole = {"pixelwise": np.stack([0 * inside, 0 * inside + 1, 0 * inside], axis=-1)}
    assert confidence(np.ones_like(labels), whole, DecodeSettings()).tolist() == [1.0]


def test_confidence_by_hand():
    labels = np.array([[0, 1, 1, 2, 2]], np.int32)
    interior = np.array([[0.1, 0.6, 0.8, 0.4, 0.6]], np.float32)
    maxima = np.array([[0.0, 0.5, 2.0, 0.3, 0.2]], np.float32)
    maps = {"inner_distance": maxima, "foreground": np.stack([1 - interior, interior], axis=-1)}
    found = confidence(labels, maps, DecodeSettings())
    first = 0.7 * 1.0 * (0.7 - (0.1 + 0.4) / 2)  # mean, peak (at most 1), contrast
    second = 0.5 * 0.3 * 0.0  # its neighbour is higher than itself
    assert found == pytest.approx(np.cbrt([first, second]), abs=1e-6)


def test_confidence_ranks_doubtful_cells_below_clear_ones():
    labels = discs(touching=False)
    maps = as_maps(labels, ("inner_distance", "pixelwise"))
    spoiled = {name: m.copy() for name, m in maps.items()}
    spoiled["pixelwise"][labels == 1] *= 0.5  # faint
    spoiled["inner_distance"][labels == 2] *= 0.2  # without a centre
    halves = labels.copy()
    halves[:, 90:][labels[:, 90:] == 4] = 6  # a cell cut in two
    found = confidence(halves, spoiled, DecodeSettings())
    assert found.shape == (6,)
    assert ((found >= 0) & (found <= 1)).all()
    clear = confidence(labels, maps, DecodeSettings())
    assert (found[[0, 1, 3]] < clear[[0, 1, 3]]).all()
    assert found[[2, 4]] == pytest.approx(clear[[2, 4]])
    assert found[5] < clear[3]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_cells_below_the_confidence_threshold_are_dropped(threshold):
    labels = discs(touching=False)
    maps = as_maps(labels, ("inner_distance", "pixelwise"))
    for label, share in ((1, 0.5), (2, 0.8), (3, 0.95)):
        maps["pixelwise"][labels == label] *= share
    every = decode(maps, DecodeSettings())
    sure = confidence(every, maps, DecodeSettings())
    settings = DecodeSettings(confidence_threshold=threshold)
    found = decode(maps, settings)
    kept = np.flatnonzero(sure >= threshold) + 1
    assert found.dtype == np.int32
    assert ((found > 0) == np.isin(every, kept)).all()
    assert np.unique(found[found > 0]).tolist() == list(range(1, len(kept) + 1))
    same, told = decode_with_confidence(maps, settings)
    assert (same == found).all()
    assert told.tolist() == sure[kept - 1].tolist()


def test_confidence_is_finite_for_missing_labels_and_any_maps():
    labels = np.zeros((6, 6), np.int32)
    labels[0, 0] = 3
    maps = {"outer_distance": np.full((6, 6, 1), 1e30, np.float32)}
    found = confidence(labels, maps, DecodeSettings())
    assert found.shape == (3,)
    assert np.isfinite(found).all()
    assert (found[:2] == 0).all()
