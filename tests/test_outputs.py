"""What predict writes can be read back, and nothing is lost when a run is interrupted."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask

from cellshed.data.images import read_labels
from cellshed.outputs import (
    KINDS,
    check_kinds,
    claim,
    is_done,
    write_prediction,
    write_summary,
)
from cellshed.sources import Source, source_of

LABELS = np.zeros((32, 48), np.int32)
LABELS[4:12, 4:12], LABELS[4:12, 12:20], LABELS[20:30, 30:44] = 1, 2, 3
CONFIDENCE = np.array([0.25, 0.5, 0.75], np.float32)
IMAGE = np.arange(32 * 48, dtype=np.uint16).reshape(32, 48)


def _source(name: str) -> Source:
    return source_of(Path("images") / name)


def _write(out: Path, *names: str) -> None:
    for name in names:
        write_prediction(out, _source(name), IMAGE, (LABELS, CONFIDENCE), KINDS)
    write_summary(out, KINDS)


def test_all_outputs_say_the_same(tmp_path: Path) -> None:
    _write(tmp_path, "a", "b")
    np.testing.assert_array_equal(read_labels(tmp_path / "labels" / "a.tif"), LABELS)
    assert np.asarray(Image.open(tmp_path / "overlay" / "a.png")).shape == (32, 48, 3)
    with (tmp_path / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["image"], r["label"], r["area"], r["confidence"]) for r in rows[:3]] == [
        ("a", "1", "64", "0.25"),
        ("a", "2", "64", "0.5"),
        ("a", "3", "140", "0.75"),
    ]
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [i["file_name"] for i in coco["images"]] == ["a", "b"]
    assert [a["id"] for a in coco["annotations"]] == [1, 2, 3, 4, 5, 6]
    third = coco["annotations"][2]
    assert third["score"] == pytest.approx(0.75)
    np.testing.assert_array_equal(mask.decode(third["segmentation"]), LABELS == 3)


def test_the_coco_file_names_the_image_as_it_is_called(tmp_path: Path) -> None:
    write_prediction(tmp_path, _source("a.ome.tif"), IMAGE, (LABELS, CONFIDENCE), KINDS)
    write_summary(tmp_path, KINDS)
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [i["file_name"] for i in coco["images"]] == ["a.ome.tif"]
    assert (coco["images"][0]["height"], coco["images"][0]["width"]) == LABELS.shape
    assert {row.split(",")[0] for row in (tmp_path / "cells.csv").read_text().split()[1:]} == {"a"}


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_intensities_of_any_magnitude_keep_their_digits(tmp_path: Path, scale: float) -> None:
    image = np.full((32, 48), 1.23456 * scale)
    write_prediction(tmp_path, _source("a"), image, (LABELS, CONFIDENCE), KINDS)
    write_summary(tmp_path, KINDS)
    with (tmp_path / "cells.csv").open() as file:
        for row in csv.DictReader(file):
            assert float(row["mean_intensity"]) == pytest.approx(1.23456 * scale, rel=1e-5)


def test_a_run_that_is_cut_off_leaves_whole_files_and_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, "a")
    before = (tmp_path / "coco.json").read_bytes()

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cellshed.outputs.write_labels", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write_prediction(tmp_path, _source("b"), IMAGE, (LABELS, CONFIDENCE), KINDS)
    monkeypatch.undo()
    assert is_done(tmp_path, _source("a"), KINDS)
    assert not is_done(tmp_path, _source("b"), KINDS)
    assert (tmp_path / "coco.json").read_bytes() == before
    _write(tmp_path, "b")
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [i["file_name"] for i in coco["images"]] == ["a", "b"]
    assert not list(tmp_path.rglob("*.part"))


def test_images_of_an_earlier_run_stay_in_the_summary(tmp_path: Path) -> None:
    _write(tmp_path, "a")
    _write(tmp_path, "b")
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [i["file_name"] for i in coco["images"]] == ["a", "b"]


def test_done_means_all_that_is_asked_for(tmp_path: Path) -> None:
    assert not is_done(tmp_path, _source("a"), KINDS)
    write_prediction(tmp_path, _source("a"), IMAGE, (LABELS, CONFIDENCE), ("labels",))
    assert is_done(tmp_path, _source("a"), ("labels",))
    assert not is_done(tmp_path, _source("a"), KINDS)


def test_results_are_of_one_file_as_it_was(tmp_path: Path) -> None:
    file, cells = tmp_path / "one" / "a.tif", (LABELS, CONFIDENCE)
    file.parent.mkdir()
    file.write_bytes(b"1")
    write_prediction(tmp_path, source_of(file), IMAGE, cells, KINDS)
    assert is_done(tmp_path, source_of(file), KINDS)
    file.write_bytes(b"12")
    assert not is_done(tmp_path, source_of(file), KINDS)
    write_prediction(tmp_path, source_of(file), IMAGE, cells, ("labels",))
    assert is_done(tmp_path, source_of(file), ("labels",))
    assert not (tmp_path / "overlay" / "a.png").exists()  # which was of the file before
    other = source_of(tmp_path / "two" / "a.tif")
    with pytest.raises(ValueError, match=r"one/a\.tif, .*two/a\.tif has the same name"):
        is_done(tmp_path, other, KINDS)


def test_the_same_file_by_another_way_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "folder" / "a.tif").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    ways = (tmp_path / "folder" / "a.tif", Path("folder/a.tif"), Path("link/a.tif"))
    assert len({json.dumps(source_of(way).mark) for way in ways}) == 1


def test_results_that_do_not_say_their_file_are_not_done(tmp_path: Path) -> None:
    _write(tmp_path, "a")
    part = next((tmp_path / ".parts").iterdir())
    tree = json.loads(part.read_text())
    del tree["source"]
    part.write_text(json.dumps(tree))
    assert not is_done(tmp_path, _source("a"), KINDS)


def test_a_summary_that_is_there_is_brought_up_to_date(tmp_path: Path) -> None:
    _write(tmp_path, "a")
    write_prediction(tmp_path, _source("b"), IMAGE, (LABELS, CONFIDENCE), ("labels",))
    write_summary(tmp_path, ("labels",))
    assert len(json.loads((tmp_path / "coco.json").read_text())["images"]) == 2
    assert len((tmp_path / "cells.csv").read_text().splitlines()) == 1 + 2 * 3


@pytest.mark.parametrize(
    "place", ["labels/a.tif", "labels/b.png", "labels/train/c.npy", "coco.json", "cells.csv"]
)
@pytest.mark.parametrize("overwrite", [True, False])
def test_files_that_are_not_predict_s_stay_as_they_are(
    place: str, overwrite: bool, tmp_path: Path
) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("drawn by hand")
    with pytest.raises(ValueError, match=r"without a made_by\.json .*: choose another folder"):
        claim(tmp_path, {"weights": "1"}, ["a"], overwrite=overwrite)
    assert file.read_text() == "drawn by hand"
    assert not (tmp_path / "made_by.json").exists()


def test_a_name_that_is_not_utf8_is_written_out(tmp_path: Path) -> None:
    name = b"100\xb5m".decode("utf-8", "surrogateescape")
    _write(tmp_path, name)
    rows = (tmp_path / "cells.csv").read_text("utf-8").splitlines()
    assert rows[1].startswith(r"100\udcb5m,1,")
    coco = json.loads((tmp_path / "coco.json").read_text("utf-8"))
    assert coco["images"][0]["file_name"] == r"100\udcb5m"


def test_no_cells_are_written_too(tmp_path: Path) -> None:
    nothing = (np.zeros((32, 48), np.int32), np.zeros(0, np.float32))
    write_prediction(tmp_path, _source("a"), IMAGE, nothing, KINDS)
    write_summary(tmp_path, KINDS)
    assert read_labels(tmp_path / "labels" / "a.tif").max() == 0
    assert len((tmp_path / "cells.csv").read_text().splitlines()) == 1


def test_unknown_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'overlay'"):
        check_kinds(["labels", "overlays"])
