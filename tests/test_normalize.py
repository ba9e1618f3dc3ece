"""Intensities become network input: by hand-worked numbers, and as the reference recorded."""

import numpy as np
import pytest

from cellshed.normalize import (
    apply_scaling,
    clip_bright,
    equalize_histogram,
    fit,
    normalize,
    preprocess_mesmer,
    scaling,
)
from cellshed.settings import NormalizeSettings

DTYPES = [np.uint8, np.int16, np.uint16, np.int32, np.float16, np.float32, np.float64]


def settings(method, **more):
    return NormalizeSettings(method=method, **more)


def random_image(shape=(40, 30), dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def test_image_has_mean_0_and_deviation_1_per_channel():
    image = np.array([[[1, 10], [3, 10]], [[1, 30], [3, 30]]], np.uint16)
    expected = np.array([[[-1, -1], [1, -1]], [[-1, 1], [1, 1]]], np.float32)
    result = normalize(image, settings("image"))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_percentile_puts_the_range_on_0_to_1_without_clipping():
    image = np.arange(101, dtype=np.float64).reshape(1, 101)
    result = normalize(image, settings("percentile", low=10, high=60))[0, :, 0]
    np.testing.assert_allclose(result[[0, 10, 60, 100]], [-0.2, 0, 1, 1.8], atol=1e-6)


def test_percentiles_that_coincide_give_way_to_the_extremes():
    image = np.zeros((50, 50), np.uint8)
    image[0, 0] = 4
    result = normalize(image, settings("percentile"))
    assert result.max() == 1
    assert result.min() == 0


def test_dataset_uses_the_same_numbers_for_every_image():
    fixed = settings("dataset", mean=(100.0,), std=(20.0,))
    np.testing.assert_allclose(normalize(np.full((2, 2), 140), fixed), 2, atol=1e-6)


def test_none_only_changes_the_dtype():
    image = random_image()
    np.testing.assert_array_equal(normalize(image, settings("none"))[..., 0], image)


@pytest.mark.parametrize("method", ["image", "percentile", "none", "histogram"])
@pytest.mark.parametrize("dtype", [">u2", ">i4", ">f2", ">f4"])
def test_byte_order_does_not_matter(method, dtype):
    swapped = random_image(dtype=dtype)
    native = swapped.astype(swapped.dtype.newbyteorder("="))
    np.testing.assert_array_equal(
        normalize(swapped, settings(method)), normalize(native, settings(method))
    )


def test_fit_weighs_every_pixel_alike():
    images = [random_image((8, 5, 2)), random_image((31, 17, 2)) + 50]
    found = fit(iter(images), settings("dataset"))
    pixels = np.concatenate([image.reshape(-1, 2) for image in images]).astype(float)
    np.testing.assert_allclose(found.mean, pixels.mean(0))
    np.testing.assert_allclose(found.std, pixels.std(0))


def test_fit_leaves_other_methods_and_given_numbers_alone():
    for unchanged in (settings("image"), settings("dataset", mean=(1.0,), std=(2.0,))):
        assert fit(iter([]), unchanged) is unchanged


@pytest.mark.parametrize("method", ["image", "percentile", "dataset", "none"])
def test_a_crop_scaled_by_its_image_equals_the_crop_of_the_scaled_image(method):
    image = random_image((40, 30, 2))
    chosen = fit([image], settings(method))
    crop = apply_scaling(image[5:20, 3:9], scaling(image, chosen))
    np.testing.assert_array_equal(crop, normalize(image, chosen)[5:20, 3:9])


@pytest.mark.parametrize("method", ["image", "percentile", "histogram"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0, 7, 250.3])
def test_a_constant_image_becomes_zeros(method, dtype, value):
    image = np.full((64, 48), value).astype(np.uint8).astype(dtype)
    assert not normalize(image, settings(method)).any()


@pytest.mark.parametrize("method", ["image", "percentile", "histogram"])
def test_one_pixel_and_one_row_are_images(method):
    assert not normalize(np.array([[5]], np.uint8), settings(method)).any()
    assert np.isfinite(normalize(np.array([[5, 9, 200]], np.uint8), settings(method))).all()


@pytest.mark.parametrize("method", ["image", "percentile", "histogram"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtype_of_the_same_values_does_not_matter(method, dtype):
    image = random_image((64, 64))
    expected = normalize(image, settings(method))
    np.testing.assert_allclose(
        normalize(image.astype(dtype), settings(method)), expected, atol=1e-6
    )


def test_small_differences_on_a_large_offset_are_kept():
    image = np.array([[1e12, 1e12 + 2]])
    np.testing.assert_allclose(normalize(image, settings("image"))[..., 0], [[-1, 1]], atol=1e-6)


def test_gain_and_offset_of_the_camera_do_not_matter():
    image = random_image((64, 64), np.float64)
    for method in ("image", "percentile"):
        np.testing.assert_allclose(
            normalize(image * 37 + 5, settings(method)),
            normalize(image, settings(method)),
            atol=1e-5,
        )


@pytest.mark.parametrize("method", ["image", "percentile", "dataset", "histogram", "none"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_refused(method, bad):
    image = np.ones((32, 32), np.float32)
    image[3, 4] = bad
    with pytest.raises(ValueError, match="1 pixel values are NaN or infinite"):
        normalize(image, settings(method, mean=(0.0,), std=(1.0,)))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((2, 3, 4, 5)), "shape"),
        (np.zeros((0, 3)), "shape"),
        (np.zeros((3, 3), complex), "complex"),
    ],
)
def test_what_is_no_image_is_refused(image, words):
    with pytest.raises(ValueError, match=words):
        normalize(image, settings("image"))


def test_settings_that_do_not_fit_are_refused():
    image = random_image((4, 4, 2))
    with pytest.raises(ValueError, match="2 channels"):
        normalize(image, settings("dataset", mean=(0.0,), std=(1.0,)))
    with pytest.raises(ValueError, match="empty"):
        normalize(image, settings("dataset"))
    with pytest.raises(ValueError, match="below"):
        normalize(image, settings("percentile", low=60, high=40))
    with pytest.raises(ValueError, match="histogram"):
        scaling(image, settings("histogram"))
    with pytest.raises(ValueError, match="no images"):
        fit([], settings("dataset"))
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        fit([image, image[..., :1]], settings("dataset"))


def test_clipping_looks_at_pixels_that_are_not_zero():
    image = np.zeros((10, 20), np.uint16)
    image[0, :11] = range(100, 111)
    clipped = clip_bright(image, 50)[..., 0]
    assert clipped.max() == 105
    assert clipped[0, :6].tolist() == [100, 101, 102, 103, 104, 105]
    assert not clipped[1:].any()
    assert not clip_bright(np.zeros((3, 3))).any()


def test_equalising_spreads_the_histogram_and_keeps_the_order_locally():
    # All values lie in the lowest hundredth of the range but for one hot pixel.
    image = np.random.default_rng(0).random((128, 128)).astype(np.float32)
    image[0, 0] = 100
    equal = preprocess_mesmer(image)
    assert equal.min() == 0
    assert equal.max() == 1
    assert 0.3 < np.median(equal) < 0.7
    assert np.median(equalize_histogram(image)) < 0.1  # without clipping first


@pytest.mark.realdata
def test_preprocessing_equals_the_records_of_the_reference(reference):
    records = np.load(reference / "misc.npz")
    names = {key.split("/")[1] for key in records.files if key.startswith("pre/")}
    assert len(names) == 5
    for name in names:
        image = records[f"pre/{name}/in"][0]
        exact = {
            "pct99.9": clip_bright(image),
            "mesmer_preprocess": preprocess_mesmer(image),
            "histnorm_default": equalize_histogram(image, None),
            "histnorm_k128": equalize_histogram(image),
            "histnorm_k64": equalize_histogram(image, 64),
        }
        for key, found in exact.items():
            np.testing.assert_allclose(found, records[f"pre/{name}/{key}"][0], atol=1e-6)
        np.testing.assert_allclose(
            normalize(image, settings("image")),
            records[f"pre/{name}/normalize"][0],
            rtol=1e-6,
            atol=1e-6,
        )
        np.testing.assert_array_equal(
            normalize(image, settings("histogram")), preprocess_mesmer(image)
        )
    for suffix in ("", "_1ch"):
        images = records["layer/in"][..., : 1 if suffix else 2]
        for image, expected in zip(images, records[f"layer/norm_whole_image{suffix}"], strict=True):
            # The reference sums in float32: its mean is off by 1.5e-6 grey levels of 0..1.
            np.testing.assert_allclose(normalize(image, settings("image")), expected, atol=6e-6)
