"""The report: one page, from result files alone, that tells every number and escapes every name."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cellshed.data.images import write_labels
from cellshed.evaluation import evaluate
from cellshed.report.html import report
from cellshed.report.results import Result, Run, read_folder


@pytest.fixture
def result(tmp_path: Path) -> Path:
    labels = np.zeros((40, 60), np.int32)
    labels[4:14, 4:14], labels[4:14, 30:40], labels[20:34, 20:34] = 1, 2, 3
    pred = labels.copy()
    pred[pred == 2] = 0
    for kind, array in (("truth", labels), ("pred", pred)):
        for name in ("a", "b"):
            write_labels(tmp_path / kind / "labels" / f"{name}.tif", array)
    (tmp_path / "truth" / "images").mkdir()
    for name in ("a", "b"):
        Image.fromarray((labels * 60).astype(np.uint8)).save(
            tmp_path / "truth" / "images" / f"{name}.png"
        )
    evaluate(tmp_path / "truth", tmp_path / "pred", tmp_path / "my <scores>")
    return tmp_path / "my <scores>"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("training:\n  lr: 0.125\n")
    (folder / "history.csv").write_text(
        "epoch,step,loss,val_loss,val_f1\n1,10,0.5,,\n2,20,0.25,0.3,0.75\n"
    )
    (folder / "environment.json").write_text(json.dumps({"command": "cellshed train <x>"}))
    return folder


class _Tags(HTMLParser):
    """Checks that tags are closed in order, and notes where links lead."""

    empty = ("meta", "img", "path", "use", "rect", "br", "circle", "line")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        self.sources += [v for k, v in attrs if k in ("src", "href") and v]
        if tag not in self.empty:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.empty:
            assert self.open.pop() == tag


def test_the_page_is_whole_offline_and_escaped(result: Path, run: Path, tmp_path: Path) -> None:
    report([run, result], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []
    assert all(
        s.startswith(("data:", "#")) for s in tags.sources if not s.startswith("http://www.w3")
    )
    assert "my &lt;scores&gt;" in text
    assert "<scores>" not in text
    assert "cellshed train &lt;x&gt;" in text


def test_the_page_tells_the_numbers_by_their_names(result: Path, run: Path, tmp_path: Path) -> None:
    report([run, result], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    # 2 of 3 cells found in each image, none wrong: 2 * 4 / (2 * 4 + 0 + 2)
    assert re.search(r"<b>0\.800</b><span>object F1 at IoU 0\.5</span>", text)
    assert "pixel F1" in text
    assert "lr: 0.125" in text
    assert "Missed: true cells that were not found" in text


def test_missing_columns_and_missing_history_are_no_trouble(run: Path, tmp_path: Path) -> None:
    (run / "history.csv").unlink()
    (run / "environment.json").unlink()
    report(run, tmp_path / "report.html")
    assert "lr: 0.125" in (tmp_path / "report.html").read_text("utf-8")


def test_folders_are_told_apart(result: Path, run: Path) -> None:
    assert isinstance(read_folder(result), Result)
    found = read_folder(run)
    assert isinstance(found, Run)
    assert found.history == [
        {"epoch": 1, "step": 10, "loss": 0.5},
        {"epoch": 2, "step": 20, "loss": 0.25, "val_loss": 0.3, "val_f1": 0.75},
    ]


@pytest.mark.parametrize("damage", ["{", "[1]"])
def test_damaged_results_are_named_and_the_earlier_page_stays(
    result: Path, tmp_path: Path, damage: str
) -> None:
    page = tmp_path / "report.html"
    page.write_text("earlier")
    (result / "scores.json").write_text(damage)
    with pytest.raises(ValueError, match=r"scores\.json: damaged"):
        report(result, page)
    assert page.read_text() == "earlier"


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a run folder"):
        report(tmp_path, tmp_path / "report.html")
