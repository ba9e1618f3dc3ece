"""Folders of images: everything is written, bad files are told, nothing is done twice."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cellshed.data.images import read_labels
from cellshed.inference import Maps
from cellshed.model.folder import load_network, save_model
from cellshed.predict import Segmenter, load_model
from cellshed.predict_files import Summary, predict_files
from cellshed.settings import DecodeSettings


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    small = rng.integers(0, 255, (48, 64), dtype=np.uint8)
    Image.fromarray(small).save(folder / "a.png")
    tifffile.imwrite(folder / "b.tif", small.astype(np.uint16) * 200)
    tifffile.imwrite(folder / "c.ome.tif", small.astype(np.float32) / 255)
    Image.fromarray(small).save(folder / "d.jpg")
    return folder


def test_all_formats_end_in_labels_of_the_image_size(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "cells"
    summary = predict_files(
        [images], out, model=tiny_model, progress=lambda *step: seen.append(step)
    )
    assert [p.name for p in summary.done] == ["a.png", "b.tif", "c.ome.tif", "d.jpg"]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for name in "abcd":
        assert read_labels(out / "labels" / f"{name}.tif").shape == (48, 64)
    assert len(json.loads((out / "coco.json").read_text())["images"]) == 4
    # 8 bit, 16 bit and float hold the same picture
    np.testing.assert_array_equal(
        read_labels(out / "labels" / "a.tif"), read_labels(out / "labels" / "b.tif")
    )


def test_table_and_overlay_show_the_chosen_channel(tiny_model: Path, tmp_path: Path) -> None:
    chosen = np.random.default_rng(0).integers(0, 255, (48, 64)).astype(np.uint16)
    stacked = np.stack([chosen * 0 + 9999, chosen, chosen * 0], axis=-1)
    for name, array in (("alone", chosen), ("one of three", stacked)):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a.tif", array)
    anything = load_model(tiny_model).with_changes(["decode.interior_threshold=0"])
    predict_files([tmp_path / "alone"], tmp_path / "1", model=anything)
    predict_files([tmp_path / "one of three"], tmp_path / "2", model=anything, channel=1)
    for file in ("cells.csv", "overlay/a.png"):
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


def test_images_without_a_cell_are_told(images: Path, tiny_model: Path, tmp_path: Path) -> None:
    blank = tmp_path / "blank.png"
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(blank)
    strict = load_model(tiny_model).with_changes(["decode.small_objects_threshold=100000"])
    summary = predict_files([images / "a.png", blank], tmp_path / "none", model=strict)
    assert summary.empty == summary.done
    assert summary.text().startswith("2 images segmented, 0 cells")
    (line,) = summary.warnings()
    assert line.startswith("no cell found in 2 of 2 images")
    assert "--diameter" in line
    assert Summary(done=[blank], cells=1).text() == "1 image segmented, 1 cell"
    assert Summary(done=[blank], cells=1).warnings() == []


def test_the_speed_is_told_in_what_has_digits(tmp_path: Path) -> None:
    quick, slow = (Summary(done=[tmp_path], cells=1, seconds=s) for s in (0.5, 240.0))
    assert quick.text() == "1 image segmented, 1 cell, 2.00 images a second"
    assert slow.text() == "1 image segmented, 1 cell, 240 s an image"


def test_at_which_scales_images_were_seen_is_told_where_they_differ(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    y, x = np.mgrid[:96, :96]
    for name, radius in (("small", 8), ("large", 30)):
        disc = ((y - 48) ** 2 + (x - 48) ** 2 < radius**2).astype(np.uint8)
        Image.fromarray(disc * 255).save(images / f"{name}.png")
    card = load_model(tiny_model).card.model_copy(
        update={"decode": DecodeSettings(maxima_smooth=0, interior_smooth=0)}
    )

    def network(batch: NDArray[np.float32]) -> Maps:
        inside = np.clip(batch, 0, 1)
        pixelwise = np.concatenate([0 * inside, inside, 1 - inside], axis=1)
        return {"inner_distance": inside, "pixelwise": pixelwise}

    segmenter = Segmenter(network, card).with_changes(
        ["predict.scales_by_size=[[20, [1, 2]], [100, [0.5]]]"]
    )
    discs = [images / "small.png", images / "large.png"]
    summary = predict_files(discs, tmp_path / "two", model=segmenter, save=["labels"])
    assert summary.scales == {(1.0, 2.0): 1, (0.5,): 1}
    assert summary.looks() == "seen at scale 1 and 2 in 1 image; 0.5 in 1 image"
    one = predict_files(discs[:1], tmp_path / "one", model=segmenter, save=["labels"])
    assert one.looks() == ""


def test_what_is_there_is_skipped_unless_told_otherwise(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    segmenter = load_model(tiny_model)
    predict_files([images / "a.png"], tmp_path / "cells", model=segmenter)
    again = predict_files([images], tmp_path / "cells", model=segmenter)
    assert [p.name for p in again.skipped] == ["a.png"]
    assert len(again.done) == 3
    forced = predict_files([images], tmp_path / "cells", model=segmenter, overwrite=True)
    assert len(forced.done) == 4


def test_a_bad_file_is_told_and_the_rest_goes_on(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (images / "bad.png").write_bytes((images / "a.png").read_bytes()[:60])
    out = tmp_path / "cells"
    summary = predict_files([images], out, model=tiny_model, save=["labels"])
    assert len(summary.done) == 4
    assert [p.name for p, _ in summary.failed] == ["bad.png"]
    assert "bad.png" in summary.failed[0][1]
    assert not (out / "labels" / "bad.tif").exists()
    assert "1 failed" in summary.text()


def test_an_engine_that_fails_on_an_image_is_told_and_the_rest_goes_on(
    images: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = load_model(tiny_model)
    compute = segmenter._forward
    batches = iter(range(4))

    def forward(batch: NDArray[np.float32]) -> Maps:
        if next(batches) == 1:
            raise RuntimeError("out of memory\nin the engine's depths")
        return compute(batch)

    monkeypatch.setattr(segmenter, "_forward", forward)
    summary = predict_files([images], tmp_path / "cells", model=segmenter)
    assert [p.name for p in summary.done] == ["a.png", "c.ome.tif", "d.jpg"]
    assert [(p.name, reason) for p, reason in summary.failed] == [("b.tif", "out of memory")]


def test_another_image_of_the_same_name_is_not_taken_for_done(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    segmenter, out = load_model(tiny_model), tmp_path / "cells"
    predict_files([images / "b.tif"], out, model=segmenter)
    other = tmp_path / "plate2" / "b.tif"
    other.parent.mkdir()
    tifffile.imwrite(other, np.zeros((30, 40), np.uint8))
    with pytest.raises(ValueError, match=r"images/b\.tif, .*plate2/b\.tif has the same name"):
        predict_files([other], out, model=segmenter)
    assert read_labels(out / "labels" / "b.tif").shape == (48, 64)
    assert len(predict_files([other], out, model=segmenter, overwrite=True).done) == 1
    assert read_labels(out / "labels" / "b.tif").shape == (30, 40)


def test_a_changed_image_is_done_again(images: Path, tiny_model: Path, tmp_path: Path) -> None:
    segmenter, out = load_model(tiny_model), tmp_path / "cells"
    predict_files([images], out, model=segmenter, save=["labels"])
    tifffile.imwrite(images / "b.tif", np.zeros((30, 40), np.uint8))
    again = predict_files([images], out, model=segmenter, save=["labels"])
    assert [p.name for p in again.done] == ["b.tif"]
    assert read_labels(out / "labels" / "b.tif").shape == (30, 40)
    assert len(predict_files([images], out, model=segmenter, save=["labels"]).skipped) == 4


def test_results_among_the_images_are_not_taken_for_images(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    segmenter, out = load_model(tiny_model), images / "cells"
    predict_files([images], out, model=segmenter)
    again = predict_files([images], out, model=segmenter)
    assert [p.name for p in again.skipped] == ["a.png", "b.tif", "c.ome.tif", "d.jpg"]
    with pytest.raises(ValueError, match="all images given are results"):
        predict_files([out / "labels"], out, model=segmenter)


def test_labels_drawn_by_hand_are_never_replaced(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    drawn = tmp_path / "labels" / "a.tif"
    drawn.parent.mkdir()
    tifffile.imwrite(drawn, np.eye(9, dtype=np.uint8))
    before = drawn.read_bytes()
    with pytest.raises(ValueError, match="choose another folder"):
        predict_files([images], tmp_path, model=tiny_model, overwrite=True)
    assert drawn.read_bytes() == before


def test_two_images_of_one_name_are_refused_before_anything_is_written(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(images / "a.tif")
    with pytest.raises(ValueError, match="both be written as 'a'"):
        predict_files([images], tmp_path / "cells", model=tiny_model)
    (images / "a.tif").rename(images / "A.tif")
    with pytest.raises(ValueError, match=r"(A\.tif and .*a\.png|a\.png and .*A\.tif) would"):
        predict_files([images], tmp_path / "cells", model=tiny_model)
    assert not (tmp_path / "cells").exists()


def test_images_of_one_name_in_several_folders_are_called_by_these_too(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    segmenter, out = load_model(tiny_model), tmp_path / "cells"
    (images / "plate2").mkdir()
    tifffile.imwrite(images / "plate2" / "b.tif", np.zeros((30, 40), np.uint8))
    for _ in range(2):
        predict_files([images], out, model=segmenter)
        found = {path.stem: read_labels(path).shape for path in (out / "labels").iterdir()}
        whole = (48, 64)
        expected = dict.fromkeys(("a", "images-b", "c", "d"), whole) | {"plate2-b": (30, 40)}
        assert found == expected
    named = {image["file_name"] for image in json.loads((out / "coco.json").read_text())["images"]}
    assert named == {"a.png", "images/b.tif", "c.ome.tif", "d.jpg", "plate2/b.tif"}
    again = predict_files([images / "b.tif"], out, model=segmenter)  # alone it keeps its name
    assert [path.name for path in again.skipped] == ["b.tif"]


def test_results_of_another_folder_are_no_images(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        found = predict_files([images], images / name, model=tiny_model)
        assert sorted(path.name for path in found.done) == ["a.png", "b.tif", "c.ome.tif", "d.jpg"]
        assert not found.failed


def test_a_changed_file_that_cant_be_read_leaves_no_results_of_the_former(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cells"
    predict_files([images], out, model=tiny_model)
    (images / "b.tif").write_bytes(b"broken")
    found = predict_files([images], out, model=tiny_model)
    assert [path.name for path, _ in found.failed] == ["b.tif"]
    assert {path.stem for path in (out / "labels").iterdir()} == {"a", "c", "d"}
    listed = json.loads((out / "coco.json").read_text())["images"]
    assert {image["file_name"] for image in listed} == {"a.png", "c.ome.tif", "d.jpg"}


def test_a_name_too_long_for_its_results_is_one_failed_image(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (images / "a.png").rename(images / f"{'a' * 245}.png")
    found = predict_files([images], tmp_path / "cells", model=tiny_model)
    assert [reason[:20] for _, reason in found.failed] == ["its name is too long"]
    assert len(found.done) == 3
    assert (tmp_path / "cells" / "cells.csv").is_file()


def test_results_without_what_is_known_of_them_are_not_gone_on_with(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cells"
    predict_files([images], out, model=tiny_model)
    table = (out / "cells.csv").read_bytes()
    shutil.rmtree(out / ".parts")
    with pytest.raises(ValueError, match=r"not the hidden folder \.parts .* copy it too"):
        predict_files([images], out, model=tiny_model)
    assert (out / "cells.csv").read_bytes() == table


def test_a_file_given_in_two_ways_is_one_image(
    images: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = images.relative_to(tmp_path) / "b.tif"
    found = predict_files([images / "b.tif", relative], "cells", model=tiny_model)
    assert [path.name for path in found.done] == ["b.tif"]


def test_the_same_labels_as_one_image_at_a_time(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    segmenter = load_model(tiny_model)
    predict_files([images / "b.tif"], tmp_path / "cells", model=segmenter, save=["labels"])
    expected = segmenter.segment(tifffile.imread(images / "b.tif"))
    np.testing.assert_array_equal(read_labels(tmp_path / "cells" / "labels" / "b.tif"), expected)


def test_results_of_other_settings_are_not_taken_for_these(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    segmenter, out = load_model(tiny_model), tmp_path / "cells"
    other = segmenter.with_changes(["decode.radius=5"])
    predict_files([images], out, model=segmenter)
    before = (out / "labels" / "a.tif").stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"decode\.radius = 2, now it is 5: --overwrite"):
        predict_files([images], out, model=other)
    assert (out / "labels" / "a.tif").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="3 of them of other images, first 'b'"):
        predict_files([images / "a.png"], out, model=other, overwrite=True)
    assert len(predict_files([images], out, model=other, overwrite=True).done) == 4
    assert len(predict_files([images], out, model=other).skipped) == 4


def test_results_of_another_model_or_of_unknown_ones_are_told(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cells"
    net, card = load_network(tiny_model)
    weights = {k: v + 0.01 if v.ndim > 1 else v for k, v in net.state_dict().items()}
    save_model(tmp_path / "other", weights, card)
    predict_files([images], out, model=tiny_model, save=["labels"])
    with pytest.raises(ValueError, match="results of another model: --overwrite"):
        predict_files([images], out, model=tmp_path / "other", save=["labels"])
    (out / "made_by.json").unlink()
    with pytest.raises(ValueError, match=r"without a made_by\.json that says what made it"):
        predict_files([images], out, model=tiny_model, save=["labels"])


def test_an_overwriting_run_that_stops_leaves_nothing_of_the_earlier_one(
    images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    segmenter, out = load_model(tiny_model), tmp_path / "cells"
    other = segmenter.with_changes(["decode.radius=5"])
    predict_files([images], out, model=segmenter)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files([images], out, model=other, overwrite=True, progress=stop)
    again = predict_files([images], out, model=other)
    assert len(again.done) + len(again.skipped) == 4
    assert again.done
