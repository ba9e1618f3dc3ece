"""The report: one page, from result files alone, that tells every number and escapes every name."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cellshed.data.images import write_labels
from cellshed.evaluation import evaluate
from cellshed.report.html import report

HOSTILE = '"><script>alert(1)</script>'


def _result(folder: Path, lost: int) -> Path:
    """Score two images of 3 cells each, of which `lost` are not found."""
    labels = np.zeros((40, 60), np.int32)
    labels[4:14, 4:14], labels[4:14, 30:40], labels[20:34, 20:34] = 1, 2, 3
    truth, pred = folder / "truth", folder / "pred"
    for name in ("a", "b"):
        write_labels(truth / "labels" / f"{name}.tif", labels)
        write_labels(pred / "labels" / f"{name}.tif", np.where(labels <= lost, 0, labels))
        (truth / "images").mkdir(exist_ok=True)
        Image.fromarray((labels * 60).astype(np.uint8)).save(truth / "images" / f"{name}.png")
    evaluate(truth, pred, folder / f"<lost {lost}>")
    return folder / f"<lost {lost}>"


def _run(folder: Path, lr: float) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(f"training:\n  lr: {lr}\n  seed: 0\n")
    (folder / "history.csv").write_text(
        "epoch,step,seconds,lr,loss,loss_pixelwise,val_loss,val_f1\n"
        "1,10,60,0.1,0.5,0.5,,\n2,20,120,0.1,0.25,0.2,0.3,0.75\n"
    )
    (folder / "environment.json").write_text(json.dumps({"command": "cellshed train <x>"}))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("report")
    for name in ("one", "two"):
        (base / name).mkdir()
    return {
        "one": _result(base / "one", 1),
        "two": _result(base / "two", 2),
        "run": _run(base / "run", 0.125),
        "other run": _run(base / "other run", 0.25),
    }


@pytest.fixture(scope="module")
def page(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "report.html"
    report([folders["run"], folders["one"]], out)
    return out.read_text("utf-8")


@pytest.fixture(scope="module")
def compared(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "report.html"
    report(list(folders.values()), out)
    return out.read_text("utf-8")


class _Tags(HTMLParser):
    """Checks that tags are closed in order; notes where links lead, ids, and texts."""

    empty = ("meta", "img", "path", "use", "rect", "br", "circle", "line")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.opened: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        self.sources += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]
        self.ids += [v for k, v in attrs if k == "id"]
        self.opened.append(tag)
        if tag not in self.empty:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.empty:
            assert self.open.pop() == tag


@pytest.mark.parametrize("which", ["page", "compared"])
def test_the_page_is_whole_and_offline(which: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(which)
    tags = _Tags(text)
    assert tags.open == []
    assert tags.opened.count("svg") >= 7
    assert tags.opened.count("img") >= 3
    inside = {f"#{name}" for name in tags.ids}
    assert all(s.startswith("data:image/") or s in inside for s in tags.sources)
    assert not re.search(r"url\((?!#)|@import", text)


def test_names_are_escaped(page: str) -> None:
    assert "&lt;lost 1&gt;" in page
    assert "<lost 1>" not in page
    assert "cellshed train &lt;x&gt;" in page


def test_hostile_texts_in_result_files_stay_texts(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["one"], tmp_path / "r")
    scores = json.loads((tmp_path / "r" / "scores.json").read_text())
    scores["truth"] = scores["pred"] = scores["confidence"] = scores["scale"] = HOSTILE
    scores["model"] = {"name": HOSTILE, "licence": HOSTILE, "data": {"train": [{"hash": HOSTILE}]}}
    for image in scores["images"]:
        image["name"] = image["cell_type"] = HOSTILE
    for picture in scores["gallery"]:
        picture["image"] = picture["caption"] = HOSTILE
    scores["cell_types"] = dict.fromkeys((HOSTILE, "x"), scores["pooled"])
    (tmp_path / "r" / "scores.json").write_text(json.dumps(scores))
    report(tmp_path / "r", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "alert(1)" in text
    assert _Tags(text).opened.count("script") == 1


def test_the_page_tells_the_numbers_by_their_names(page: str) -> None:
    # 2 of 3 cells found in each image, none wrong: 2 * 4 / (2 * 4 + 0 + 2), and 4 / (4 + 0 + 2)
    assert re.search(r"<b>0\.800</b><span>object F1 at IoU 0\.5</span>", page)
    assert re.search(r"<b>0\.667</b><span>mean AP, IoU 0\.5 to 0\.95</span>", page)
    # 100 + 196 of 396 true pixels in each image, none wrong: 2 * 296 / (2 * 296 + 100)
    assert re.search(r"<b>0\.855</b><span>pixel F1</span>", page)
    assert re.search(r"<b>4</b><span>predicted cells</span><small>6 true in 2 images", page)
    assert "lr: 0.125" in page
    # each threshold: found, extra, missed
    assert re.search(r">0\.50</th><td>4</td><td>0</td><td>2</td><td>1\.000</td><td>0\.667", page)


def test_every_part_is_there(page: str) -> None:
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        *("At a glance", "Scores", "Pictures", "Images", "Training", "How to read it", "Origin")
    ]
    assert re.findall(r"<h3>(.*?)</h3>", page) == [
        "Worst images",
        "Best images",
        "Missed: true cells that were not found",
    ]
    for title in ("Each IoU threshold", "Without cells below 100 px", "Mistakes", "COCO AP and AR"):
        assert f"<summary>{title}" in page


def test_results_are_compared_side_by_side(compared: str) -> None:
    # 2 and 4 of 6 cells not found: 0.8 against 2 * 2 / (2 * 2 + 4) = 0.5
    first, second = (
        compared.index(f'<th scope="row">&lt;lost {n}&gt;</th><td>2</td><td>6</td>') for n in (1, 2)
    )
    assert first < second
    row = compared[first:second]
    assert "<td><b>0.800" in row
    assert "<td>0.500" in compared[second : second + 500]
    less = compared[compared.index("&lt;lost 2&gt; less &lt;lost 1&gt;") :]
    assert re.match(r"[^/]*</th><td>2</td><td><span>-0\.300<small>-0\.300 to -0\.300", less)


def test_settings_that_differ_are_listed(compared: str) -> None:
    listed = compared[compared.index("Settings that differ") :]
    assert '<th scope="row">training.lr</th><td>0.125</td><td>0.25</td>' in listed
    assert '<th scope="row">training.seed</th>' not in listed


def test_results_of_other_images_are_not_ranked(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["two"], tmp_path / "r")
    scores = json.loads((tmp_path / "r" / "scores.json").read_text())
    scores["images"][0]["name"] = "elsewhere"
    (tmp_path / "r" / "scores.json").write_text(json.dumps(scores))
    report([folders["one"], tmp_path / "r"], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "<td><b>" not in text
    assert "These results are of different images" in text


def test_a_run_alone_and_one_just_begun_make_a_page(tmp_path: Path) -> None:
    folder = _run(tmp_path / "run", 0.125)
    report(folder, tmp_path / "report.html")
    assert "at epoch" in (tmp_path / "report.html").read_text("utf-8")
    for name in ("history.csv", "environment.json"):
        (folder / name).unlink()
    report(folder, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "No epoch is finished yet" in text
    assert "lr: 0.125" in text


def test_scores_at_another_scale_say_so(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["one"], tmp_path / "r")
    path = tmp_path / "r" / "scores.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scale": 0.75}))
    for folder, expected in ((folders["one"], False), (tmp_path / "r", True)):
        report(folder, tmp_path / "report.html")
        text = (tmp_path / "report.html").read_text("utf-8")
        assert ("images enlarged" in text and "0.75 times" in text) == expected


def test_scores_without_a_single_cell_make_a_page(tmp_path: Path) -> None:
    for kind in ("truth", "pred"):
        write_labels(tmp_path / kind / "labels" / "a.tif", np.zeros((32, 32), np.int32))
    evaluate(tmp_path / "truth", tmp_path / "pred", tmp_path / "scores")
    report(tmp_path / "scores", tmp_path / "report.html")
    assert "predicted cells" in (tmp_path / "report.html").read_text("utf-8")


def test_what_is_damaged_is_named_and_the_earlier_page_stays(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders["one"], tmp_path / "r")
    page = tmp_path / "report.html"
    page.write_text("earlier")
    (tmp_path / "r" / "gallery" / "best-1.png").write_bytes(b"\x89PNG but no more")
    with pytest.raises(ValueError, match=r"best-1\.png: damaged"):
        report(tmp_path / "r", page)
    (tmp_path / "r" / "scores.json").write_text("{")
    with pytest.raises(ValueError, match=r"scores\.json: damaged"):
        report(tmp_path / "r", page)
    assert page.read_text() == "earlier"
