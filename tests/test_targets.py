"""What every target must hold, targets together, and the reference's recordings."""

import numpy as np
import pytest

from cellshed.class_maps import foreground, pixelwise, pixelwise_separated
from cellshed.distance_maps import bins, inner_distance, outer_distance
from cellshed.regions import erode_edges
from cellshed.settings import TargetsSettings
from cellshed.targets import TARGETS, encode_targets
from label_images import IMAGES, assert_close

SETTINGS = TargetsSettings()


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
