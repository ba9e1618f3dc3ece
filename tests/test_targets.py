import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from scipy import ndimage
from skimage import measure, morphology, segmentation

from cellshed.regions import erode_edges
from cellshed.settings import TargetsSettings
from cellshed.targets import (
    TARGETS,
    bins,
    encode_targets,
    foreground,
    inner_distance,
    outer_distance,
    pixelwise,
    pixelwise_separated,
)

SETTINGS = TargetsSettings()


def scattered_cells(height, width, n, seed):
    """Cells of several sizes, some touching, some cut by the frame, some labels in two pieces."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.int32)
    y, x = np.ogrid[:height, :width]
    for label in rng.permutation(3 * n)[:n] + 1:
        top, left, tall, wide = rng.random(4) * (height, width, 9, 9) + (0, 0, 1, 1)
        labels[((y - top) / tall) ** 2 + ((x - left) / wide) ** 2 < 1] = label
    return labels


def placed(shape, rows, columns, label=1):
    labels = np.zeros(shape, np.int32)
    labels[rows, columns] = label
    return labels


IMAGES = {
    "empty": np.zeros((6, 9), np.int32),
    "one pixel": placed((5, 7), 2, 3),
    "one pixel in the corner": placed((5, 7), 0, 6),
    "cut by the frame": placed((8, 9), slice(0, 5), slice(4, 9), label=3),
    "two that touch": placed((9, 12), slice(2, 8), slice(1, 5))
    + placed((9, 12), slice(2, 8), slice(5, 11), label=8),
    "scattered": scattered_cells(61, 78, 40, 0),
    "dense": scattered_cells(64, 50, 150, 1),
}


def assert_close(found, expected, what=""):
    # not pytest.approx, which takes its time over each pixel
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6, err_msg=what)


few_labels = nps.arrays(
    np.int32,
    st.tuples(st.integers(2, 11), st.integers(2, 14)),
    elements=st.sampled_from([0, 0, 1, 1, 1, 2, 2, 9]),
)
examples = settings(deadline=None, max_examples=100)


# What every target must hold, new ones included


@pytest.fixture(params=TARGETS.values(), ids=TARGETS)
def target(request):
    return request.param


@pytest.fixture(params=IMAGES.values(), ids=IMAGES)
def labels(request):
    return request.param


def test_shape_range_and_kind(target, labels):
    encoded = target.encode(labels, SETTINGS)
    assert encoded.shape == (*labels.shape, target.channels)
    assert target.channels == len(target.channel_names)
    if target.activation == "softmax":
        assert target.loss == "cross_entropy"
        assert encoded.dtype == np.uint8
        assert (encoded.sum(axis=2) == 1).all()
        background = encoded[..., target.channel_names.index("background")]
        assert not background[labels > 0].any()
    else:
        assert target.loss == "mse"
        assert encoded.dtype == np.float32
        assert encoded.min() >= 0
        assert encoded.max() <= 1
        assert not encoded[labels == 0].any()


def test_numbers_of_the_labels_do_not_matter(target, labels):
    others = np.r_[0, np.random.default_rng(0).permutation(labels.max()) + 1] * 70001
    renamed = others[labels]
    assert np.array_equal(target.encode(renamed, SETTINGS), target.encode(labels, SETTINGS))


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_turns_and_flips_with_the_labels(target, labels, turns, mirrored):
    def turn(image):
        turned = np.rot90(image, turns)
        return turned[:, ::-1] if mirrored else turned

    moved = target.encode(turn(labels), SETTINGS)
    assert_close(moved, turn(target.encode(labels, SETTINGS)))


def test_leaves_the_labels_alone(target, labels):
    before = labels.copy()
    target.encode(labels, SETTINGS)
    assert np.array_equal(labels, before)


@pytest.mark.parametrize("bad", [np.array([[0, -1]]), np.array([[0.0, 1.0]]), np.zeros((2, 2, 2))])
def test_refuses_what_is_no_label_image(target, bad):
    with pytest.raises(ValueError, match="labels"):
        target.encode(bad, SETTINGS)


def test_an_empty_image_is_all_background(target):
    encoded = target.encode(np.zeros((3, 4), int), SETTINGS)
    if target.activation == "softmax":
        assert encoded[..., target.channel_names.index("background")].all()
    else:
        assert not encoded.any()


# Inner distance


def test_inner_distance_by_hand():
    square = placed((5, 5), slice(1, 4), slice(1, 4))
    side, corner = 1 / (1 + 1 / 3), 1 / (1 + 2 / 3)
    expected = [[corner, side, corner], [side, 1, side], [corner, side, corner]]
    assert inner_distance(square)[1:4, 1:4] == pytest.approx(np.array(expected))
    corner = 1 / (1 + np.sqrt(2) / 3)  # the plain distance instead of its square
    expected = [[corner, side, corner], [side, 1, side], [corner, side, corner]]
    assert inner_distance(square, power=1)[1:4, 1:4] == pytest.approx(np.array(expected))
    assert inner_distance(square, alpha=0.1, beta=2)[2, 1:4] == pytest.approx([1 / 1.2, 1, 1 / 1.2])
    assert inner_distance(square, erosion=1).tolist() == placed((5, 5), 2, 2).tolist()


def test_the_centre_is_weighted_by_the_distance_to_background():
    centre = (0 * 3 + 1 * 2 + 2 * 1) / (3 + 2 + 1)
    expected = [1 / (1 + (x - centre) ** 2) for x in range(3)]
    found = inner_distance([[1, 1, 1, 0]], alpha=1.0)
    assert found[0] == pytest.approx(np.array([*expected, 0]))


def test_touching_cells_draw_each_other_unless_eroded():
    labels = [[0, 1, 1, 1, 2, 2, 2, 0]]
    centre = (1 * 1 + 2 * 2 + 3 * 3) / 6
    value = 1 / (1 + (2 - centre) ** 2 / np.sqrt(3))
    assert inner_distance(labels)[0, [2, 5]] == pytest.approx([value, value])
    assert inner_distance(labels, erosion=1).tolist() == [[0, 0, 1, 0, 0, 1, 0, 0]]


def test_a_label_in_two_pieces_is_two_cells():
    assert inner_distance([[4, 0, 4]]).tolist() == [[1, 0, 1]]
    assert outer_distance([[4, 0, 0, 4, 4, 4, 0]])[0].tolist() == [1, 0, 0, 0.5, 1, 0.5, 0]


def plain_inner_distance(labels, alpha, beta, power):
    cells = measure.label(labels, connectivity=2)
    weights = ndimage.distance_transform_edt(labels != 0)
    expected = np.zeros(labels.shape)
    for region in measure.regionprops(cells, weights):
        centre = np.array(region.centroid_weighted)
        r = np.linalg.norm(region.coords - centre, axis=1)
        a = 1 / np.sqrt(region.area) if alpha == "auto" else alpha
        expected[tuple(region.coords.T)] = 1 / (1 + beta * a * r**power)
    return expected


@pytest.mark.parametrize(("alpha", "beta", "power"), [("auto", 1, 2), (0.1, 0.5, 2), (0.3, 2, 1)])
def test_inner_distance_equals_a_plain_version(labels, alpha, beta, power):
    expected = plain_inner_distance(labels, alpha, beta, power)
    assert_close(inner_distance(labels, alpha=alpha, beta=beta, power=power), expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alpha": "automatic"}, "alpha = 'automatic': give a number from 0 up or 'auto'"),
        ({"alpha": -1}, "alpha = -1"),
        ({"alpha": None}, "alpha = None"),
        ({"beta": float("nan")}, "beta = nan"),
        ({"power": 3}, "power = 3: give 2 .* or 1"),
        ({"erosion": -1}, "erosion = -1 pixels"),
    ],
)
def test_impossible_arguments_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        inner_distance([[1]], **wrong)


# Outer distance


def test_outer_distance_by_hand():
    square = placed((5, 5), slice(1, 4), slice(1, 4))
    raw = np.array([[1, 1, 1], [1, 2, 1], [1, 1, 1]])
    assert np.array_equal(outer_distance(square, normalize=False)[1:4, 1:4], raw)
    assert np.array_equal(outer_distance(square)[1:4, 1:4], raw / 2)
    assert outer_distance(square, erosion=1).tolist() == placed((5, 5), 2, 2).tolist()


def test_touching_cells_share_a_ridge_unless_eroded():
    labels = [[0, 1, 1, 1, 2, 2, 2, 0]]
    ridge = np.array([0, 1, 2, 3, 3, 2, 1, 0]) / 3
    assert outer_distance(labels)[0] == pytest.approx(ridge)
    assert outer_distance(labels, erosion=1).tolist() == [[0, 0, 1, 0, 0, 1, 0, 0]]


def test_every_normalised_cell_reaches_1(labels):
    cells, n = measure.label(labels, connectivity=2, return_num=True)
    peaks = ndimage.maximum(outer_distance(labels), cells, np.arange(1, n + 1))
    assert np.array_equal(peaks, np.ones(n))


# Classes


def test_pixelwise_by_hand():
    labels = [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 2, 2, 0],
        [1, 1, 1, 2, 2, 0],
    ]
    edge, interior, background = 0, 1, 2
    expected = [
        [interior, interior, edge, background, background, background],
        [interior, interior, edge, edge, edge, background],
        [interior, interior, edge, edge, edge, background],
    ]
    assert pixelwise(labels).argmax(axis=2).tolist() == expected
    dilated = pixelwise(labels, dilation=1).argmax(axis=2)
    expected[0][3:5] = [edge, edge]
    expected[1][5] = expected[2][5] = edge
    assert dilated.tolist() == expected


@pytest.mark.parametrize("dilation", [0, 1, 2, 3, 5])
def test_dilation_is_by_a_disc(labels, dilation):
    edge = segmentation.find_boundaries(labels, connectivity=1, mode="inner", background=0)
    interior = (labels > 0) & ~edge
    edge = ndimage.binary_dilation(edge, morphology.disk(dilation)) & ~interior
    expected = np.stack([edge, interior, ~(edge | interior)], axis=2)
    assert np.array_equal(pixelwise(labels, dilation=dilation), expected)


def test_separated_edges_by_hand():
    labels = [[0, 0, 1, 1, 2, 2, 0]]
    background_edge, cell_edge, background = 0, 1, 3
    classes = [background_edge, cell_edge, cell_edge, background_edge]
    expected = [[background, background, *classes, background]]
    assert pixelwise_separated(labels).argmax(axis=2).tolist() == expected
    expected = [[background, background_edge, *classes, background_edge]]
    assert pixelwise_separated(labels, dilation=1).argmax(axis=2).tolist() == expected


@examples
@given(few_labels, st.integers(0, 3))
def test_separated_edges_are_the_edges(labels, dilation):
    together = pixelwise(labels, dilation=dilation)
    separated = pixelwise_separated(labels, dilation=dilation)
    background_edge, cell_edge, *others = np.moveaxis(separated, 2, 0)
    assert np.array_equal(background_edge + cell_edge, together[..., 0])
    assert np.array_equal(others, np.moveaxis(together[..., 1:], 2, 0))
    beside_background = ndimage.binary_dilation(labels == 0)
    assert not (cell_edge & beside_background).any()
    assert (background_edge <= beside_background | (labels == 0)).all()


def test_foreground_always_has_two_channels():
    assert foreground([[0, 5]]).tolist() == [[[1, 0], [0, 1]]]
    assert foreground([[0, 0]]).tolist() == [[[1, 0], [1, 0]]]
    assert foreground([[3]]).tolist() == [[[0, 1]]]


def test_impossible_dilation_is_named():
    with pytest.raises(ValueError, match="dilation = -2 pixels: give a whole number"):
        pixelwise([[1]], dilation=-2)


# Bins


def test_bins_by_hand():
    assert bins([[0, 0.2, 0.6, 1.0]], 2).tolist() == [[0, 0, 1, 1]]
    assert bins([[0, 1.9, 2.1, 10]], 5).tolist() == [[0, 0, 1, 4]]
    assert bins([[5.0, 5.0]], 4).tolist() == [[1, 1]]
    with pytest.raises(ValueError, match="0 bins"):
        bins([[1.0]], 0)


# All together


def test_encoding_together_equals_encoding_alone(labels):
    together = encode_targets(labels, TARGETS, SETTINGS)
    assert list(together) == list(TARGETS)
    for name, encoded in together.items():
        assert np.array_equal(encoded, TARGETS[name].encode(labels, SETTINGS))
    assert np.array_equal(together["inner_distance"][..., 0], inner_distance(labels, erosion=1))
    assert np.array_equal(together["outer_distance"][..., 0], outer_distance(labels, erosion=1))
    assert np.array_equal(together["pixelwise"], pixelwise(labels, dilation=1))
    assert np.array_equal(together["foreground"], foreground(labels))


def test_settings_reach_the_targets():
    settings = TargetsSettings.model_validate(
        {
            "inner_distance": {"erosion": 0, "alpha": 0.2, "beta": 3, "power": 1},
            "outer_distance": {"erosion": 2, "normalize": False},
            "pixelwise": {"dilation": 3},
            "pixelwise_separated": {"dilation": 2},
        }
    )
    labels = IMAGES["scattered"]
    found = encode_targets(labels, TARGETS, settings)
    expected = inner_distance(labels, alpha=0.2, beta=3, power=1)
    assert np.array_equal(found["inner_distance"][..., 0], expected)
    expected = outer_distance(labels, erosion=2, normalize=False)
    assert np.array_equal(found["outer_distance"][..., 0], expected)
    assert np.array_equal(found["pixelwise"], pixelwise(labels, dilation=3))
    expected = pixelwise_separated(labels, dilation=2)
    assert np.array_equal(found["pixelwise_separated"], expected)


def test_an_unknown_target_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="'inner_distanc'; did you mean 'inner_distance'"):
        encode_targets([[1]], ["inner_distanc"], SETTINGS)


# Recorded outputs of the reference

RECORDED = {
    "inner_alpha0.1": lambda labels: inner_distance(labels, alpha=0.1),
    "inner_auto_b1": inner_distance,
    "inner_auto_b1_er1": lambda labels: inner_distance(labels, erosion=1),
    "inner_auto_b0.5": lambda labels: inner_distance(labels, beta=0.5),
    "inner_auto_b1_bins4": lambda labels: bins(inner_distance(labels), 4),
    "outer_er0_raw": lambda labels: outer_distance(labels, normalize=False),
    "outer_er0": outer_distance,
    "outer_er1": lambda labels: outer_distance(labels, erosion=1),
    "outer_er2": lambda labels: outer_distance(labels, erosion=2),
    "outer_er0_bins4": lambda labels: bins(outer_distance(labels), 4),
    "pixelwise_d0": pixelwise,
    "pixelwise_d1": lambda labels: pixelwise(labels, dilation=1),
    "pixelwise_d2": lambda labels: pixelwise(labels, dilation=2),
    # channels 0 and 1 are swapped in the recording
    "pixelwise_sep_d0": lambda labels: pixelwise_separated(labels)[..., [1, 0, 2, 3]],
    "fgbg": foreground,
    "erode1": erode_edges,
    "erode2": lambda labels: erode_edges(labels, 2),
}


@pytest.mark.realdata
@pytest.mark.parametrize("kind", RECORDED)
def test_equals_the_reference(reference, kind):
    with np.load(reference / "transforms.npz") as recorded:
        names = [name.split("/")[0] for name in recorded if name.endswith(f"/{kind}")]
        assert names
        for name in names:
            found, expected = RECORDED[kind](recorded[f"{name}/label"]), recorded[f"{name}/{kind}"]
            if kind == "fgbg" and expected.shape[2] == 1:  # the reference's defect: no cell
                found = found[..., :1]
            assert_close(found, expected.astype(float), name)


@pytest.mark.realdata
def test_dilated_separated_edges_equal_the_reference_where_it_names_one_class(reference):
    with np.load(reference / "transforms.npz") as recorded:
        names = [name.split("/")[0] for name in recorded if name.endswith("/pixelwise_sep_d1")]
        assert names
        for name in names:
            found = pixelwise_separated(recorded[f"{name}/label"], dilation=1)
            expected = recorded[f"{name}/pixelwise_sep_d1"][..., [1, 0, 2, 3]]
            one = expected.sum(axis=2) == 1
            assert np.array_equal(found[one], expected[one]), name
            # The rest is both kinds of edge there; here it is one, in the background its own.
            assert (expected[~one] == [1, 1, 0, 0]).all(), name
            assert (found[~one][:, :2].sum(axis=1) == 1).all(), name
            assert found[~one & (recorded[f"{name}/label"] == 0)][:, 0].all(), name
