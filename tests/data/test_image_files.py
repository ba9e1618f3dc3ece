"""Images are read as acquired, labels come back as written, and bad files are named."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cellshed.data.images import list_images, read_image, read_labels, stem, write_labels

RANDOM = np.random.default_rng(0)
GREY8 = RANDOM.integers(0, 256, (7, 9), np.uint8)
GREY16 = RANDOM.integers(0, 65536, (7, 9), np.uint16)
RGB8 = RANDOM.integers(0, 256, (7, 9, 3), np.uint8)
RGB16 = RANDOM.integers(0, 65536, (7, 9, 3), np.uint16)
ALPHA8 = np.full((7, 9, 1), 128, np.uint8)


def tif(path: Path, pixels: np.ndarray, **more: Any) -> Path:
    tifffile.imwrite(path, pixels, **more)
    return path


def png(path: Path, pixels: np.ndarray) -> Path:
    path.write_bytes(imagecodecs.png_encode(pixels))
    return path


@pytest.mark.parametrize(
    "pixels",
    [GREY8, GREY16, GREY16.astype(np.float32), GREY8.astype(np.float64), GREY16.astype(np.int32)],
    ids=lambda a: a.dtype.name,
)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "deflate", "lzw"])
def test_tif_of_every_type(
    tmp_path: Path, pixels: np.ndarray, order: Any, compression: str | None
) -> None:
    path = tif(tmp_path / "a.tif", pixels, byteorder=order, compression=compression)
    image = read_image(path)
    np.testing.assert_array_equal(image, pixels)
    assert image.dtype == pixels.dtype
    assert image.dtype.isnative


@pytest.mark.parametrize("pixels", [GREY8, GREY16, RGB8, RGB16])
def test_png_keeps_its_bits(tmp_path: Path, pixels: np.ndarray) -> None:
    image = read_image(png(tmp_path / "a.png", pixels))
    np.testing.assert_array_equal(image, pixels)
    assert image.dtype == pixels.dtype


def test_alpha_is_dropped(tmp_path: Path) -> None:
    grey = png(tmp_path / "grey.png", np.dstack([GREY8, ALPHA8]))
    colour = png(tmp_path / "colour.png", np.dstack([RGB8, ALPHA8]))
    rgba = tif(
        tmp_path / "rgba.tif",
        np.dstack([RGB8, ALPHA8]),
        photometric="rgb",
        extrasamples=["unassalpha"],
    )
    np.testing.assert_array_equal(read_image(grey), GREY8)
    np.testing.assert_array_equal(read_image(colour), RGB8)
    np.testing.assert_array_equal(read_image(rgba), RGB8)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_samples_that_nobody_calls_alpha_are_channels(tmp_path: Path, n: int, name: str) -> None:
    pixels = RANDOM.integers(0, 65536, (7, 9, n), np.uint16)
    metadata = {"axes": "YXC"} if "ome" in name else None
    path = tif(
        tmp_path / name, pixels, photometric="minisblack", planarconfig="contig", metadata=metadata
    )
    np.testing.assert_array_equal(read_image(path), pixels)


@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_alpha_alone_is_dropped_wherever_it_stands(tmp_path: Path, kind: str, planar: Any) -> None:
    kinds = ["unspecified", kind, "unspecified"]
    pixels = RANDOM.integers(0, 256, (7, 9, 6), np.uint8)  # red, green, blue and these three
    path = tif(
        tmp_path / "a.tif",
        pixels if planar == "contig" else np.moveaxis(pixels, -1, 0),
        photometric="rgb",
        planarconfig=planar,
        extrasamples=kinds,
    )
    np.testing.assert_array_equal(read_image(path), pixels[..., [0, 1, 2, 3, 5]])


def test_palette_and_two_level_png(tmp_path: Path) -> None:
    Image.fromarray(RGB8[:2, :2]).quantize(4).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), RGB8[:2, :2])
    Image.fromarray(GREY8 > 99).save(tmp_path / "two.png")
    two = read_image(tmp_path / "two.png")
    np.testing.assert_array_equal(two > 0, GREY8 > 99)


def test_jpeg_grey_and_colour(tmp_path: Path) -> None:
    flat = np.full((16, 24), 77, np.uint8)
    Image.fromarray(flat).save(tmp_path / "grey.jpg")
    Image.fromarray(np.dstack([flat] * 3)).save(tmp_path / "colour.JPEG")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.jpg"), flat)
    colour = read_image(tmp_path / "colour.JPEG")
    assert colour.shape == (16, 24, 3)
    np.testing.assert_array_equal(colour, 77)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((3, 7, 9), "CYX"), ((1, 3, 1, 7, 9), "TCZYX"), ((7, 9, 3), "YXS"), ((2, 7, 9), "CYX")],
)
def test_ome_channels_come_last(tmp_path: Path, shape: tuple[int, ...], axes: str) -> None:
    pixels = RANDOM.integers(0, 65536, shape, np.uint16)
    path = tif(tmp_path / "a.ome.tif", pixels, metadata={"axes": axes})
    image = read_image(path)
    squeezed = np.squeeze(pixels)
    expected = squeezed if axes == "YXS" else np.moveaxis(squeezed, 0, -1)
    np.testing.assert_array_equal(image, expected)


def test_one_channel_is_a_plane(tmp_path: Path) -> None:
    path = tif(tmp_path / "a.ome.tif", GREY16[None], metadata={"axes": "CYX"})
    np.testing.assert_array_equal(read_image(path), GREY16)


@pytest.mark.parametrize("side", [1, 2])
def test_tiny_image(tmp_path: Path, side: int) -> None:
    pixels = np.full((1, side), 9, np.uint8)
    np.testing.assert_array_equal(read_image(tif(tmp_path / "a.tif", pixels)), pixels)


@pytest.mark.parametrize(
    ("shape", "metadata"),
    [((5, 7, 9), None), ((5, 7, 9), {"axes": "TYX"}), ((4, 2, 7, 9), {"axes": "ZCYX"})],
)
def test_stack_is_refused(tmp_path: Path, shape: tuple[int, ...], metadata: Any) -> None:
    name = "a.ome.tif" if metadata else "a.tif"
    path = tif(
        tmp_path / name, np.zeros(shape, np.uint8), metadata=metadata, photometric="minisblack"
    )
    with pytest.raises(ValueError, match=r"a stack of shape .*; save one image per file"):
        read_image(path)


@pytest.mark.parametrize("name", ["one-after-another.tif", "positions.ome.tif"])
def test_several_images_in_a_file_are_refused(tmp_path: Path, name: str) -> None:
    with tifffile.TiffWriter(tmp_path / name) as writer:
        for _ in range(3):
            writer.write(RGB8, photometric="rgb")
    with pytest.raises(ValueError, match=r"a stack of shape \(3, 7, 9, 3\).*; save one image per"):
        read_image(tmp_path / name)


def test_appended_image_is_refused(tmp_path: Path) -> None:
    tif(tmp_path / "a.tif", GREY8)
    tif(tmp_path / "a.tif", GREY8, append=True)
    with pytest.raises(ValueError, match=r"a stack of shape \(2, 7, 9\)"):
        read_labels(tmp_path / "a.tif")


def test_thumbnail_and_slide_label_are_left_out(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "slide.tif") as writer:
        for pixels in (GREY16, GREY16[::2, ::2], GREY8):
            writer.write(pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "slide.tif"), GREY16)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    pixels = GREY8.astype(np.float32)
    pixels[2, 3] = bad
    with pytest.raises(ValueError, match=r"a\.tif: 1 pixels are NaN or infinite"):
        read_image(tif(tmp_path / "a.tif", pixels))


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
@pytest.mark.parametrize("damage", ["empty", "half", "noise", "text"])
def test_damaged_file_is_one_clear_line(tmp_path: Path, suffix: str, damage: str) -> None:
    pixels = RANDOM.integers(0, 256, (64, 64), np.uint8)
    path = tmp_path / f"bad{suffix}"
    if suffix == ".tif":
        tif(path, pixels, compression="deflate")
    else:
        Image.fromarray(pixels).save(path)
    whole = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "half": whole[: len(whole) // 2], "noise": bytes(range(256)),
         "text": b"<html>404</html>"}[damage]
    )  # fmt: skip
    with pytest.raises(ValueError, match=rf"bad{suffix}: not a whole image") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_too_large_jpeg_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(GREY8).save(tmp_path / "a.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", GREY8.size // 2 - 1)
    with pytest.raises(ValueError, match=r"a\.jpg: more pixels than are read .* as tif or png"):
        read_image(tmp_path / "a.jpg")


def test_two_level_tif_is_no_label_image(tmp_path: Path) -> None:
    path = tif(tmp_path / "mask.tif", GREY8 > 99)
    np.testing.assert_array_equal(read_image(path), GREY8 > 99)
    with pytest.raises(ValueError, match=r"mask\.tif: a mask of true and false; number its cells"):
        read_labels(path)


def test_files_that_are_no_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.tif: no such file"):
        read_image(tmp_path / "gone.tif")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"notes\.txt: not an image; known: \.tif"):
        read_image(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="complex64"):
        read_image(tif(tmp_path / "c.tif", np.zeros((3, 3), np.complex64)))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([1, 255, 65535, 65536, 2**31 - 1]),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([np.uint8, np.uint16, np.int32, np.uint32, np.int64]),
)
def test_labels_come_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, largest: int, h: int, w: int, kind: Any
) -> None:
    largest = min(largest, int(np.iinfo(kind).max))
    labels = np.random.default_rng(h * w).integers(0, largest + 1, (h, w)).astype(kind)
    labels.flat[0] = largest
    path = tmp_path_factory.mktemp("written") / "new" / "x.tif"
    write_labels(path, labels)
    np.testing.assert_array_equal(read_labels(path), labels)
    assert tifffile.imread(path).dtype == (np.uint16 if largest < 2**16 else np.uint32)
    assert [file.name for file in path.parent.iterdir()] == ["x.tif"]


def test_labels_are_compressed(tmp_path: Path) -> None:
    write_labels(tmp_path / "x.tif", np.zeros((1000, 1000), np.int32))
    assert (tmp_path / "x.tif").stat().st_size < 20_000


def test_failed_write_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.tif"
    write_labels(path, np.ones((4, 4), np.int32))

    def fill_the_disk(file: Path, *_: Any, **__: Any) -> None:
        Path(file).write_bytes(b"II*")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        write_labels(path, np.zeros((4, 4), np.int32))
    monkeypatch.undo()
    assert read_labels(path).all()
    assert [file.name for file in tmp_path.iterdir()] == ["x.tif"]


def test_labels_come_back_as_they_were_with_ground_that_nobody_annotated(tmp_path: Path) -> None:
    for largest in (3, 2**16 + 1):
        labels = np.array([[-1, 0], [1, largest]], np.int32)
        write_labels(tmp_path / "x.tif", labels)
        np.testing.assert_array_equal(read_labels(tmp_path / "x.tif"), labels)


def test_labels_from_png_and_npy(tmp_path: Path) -> None:
    png(tmp_path / "a.png", GREY16)
    np.save(tmp_path / "b.npy", GREY16)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), GREY16)
    np.testing.assert_array_equal(read_labels(tmp_path / "b.npy"), GREY16)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 3), np.float32), "labels of type float32; save each cell's number"),
        (np.array([[0, -4]], np.int16), "negative labels, down to -4"),
        (np.array([[0, 2**31]], np.uint32), "label 2147483648 is too large"),
        (np.zeros((3, 3, 3), np.uint8), r"shape \(3, 3, 3\); a label image has one channel"),
        (np.zeros((0, 3), np.uint8), "an image without pixels"),
        (np.array([[True, False]]), "a mask of true and false; number its cells first"),
        (np.array([["a"]]), "labels of type"),
    ],
)
def test_arrays_that_are_no_labels_are_named(
    tmp_path: Path, array: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "l.npy", array)
    with pytest.raises(ValueError, match=rf"l\.npy: {message}"):
        read_labels(tmp_path / "l.npy")


def test_a_palettes_indices_are_labels(tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(labels, "P")
    image.putpalette([(7 * k) % 256 for k in range(36)])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), labels)
    assert read_image(tmp_path / "a.png").shape == (3, 4, 3)


def test_only_labels_are_written(tmp_path: Path) -> None:
    arrays: list[Any] = [np.zeros((3, 3)), np.array([[-2]]), np.zeros((3, 3, 1), int)]
    for array in arrays:
        with pytest.raises(ValueError, match="labels"):
            write_labels(tmp_path / "out.tif", array)
    assert not list(tmp_path.iterdir())


def test_list_images_of_files_globs_and_folders(tmp_path: Path) -> None:
    names = ("b.tif", "a.png", "c.JPG", "notes.txt", ".hidden.tif", "sub/d.tif", ".no/e.tif")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in list_images([tmp_path])] == ["a.png", "b.tif", "c.JPG", "d.tif"]
    again = list_images([tmp_path / "b.tif", tmp_path, str(tmp_path / "*" / "*.tif")])
    assert [path.name for path in again] == ["b.tif", "a.png", "c.JPG", "d.tif"]


def test_inputs_without_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone: no such file or folder"):
        list_images([tmp_path / "gone"])
    with pytest.raises(ValueError, match="no images"):
        list_images([tmp_path])
    with pytest.raises(ValueError, match=r"\*\.tif: no images"):
        list_images([str(tmp_path / "*.tif")])


def test_stem_takes_ome_tif_as_one_suffix() -> None:
    assert [stem(Path(n)) for n in ("a.ome.tif", "b.c.tif", "d.png")] == ["a", "b.c", "d"]
