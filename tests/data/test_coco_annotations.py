"""COCO annotations are painted as pycocotools draws them, and written as it encodes them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from cellshed.data.coco import (
    CocoImage,
    labels_to_annotations,
    paint_image,
    read_coco,
)
from cellshed.data.painting import Painted
from cellshed.data.store import NOT_ANNOTATED

SQUARE = [2, 1, 6, 1, 6, 4, 2, 4]  # columns 2-5 of rows 1-3
H, W = 8, 10


def write(
    folder: Path, annotations: list[Any] | dict[str, Any], images: list[Any] | None = None
) -> Path:
    path = folder / "annotations.json"
    default = [{"id": 1, "file_name": "a.tif", "height": H, "width": W}]
    tree = {"images": default if images is None else images, "annotations": annotations}
    path.write_text(json.dumps(tree))
    return path


def entry(number: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 1, "segmentation": segmentation, **more}


def painted(folder: Path, annotations: list[Any], overlap: str = "smaller-on-top") -> Painted:
    image = read_coco(write(folder, annotations)).images[0]
    return paint_image(image, (H, W), overlap=overlap)


def reasons(result: Painted) -> dict[int | str, str]:
    return {problem.annotation: problem.reason for problem in result.problems}


def test_polygon_covers_the_pixels_worked_out_by_hand(tmp_path: Path) -> None:
    result = painted(tmp_path, [entry(0, [SQUARE])])
    expected = np.zeros((H, W), np.int32)
    expected[1:4, 2:6] = 1
    np.testing.assert_array_equal(result.labels, expected)
    assert result.ids == (0,)  # an id of 0 is a cell like any other
    assert result.labels.dtype == np.int32


def test_all_forms_of_one_mask_paint_the_same(tmp_path: Path) -> None:
    mask = np.zeros((H, W), np.uint8, order="F")
    mask[1:4, 2:6] = 1
    compressed = coco_mask.encode(mask)
    counts = [17, 3, 5, 3, 5, 3, 5, 3, 36]  # down the columns, background first
    forms = [
        [SQUARE],
        [[2, 1, 4, 1, 4, 4, 2, 4], [4, 1, 6, 1, 6, 4, 4, 4]],
        SQUARE,
        {"size": [H, W], "counts": counts},
        {"size": [H, W], "counts": counts[:-1]},
        {"size": [H, W], "counts": compressed["counts"].decode()},
    ]
    for form in forms:
        np.testing.assert_array_equal(painted(tmp_path, [entry(5, form)]).labels, mask)


def test_parts_of_one_cell_share_a_label(tmp_path: Path) -> None:
    result = painted(tmp_path, [entry(3, [[0, 0, 2, 0, 2, 2, 0, 2], [6, 5, 9, 5, 9, 7, 6, 7]])])
    assert set(np.unique(result.labels)) == {0, 1}
    assert result.labels[0, 0] == result.labels[6, 7] == 1
    assert (result.labels > 0).sum() == 4 + 6


def test_whatever_is_not_painted_is_listed_with_its_reason(tmp_path: Path) -> None:
    whole = {"size": [H, W], "counts": [0, H * W]}
    result = painted(
        tmp_path,
        [
            entry(1, [SQUARE]),
            entry(2, []),
            entry(3, [[1, 1, 2, 2]]),
            entry(4, [[1, 1, 2, 2, 3]]),
            entry(5, None),
            entry(6, whole, iscrowd=1),
            entry(7, [[50, 50, 60, 50, 60, 60]]),
            entry(8, [[3, 3, 3, 3, 3, 3]]),
            entry(9, [[0, 0, 1e12, 0, 5, 5]]),
            entry(10, [[0, 0, float("nan"), 0, 5, 5]]),
            entry(11, {"size": [H, W], "counts": [0, H * W + 1]}),
            entry(12, {"size": [H, W], "counts": [5, -2, 9]}),
            entry(13, {"size": [H, W], "counts": "not a mask"}),
            entry(14, {"size": [H, W], "counts": ""}),
            entry(15, {"counts": [1, 2]}),
            entry(16, [SQUARE]),
            entry(17, [SQUARE, [1, 1]]),
            entry(18, [["a", "b", 1, 2, 3, 4]]),
        ],
    )
    found = reasons(result)
    short = "no polygon with 3 points or more"
    assert result.ids == (1,)
    assert {key: found[key] for key in (2, 3, 4, 18)} == dict.fromkeys((2, 3, 4, 18), short)
    assert found[5] == found[15] == "no segmentation, or not one in COCO's form"
    assert found[6] == "a crowd, not a single cell; its ground counts as not annotated"
    assert found[7] == found[8] == "covers no pixel of the image"
    assert found[9] == found[10] == "a polygon's points are no numbers nearby"
    assert found[11] == found[12] == found[13] == "its run lengths do not fit the image"
    assert found[14] == "its run-length mask is empty"
    assert found[16] == "same mask as annotation 1"
    assert found[17] == "same mask as annotation 1"  # the last reason of the two it has
    assert set(found) == set(range(2, 19))


def test_ground_of_a_crowd_is_not_annotated_but_for_cells(tmp_path: Path) -> None:
    runs = [0, 4, *[H - 4, 4] * (W - 1), H - 4]  # the first four pixels of each column
    upper = {"size": [H, W], "counts": runs}
    result = painted(tmp_path, [entry(1, [SQUARE]), entry(2, upper, iscrowd=1)])
    alone = painted(tmp_path, [entry(1, [SQUARE])]).labels
    expected = np.where((np.arange(H)[:, None] < 4) & (alone == 0), NOT_ANNOTATED, alone)
    np.testing.assert_array_equal(result.labels, expected)
    assert (expected == NOT_ANNOTATED).any()


def test_part_that_cannot_be_drawn_is_listed_though_the_cell_is_painted(tmp_path: Path) -> None:
    result = painted(tmp_path, [entry(4, [SQUARE, [1, 1]])])
    assert result.ids == (4,)
    (problem,) = result.problems
    assert problem.painted
    assert problem.reason == "1 of its 2 parts left out: no polygon with 3 points or more"


LARGE = [0, 0, 10, 0, 10, 8, 0, 8]  # the whole image, 80 px
SMALL = [1, 1, 4, 1, 4, 4, 1, 4]  # 9 px within it


@pytest.mark.parametrize(
    ("overlap", "order", "expected"),
    [
        ("smaller-on-top", ["small", "large"], {"small": 9, "large": 71}),
        ("smaller-on-top", ["large", "small"], {"small": 9, "large": 71}),
        ("later-on-top", ["large", "small"], {"small": 9, "large": 71}),
        ("later-on-top", ["small", "large"], {"large": 80}),
        ("drop-covered", ["small", "large"], {"small": 9, "large": 71}),
    ],
)
def test_overlap_rules(
    tmp_path: Path, overlap: str, order: list[str], expected: dict[str, int]
) -> None:
    polygons = {"small": SMALL, "large": LARGE}
    result = painted(
        tmp_path, [entry(n, [polygons[name]]) for n, name in enumerate(order)], overlap
    )
    areas = np.bincount(result.labels.ravel())[1:]
    names = [order[int(number)] for number in result.ids]
    assert dict(zip(names, areas.tolist(), strict=True)) == expected
    assert result.overlapping_pixels == 9
    hidden = set(order) - set(expected)
    assert [p.reason for p in result.problems] == ["entirely covered by other annotations"] * len(
        hidden
    )


def test_drop_covered_leaves_out_an_outline_around_a_cluster(tmp_path: Path) -> None:
    left, right = [0, 0, 5, 0, 5, 8, 0, 8], [5, 0, 9, 0, 9, 8, 5, 8]
    result = painted(tmp_path, [entry(1, [LARGE]), entry(2, [left]), entry(3, [right])])
    assert result.ids == (1, 2, 3)  # smaller-on-top keeps the last column of the outline
    result = painted(
        tmp_path, [entry(1, [LARGE]), entry(2, [left]), entry(3, [right])], "drop-covered"
    )
    assert result.ids == (2, 3)
    assert reasons(result) == {1: "more than 75% covered by smaller annotations"}


def test_of_equal_cells_the_later_lies_on_top(tmp_path: Path) -> None:
    first, second = [0, 0, 4, 0, 4, 4, 0, 4], [2, 0, 6, 0, 6, 4, 2, 4]
    result = painted(tmp_path, [entry(9, [first]), entry(2, [second])])
    assert result.ids == (9, 2)
    assert result.labels[0].tolist() == [1, 1, 2, 2, 2, 2, 0, 0, 0, 0]
    assert result.overlapping_pixels == 8


def test_unknown_rule_offers_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'later-on-top'"):
        painted(tmp_path, [entry(1, [SQUARE])], "last-on-top")


polygons_near_image = st.lists(
    st.lists(
        st.tuples(st.floats(-5, 45, allow_nan=False), st.floats(-5, 35, allow_nan=False)),
        min_size=3,
        max_size=9,
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools
@settings(max_examples=60, deadline=None)
@given(st.lists(polygons_near_image, min_size=1, max_size=6), st.booleans())
def test_masks_are_those_of_pycocotools(cells: list[Any], rounded: bool) -> None:
    shape = (31, 40)
    digits = 2 if rounded else 17
    annotations = [
        [[round(float(number), digits) for point in part for number in point] for part in cell]
        for cell in cells
    ]
    masks = np.array([_reference_mask(cell, shape) for cell in annotations])
    tree = [{"id": n, "image_id": 1, "segmentation": cell} for n, cell in enumerate(annotations)]
    result = paint_image(_parse(tree), shape)
    expected = np.full(shape, -1)
    for number in np.argsort(-masks.sum(axis=(1, 2)), kind="stable"):
        expected[masks[number]] = number
    ids = np.array([-1, *result.ids])
    shown = ids[result.labels]
    # Two equal masks: the first is kept, the reference shows the second.
    np.testing.assert_array_equal(masks[expected] & (expected >= 0), masks[shown] & (shown >= 0))
    assert set(result.ids) | {p.annotation for p in result.problems} == set(range(len(cells)))


def _reference_mask(cell: list[list[float]], shape: tuple[int, int]) -> np.ndarray:
    mask: np.ndarray = coco_mask.decode([coco_mask.merge(coco_mask.frPyObjects(cell, *shape))])
    return mask[..., 0] > 0


def _parse(annotations: list[dict[str, Any]]) -> CocoImage:
    from cellshed.data.coco_file import parse_coco

    image = {"id": 1, "file_name": "a.tif"}
    text = json.dumps({"images": [image], "annotations": annotations})
    return parse_coco(text, Path("a.json")).images[0]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_labels_come_back_from_their_annotations(h: int, w: int, n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = np.kron(random.integers(0, n + 1, (h, w)), np.ones((2, 3), int)).astype(np.uint16)
    annotations = labels_to_annotations(labels, 7, first_id=11)
    values = np.unique(labels[labels > 0])
    assert [a["id"] for a in annotations] == list(range(11, 11 + len(values)))
    for value, annotation in zip(values, annotations, strict=True):
        expected = coco_mask.encode(np.asfortranarray(labels == value).astype(np.uint8))
        assert annotation["segmentation"]["counts"] == expected["counts"].decode()
        assert annotation["area"] == coco_mask.area(expected)
        assert annotation["bbox"] == coco_mask.toBbox(expected).tolist()
    again = paint_image(_parse([{**a, "image_id": 1} for a in annotations]), labels.shape)
    np.testing.assert_array_equal(np.array([0, *values])[again.labels], labels)


def test_written_annotations_are_json_with_scores_of_their_labels() -> None:
    labels = np.array([[0, 5, 5], [9, 9, 0]])
    annotations = json.loads(json.dumps(labels_to_annotations(labels, "x", [0.25, 0.5])))
    assert [(a["area"], a["bbox"], a["score"], a["iscrowd"]) for a in annotations] == [
        (2, [1, 0, 2, 1], 0.25, 0),
        (2, [0, 1, 2, 1], 0.5, 0),
    ]
    assert labels_to_annotations(np.zeros((3, 3), int), 1, []) == []
    with pytest.raises(ValueError, match="1 scores for 2 labels"):
        labels_to_annotations(labels, 1, [0.5])


def test_annotations_of_no_image_are_listed(tmp_path: Path) -> None:
    stray = {"id": 4, "image_id": 99, "segmentation": [SQUARE]}
    coco = read_coco(write(tmp_path, [entry(1, [SQUARE]), stray, {"id": 5}, 17]))
    assert [a.id for a in coco.images[0].annotations] == [1]
    assert [(p.annotation, p.reason) for p in coco.problems] == [
        (4, "no image with id 99"),
        ("entry 2", "no 'image_id'"),
        ("entry 3", "no 'image_id'"),
    ]


def test_image_listed_twice_keeps_the_fuller_set(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": "a.tif"} for n in (1, 2)]
    annotations = [{"id": n, "image_id": i, "segmentation": [SQUARE]} for n, i in
                   ((10, 1), (11, 2), (12, 2))]  # fmt: skip
    coco = read_coco(write(tmp_path, annotations, images))
    assert [(i.id, [a.id for a in i.annotations]) for i in coco.images] == [(2, [11, 12])]
    assert [(d.image, d.kept, d.dropped) for d in coco.duplicates] == [("a.tif", 2, 1)]
    assert [p.annotation for p in coco.problems] == [10]


def test_categories_taken_for_one_are_a_problem(tmp_path: Path) -> None:
    listed = [entry(n, [SQUARE], category_id=c) for n, c in enumerate((7, 7, 3, "x"))]
    path = write(tmp_path, listed)
    tree = json.loads(path.read_text())
    tree["categories"] = [{"id": 0, "name": "all"}, {"id": 7, "name": "cell"}, {"id": 3}, "?"]
    path.write_text(json.dumps(tree))
    (problem,) = read_coco(path).problems
    assert problem.painted
    assert "annotations of 3 categories are all painted as cells: cell (2)" in problem.reason
    assert "3 (1)" in problem.reason  # it has no name
    assert "x (1)" in problem.reason


def test_one_category_with_cells_is_no_problem(tmp_path: Path) -> None:
    listed = [entry(1, [SQUARE], category_id=7), entry(2, [LARGE], category_id=7)]
    crowd = entry(3, [SQUARE], category_id=8, iscrowd=1)
    assert read_coco(write(tmp_path, [*listed, crowd])).problems == ()
    assert read_coco(write(tmp_path, [entry(1, [SQUARE]), entry(2, [LARGE])])).problems == ()


def test_annotations_numbered_by_keys_are_read(tmp_path: Path) -> None:
    coco = read_coco(write(tmp_path, {"0": entry(1, [SQUARE]), "1": entry(2, [LARGE])}))
    assert [a.id for a in coco.images[0].annotations] == [1, 2]


def test_empty_annotation_list_is_an_image_without_cells(tmp_path: Path) -> None:
    result = painted(tmp_path, [])
    assert result.ids == ()
    assert not result.labels.any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [{"id": 1, "file_na', "not whole as JSON \\(line 1\\)"),
        ("", "not whole as JSON"),
        ("[" * 100_000, "not whole as JSON"),
        ("[1, 2]", "no list 'images'"),
        ('{"images": [], "annotations": []}', "list of images is empty"),
        ('{"images": [{"id": 1, "file_name": "a"}]}', "no list 'annotations'"),
        ('{"images": [{"id": 1}], "annotations": []}', "entry 0 of 'images'"),
        (
            '{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], '
            '"annotations": []}',
            "images a and b have the same id 1",
        ),
    ],
)
def test_bad_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_coco(path)
    assert "bad.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_binary_or_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00\x9c")
    with pytest.raises(ValueError, match=r"x\.json: not readable as text"):
        read_coco(tmp_path / "x.json")
    with pytest.raises(ValueError, match="no such file"):
        read_coco(tmp_path / "y.json")


def test_size_that_differs_from_the_image_is_named(tmp_path: Path) -> None:
    image = read_coco(write(tmp_path, [entry(1, [SQUARE])])).images[0]
    with pytest.raises(ValueError, match=r"image a\.tif is 9x10, its annotations are for 8x10"):
        paint_image(image, (9, 10))
    other = {"size": [H, W + 1], "counts": [3, 4]}
    with pytest.raises(ValueError, match=r"annotation 6 of image a\.tif is a mask of 8x11"):
        painted(tmp_path, [entry(6, other)])
