"""Figures: what is drawn are the numbers, whole SVG for light and dark pages, and files."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from cellshed.report import drawing, figures

HISTORY = [
    {"epoch": 1, "step": 10, "loss": 0.5},
    {"epoch": 2, "step": 20, "loss": 0.25, "val_loss": 0.3, "val_f1": 0.75},
    {"epoch": 3, "step": 30, "loss": 0.2, "val_loss": 0.28, "val_f1": 0.8},
]


def scores(f1, **more):
    at = {"f1": f1, "ap": None if f1 is None else f1 / (2 - f1)}
    return {"thresholds": {"0.50": at, "0.55": at}, "n_true": 200} | more


def lines_of(figure):
    return {line.get_label(): line for line in figure.axes[0].lines}


def test_curves_are_the_columns_over_steps_where_they_are_known():
    columns = {"loss": "training", "val_loss": "validation", "val_x": "never there"}
    lines = lines_of(figures.curves({"a": HISTORY}, columns, "Loss", log=True))
    assert list(lines) == ["training", "validation"]
    assert lines["training"].get_xydata().tolist() == [[10, 0.5], [20, 0.25], [30, 0.2]]
    assert lines["validation"].get_xydata().tolist() == [[20, 0.3], [30, 0.28]]


def test_curves_of_several_runs_differ_by_colour():
    other = [{"epoch": row["epoch"], "loss": row["loss"]} for row in HISTORY]  # has no steps
    lines = lines_of(figures.curves({"a": HISTORY, "b": other}, {"loss": "training"}, "Loss"))
    assert lines["a, training"].get_color() != lines["b, training"].get_color()
    assert lines["b, training"].get_xdata().tolist() == [1, 2, 3]


def test_scores_over_iou_leave_out_what_is_undefined():
    lines = lines_of(figures.over_iou({"all": scores(0.8), "x": scores(None)}, "f1", "F1"))
    assert lines["all"].get_xydata().tolist() == [[0.5, 0.8], [0.55, 0.8]]
    assert len(lines["x"].get_xdata()) == 0


def test_bars_are_as_long_as_the_scores_and_whiskers_as_the_intervals():
    kinds = {"A": scores(0.5, intervals={"f1@0.50": [0.4, 0.7]}), "B": scores(None)}
    axis = figures.bars({"one": kinds, "two": {"B": scores(0.25)}}, "F1").axes[0]
    assert [bar.get_width() for bar in axis.patches] == [0.5, 0, 0.25]
    assert [line.get_xdata().tolist() for line in axis.lines] == [[0.4, 0.7]]
    assert [text.get_text() for text in axis.texts] == ["0.50", "none", "0.25"]


def test_whiskers_end_where_scores_do():
    axis = figures.bars({"one": {"A": scores(0.5, intervals={"f1@0.50": [-0.4, 1.7]})}}, "F1").axes[
        0
    ]
    assert [line.get_xdata().tolist() for line in axis.lines] == [[0.0, 1.0]]
    assert axis.texts[0].xy[0] == 1.0


def test_mistakes_are_counted_for_each_100_true_cells():
    groups = {"one": scores(0.5, mistakes={"missed": 20, "gained": 5}), "two": scores(0.5)}
    axis = figures.mistake_bars(groups, "Mistakes").axes[0]
    assert [bar.get_width() for bar in axis.patches] == [10, 2.5, 0, 0, 0, *[0] * 5]


def test_images_without_true_cells_are_not_drawn():
    images = [scores(0.5), scores(0.0) | {"n_true": 0}, scores(0.9) | {"n_true": 30}]
    line = lines_of(figures.f1_by_cells({"a": images}, "Images"))["a"]
    assert line.get_xydata().tolist() == [[200, 0.5], [30, 0.9]]
    bars = figures.f1_histogram({"a": images}, "Images").axes[0].patches[0].get_xy()
    assert {(round(x, 2), y) for x, y in bars if y} == {(0.5, 1), (0.55, 1), (0.9, 1), (0.95, 1)}


def test_svg_is_whole_and_takes_the_page_s_ink():
    figure = figures.bars({"one": {"<A&B>": scores(0.5)}}, "F1")
    svg = drawing.to_svg(figure, 'F1 "by" <type>')
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == 'F1 "by" <type>'
    assert root.get("width") is None
    assert "currentColor" in svg
    assert drawing.INK not in svg
    texts = ["".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")]
    assert "<A&B>" in texts
    used = {v for node in root.iter() for k, v in node.attrib.items() if k.endswith("href")}
    ids = [node.get("id") for node in root.iter() if node.get("id")]
    assert used <= {f"#{name}" for name in ids}


def test_the_same_numbers_give_the_same_svg():
    first, second = (
        drawing.to_svg(figures.curves({"a": HISTORY}, {"loss": "x"}, "Loss"), "x") for _ in range(2)
    )
    assert first == second


def test_the_reader_s_own_matplotlib_settings_are_left_alone():
    from matplotlib import rcParams

    before = dict(rcParams)
    with_svg = drawing.to_svg(figures.over_iou({"all": scores(0.8)}, "f1", "F1"), "x")
    assert with_svg
    assert dict(rcParams) == before


def test_figures_are_saved_by_their_suffix(tmp_path: Path):
    figure = figures.over_iou({"all": scores(0.8)}, "f1", "F1")
    drawing.save(figure, tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.width == round(4.6 * 300)
    drawing.save(figure, tmp_path / "f.svg")
    ElementTree.parse(tmp_path / "f.svg")
    with pytest.raises(ValueError, match=r"f\.gif: figures are written as"):
        drawing.save(figure, tmp_path / "f.gif")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.png", "f.svg"]


def test_reliability_draws_the_bins_that_hold_cells():
    bins = [
        {"low": 0.0, "high": 0.5, "n": 30, "confidence": 0.4, "right": 0.2},
        {"low": 0.5, "high": 1.0, "n": 0, "confidence": None, "right": None},
    ]
    figure = figures.reliability({"one": bins}, "Reliability")
    assert lines_of(figure)["one"].get_xydata().tolist() == [[0.4, 0.2]]
    assert figure.axes[0].collections[0].get_sizes().tolist() == [204]
