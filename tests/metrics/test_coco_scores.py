"""AP and AR against pycocotools' own COCOeval, and by hand."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cellshed.data.coco import image_masks, labels_to_annotations, paint_image
from cellshed.data.coco_file import read_coco
from cellshed.metrics.coco import (
    AREAS,
    Matches,
    coco_intervals,
    coco_scores,
    match_labels,
    match_masks,
    overlap_masks,
)


def random_cells(seed, shape=(90, 110), n=40, radius=(2, 18)):
    """Masks (n, H, W) of discs that overlap each other."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: shape[0], : shape[1]]
    r = rng.uniform(*radius, n)
    cy, cx = rng.uniform(0, shape[0], n), rng.uniform(0, shape[1], n)
    masks = (y - cy[:, None, None]) ** 2 + (x - cx[:, None, None]) ** 2 <= r[:, None, None] ** 2
    return masks[masks.any(axis=(1, 2))]


def paint(masks):
    labels = np.zeros(masks.shape[1:], np.int32)
    for k, mask in enumerate(masks):
        labels[mask] = 3 * k + 2
    return labels


def disturb(masks, seed):
    rng = np.random.default_rng(seed)
    kept = masks[rng.random(len(masks)) < 0.85]
    moved = [np.roll(mask, rng.integers(-2, 3, 2), (0, 1)) for mask in kept]
    return np.concatenate([moved, random_cells(seed + 100, masks.shape[1:], 4)])


def encode(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


def coco_eval(truth, pred):
    """COCOeval over images: truth lists of masks, pred lists of (mask, score)."""
    shape = truth[0].shape[1:]
    images = [{"id": k + 1, "height": shape[0], "width": shape[1]} for k in range(len(truth))]
    cells, guesses = [], []
    for image, (masks, guessed) in enumerate(zip(truth, pred, strict=True), start=1):
        for mask in masks:
            rle = encode(mask)
            cells.append({
                "id": len(cells) + 1, "image_id": image, "category_id": 1, "iscrowd": 0,
                "segmentation": rle, "area": float(mask.sum()), "bbox": list(coco_mask.toBbox(rle)),
            })  # fmt: skip
        guesses += [
            {"image_id": image, "category_id": 1, "segmentation": encode(mask), "score": score}
            for mask, score in guessed
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": cells, "categories": [{"id": 1}]}
        coco.createIndex()
        return run_coco_eval(coco, guesses, [image["id"] for image in images])


def run_coco_eval(coco, results, image_ids):
    run = COCOeval(coco, coco.loadRes(results), "segm")
    run.params.imgIds = image_ids
    run.params.maxDets = [100, 500, 2000]
    run.params.areaRng = [list(pair) for pair in AREAS.values()]
    run.params.areaRngLbl = ["all", "small", "medium", "large"]
    run.evaluate()
    run.accumulate()
    return run.eval


def mean(values):
    return None if (values < 0).all() else values[values >= 0].mean()


def expected_scores(result):
    precision, recall = result["precision"][:, :, 0], result["recall"][:, 0]
    wanted = {
        f"{name}{suffix}": mean(values[..., k, 2])
        for k, suffix in enumerate(AREAS)
        for name, values in (("AP", precision), ("AR", recall))
    }
    wanted |= {"AP50": mean(precision[0, :, 0, 2]), "AP75": mean(precision[5, :, 0, 2])}
    for k, limit in enumerate((100, 500)):
        wanted |= {f"AP@{limit}": mean(precision[..., 0, k]), f"AR@{limit}": mean(recall[:, 0, k])}
    return wanted


def assert_equal_scores(ours, wanted):
    for name, value in wanted.items():
        assert ours[name] == (None if value is None else pytest.approx(value, abs=1e-12)), name


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decimals", [1, 6])
def test_overlapping_truth_equals_cocoeval(seed, decimals):
    truth = [random_cells(10 * seed + k) for k in range(3)]
    images, guessed = [], []
    for k, masks in enumerate(truth):
        labels = paint(disturb(masks, seed + k))
        values = np.unique(labels)[1:]
        confidence = np.random.default_rng(k).random(len(values)).round(decimals)  # 1: many tie
        guessed.append([(labels == v, s) for v, s in zip(values, confidence, strict=True)])
        images.append(match_masks([encode(mask)["counts"] for mask in masks], labels, confidence))
    assert_equal_scores(coco_scores(images), expected_scores(coco_eval(truth, guessed)))


def test_label_truth_equals_cocoeval():
    labels = [paint(random_cells(k)) for k in range(2)]
    preds = [paint(disturb(random_cells(k), k)) for k in range(2)]
    truth = [np.array([image == v for v in np.unique(image)[1:]]) for image in labels]
    guessed = [[(image == v, 1.0) for v in np.unique(image)[1:]] for image in preds]
    ours = coco_scores([match_labels(t, p) for t, p in zip(labels, preds, strict=True)])
    assert_equal_scores(ours, expected_scores(coco_eval(truth, guessed)))


def test_the_more_confident_of_two_rivals_is_the_hit():
    true = np.zeros((10, 40), np.int32)
    true[:, :20] = 1
    pred = np.zeros_like(true)
    pred[:, :19], pred[:, 30:] = 1, 2
    right_first = coco_scores([match_labels(true, pred, np.array([0.9, 0.1]))])
    wrong_first = coco_scores([match_labels(true, pred, np.array([0.1, 0.9]))])
    assert right_first["AP50"] == pytest.approx(1)
    assert wrong_first["AP50"] == pytest.approx(0.5)
    assert right_first["AR"] == pytest.approx(1)  # an IoU of 19 / 20 passes every threshold
    assert right_first["AFNR"] == pytest.approx(0)


def test_without_true_cells_everything_is_undefined():
    empty, cell = np.zeros((8, 8), np.int32), np.eye(8, dtype=np.int32)
    assert set(coco_scores([match_labels(empty, cell)]).values()) == {None}
    assert set(coco_scores([match_labels(empty, empty)]).values()) == {None}
    assert coco_intervals([match_labels(empty, cell)] * 2) == {}


def test_without_predicted_cells_nothing_is_found():
    scores = coco_scores([match_labels(np.eye(8, dtype=np.int32), np.zeros((8, 8), np.int32))])
    assert (scores["AP"], scores["AR"], scores["AFNR"]) == (0, 0, 1)
    assert (scores["APs"], scores["APl"]) == (0, None)


def test_stated_areas_decide_the_range():
    true = np.zeros((20, 20), np.int32)
    true[:18, :18] = 1  # 324 px: both small and medium
    masks = [encode(true == 1)["counts"]]
    assert match_masks(masks, true).n_true.tolist() == [1, 1, 1, 0]
    assert match_masks(masks, true, areas=[323.5]).n_true.tolist() == [1, 1, 0, 0]
    assert match_masks(masks, true, areas=[None]).n_true.tolist() == [1, 1, 1, 0]


def test_overlap_with_masks_counts_shared_pixels_of_both():
    masks = np.zeros((2, 6, 6), bool)
    masks[0, :4, :4], masks[1, 2:, 2:] = True, True
    pred = np.zeros((6, 6), np.int32)
    pred[:3], pred[3:] = 7, 4
    table = overlap_masks([encode(mask)["counts"] for mask in masks], pred)
    found = {
        (int(r), int(table.pred_ids[c])): int(p)
        for r, c, p in zip(table.rows, table.cols, table.pixels, strict=True)
    }
    assert found == {(0, 7): 12, (0, 4): 4, (1, 7): 4, (1, 4): 12}
    assert table.true_areas.tolist() == [16, 16]
    assert table.pred_areas.tolist() == [18, 18]


def test_one_confidence_is_needed_for_each_cell():
    with pytest.raises(ValueError, match="1 confidences for 2 cells"):
        match_labels(np.eye(2, dtype=np.int32), np.array([[1, 2]] * 2), np.array([0.5]))


def test_intervals_of_equal_images_have_no_width():
    true, pred = paint(random_cells(9)), paint(disturb(random_cells(9), 1))
    n = len(np.unique(pred)) - 1
    image = match_labels(true, pred, np.random.default_rng(0).permutation(n) / n)
    alone = coco_scores([image])
    ends = coco_intervals([image] * 3, resamples=10)
    assert ends["coco.AP"] == pytest.approx([alone["AP"]] * 2)
    assert ends["coco.AFNR"] == pytest.approx([alone["AFNR"]] * 2)


def test_intervals_lie_between_the_worst_and_the_best_image():
    pairs = [(random_cells(k), disturb(random_cells(k), k)) for k in range(4)]
    images = [match_labels(paint(a), paint(b if k else a)) for k, (a, b) in enumerate(pairs)]
    low, high = coco_intervals(images, resamples=100)["coco.AR"]
    alone = [coco_scores([image])["AR"] for image in images]
    assert min(alone) < low < coco_scores(images)["AR"] < high <= max(alone)


def test_matches_are_limited_to_the_most_confident(monkeypatch):
    monkeypatch.setattr("cellshed.metrics.coco.MAX_CELLS", 2)
    labels = np.arange(1, 5, dtype=np.int32).reshape(2, 2)
    matches = match_labels(labels, labels, np.array([0.1, 0.8, 0.2, 0.9]))
    assert isinstance(matches, Matches)
    assert matches.scores.tolist() == [0.9, 0.8]
    assert matches.matched.shape == (4, 10, 2)
    assert coco_scores([matches])["AR"] == pytest.approx(0.5)


@pytest.mark.realdata
def test_annotations_of_livecell_equal_cocoeval(data):
    path = data / "livecell-mini/annotations/LIVECell/livecell_coco_test.json"
    images = sorted(read_coco(path).images, key=lambda image: image.id)  # COCOeval's order
    images = [image for image in images if len(image.annotations) < 200]
    ours, results = [], []
    for image in images:
        labels = np.roll(paint_image(image, (image.height, image.width)).labels, (1, 2), (0, 1))
        confidence = np.random.default_rng(image.id).random(labels.max()).round(3)
        masks, _ = image_masks(image, labels.shape)
        counts, areas = [mask.counts for mask in masks], [mask.area for mask in masks]
        ours.append(match_masks(counts, labels, confidence, areas))
        results += labels_to_annotations(labels, image.id, confidence)
    for result in results:
        del result["bbox"]  # else COCOeval takes the box's area for the cell's
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
        evaluated = run_coco_eval(coco, results, [image.id for image in images])
    assert_equal_scores(coco_scores(ours), expected_scores(evaluated))
