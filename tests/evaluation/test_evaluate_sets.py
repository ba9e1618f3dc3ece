"""Evaluation of whole sets: what may be given, what is written, and that the numbers are right."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as iio
import numpy as np
import pytest
from skimage.measure import label

import cellshed as cs
from cellshed.data.coco import coco_tree, labels_to_annotations, paint_image
from cellshed.data.coco_file import read_coco
from cellshed.data.images import read_labels, write_labels
from cellshed.data.prepare import prepare
from cellshed.evaluation import compare, evaluate, headline
from cellshed.evaluation.gallery import faded

NAMES = ("A172_Phase_A7_1_00d00h00m_1", "A172_Phase_A7_1_00d04h00m_2", "BV2_Phase_B4_2_01d00h00m_1")


def cells(seed, shape=(60, 80)):
    """True cells of 8x8 px on a grid; predicted ones with some missing, split, merged, extra."""
    rng = np.random.default_rng(seed)
    true = np.zeros(shape, np.int32)
    for k, (y, x) in enumerate((y, x) for y in range(2, 50, 14) for x in range(2, 70, 9)):
        true[y : y + 8, x : x + 8] = 3 * k + 5
    true[:, 70:] = 0
    pred = true.copy()
    pred[true == 5] = 0  # missed
    pred[(true == 8) & (np.arange(shape[1]) > 14)] = 400  # split in halves
    pred[true == 17] = 14  # merged with the one beside it
    pred[50:58, 72:78] = 401  # extra
    pred[np.isin(true, rng.choice(np.arange(29, 50, 3), 2, replace=False))] = 0
    pred[54:56, 2:4] = 402  # extra, and small
    return true, pred


def image_of(true, seed):
    return (true > 0) * 90 + np.random.default_rng(seed).integers(0, 60, true.shape)


@pytest.fixture
def sets(tmp_path):
    """Folders truth (images/, labels/) and pred."""
    for k, name in enumerate(NAMES):
        true, pred = cells(k)
        write_labels(tmp_path / "truth/labels" / f"{name}.tif", true)
        write_labels(tmp_path / "pred" / f"{name}.tif", pred)
        (tmp_path / "truth/images").mkdir(exist_ok=True)
        iio.imwrite(tmp_path / "truth/images" / f"{name}.png", image_of(true, k).astype(np.uint8))
    return tmp_path


def run(sets, truth="truth", pred="pred", **options):
    pred = sets / pred if isinstance(pred, str) else pred
    return evaluate(sets / truth, pred, sets / "out", **{"gallery": 0, **options})


def test_each_image_has_the_scores_of_its_labels(sets):
    results = run(sets)
    assert [image["name"] for image in results["images"]] == list(NAMES)
    for k, image in enumerate(results["images"]):
        true, pred = cells(k)
        assert {name: image[name] for name in cs.score(true, pred)} == cs.score(true, pred)
        assert image["mistakes"] == cs.mistakes(true, pred)
        assert (image["height"], image["width"]) == true.shape


def test_pooled_scores_are_ratios_of_sums(sets):
    results = run(sets)
    images = [image["thresholds"]["0.50"] for image in results["images"]]
    tp, fp, fn = (sum(image[name] for image in images) for name in ("tp", "fp", "fn"))
    pooled = results["pooled"]["thresholds"]["0.50"]
    assert pooled["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    low, high = results["pooled"]["intervals"]["f1@0.50"]
    assert low <= pooled["f1"] <= high
    # each image: one missed by design and two by chance; one split; one merge; two extra
    counts = results["pooled"]["mistakes"]
    wanted = {"missed": 9, "split": 3, "merge": 3, "gained": 6, "catastrophe": 0}
    assert {kind: counts[kind] for kind in wanted} == wanted


def test_cell_types_are_scored_apart(sets):
    results = run(sets)
    types = results["cell_types"]
    assert {name: scores["n_images"] for name, scores in types.items()} == {"A172": 2, "BV2": 1}
    assert types["A172"]["n_true"] + types["BV2"]["n_true"] == results["pooled"]["n_true"]
    assert types["BV2"]["intervals"] == {}  # a single image has none
    assert run(sets, cell_types=["bv2"])["pooled"]["n_true"] == types["BV2"]["n_true"]
    with pytest.raises(ValueError, match=r"cell type 'A127'; did you mean 'A172'\?"):
        run(sets, cell_types=["A127"])


def test_small_cells_are_left_out_below_the_stated_area(sets):
    results = run(sets, small=40)
    assert results["small"] == 40
    whole, without = results["pooled"], results["pooled"]["without_small"]
    # the extra cell of 4 px and the halves of the split cell, 32 px each, go
    assert without["n_true"] == whole["n_true"]
    assert without["n_pred"] == whole["n_pred"] - 9
    assert "without_small.f1@0.50" in whole["intervals"]


def test_files_hold_what_is_returned(sets):
    results = run(sets)
    assert json.loads((sets / "out/scores.json").read_text()) == results
    with (sets / "out/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["of"] for row in rows] == ["pooled", "cell type", "cell type", *["image"] * 3]
    pooled = results["pooled"]
    assert float(rows[0]["f1@0.50"]) == pooled["thresholds"]["0.50"]["f1"]
    assert float(rows[0]["f1@0.50.low"]) == pooled["intervals"]["f1@0.50"][0]
    assert float(rows[0]["coco.AP"]) == pooled["coco"]["AP"]
    assert float(rows[3]["pixel.iou"]) == results["images"][0]["pixel"]["iou"]
    assert int(rows[5]["mistakes.split"]) == 1
    assert rows[3]["coco.AP"] == ""
    assert {len(row) for row in rows} == {len(rows[0])}


@pytest.mark.parametrize(
    "name", ["{}.tif", "{}_cp_masks.png", "{}_masks.tif", "{}_label.npy", "labels/{}.tif"]
)
def test_label_files_of_other_tools_are_found(sets, name):
    for k, stem in enumerate(NAMES):
        path = sets / "other" / name.format(stem)
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = cells(k)[1]
        if path.suffix == ".npy":
            np.save(path, labels)
        elif path.suffix == ".png":
            iio.imwrite(path, labels.astype(np.uint16))
        else:
            write_labels(path, labels)
    assert run(sets, pred="other")["pooled"] == run(sets)["pooled"]


def test_labels_beside_their_images_are_told_from_them(sets):
    for name in NAMES:
        (sets / "pred" / f"{name}.tif").rename(sets / "pred" / f"{name}_cp_masks.tif")
        image = sets / "truth/images" / f"{name}.png"
        (sets / "pred" / image.name).write_bytes(image.read_bytes())
    assert run(sets)["pooled"]["mistakes"]["split"] == 3


def test_true_labels_without_images_can_be_scored_and_drawn(sets):
    results = run(sets, truth="truth/labels", gallery=1)
    drawn = iio.imread(sets / "out" / results["gallery"][0]["file"])
    assert (drawn == 128).all(axis=2).any()  # grey in place of the image
    assert results["images"] == run(sets)["images"]


def write_coco(path, **image):
    listed, annotations = [], []
    for k, name in enumerate(NAMES):
        true = cells(k)[0]
        size = {"height": true.shape[0], "width": true.shape[1]} | image
        listed.append({"id": k + 1, "file_name": f"{name}.png", **size})
        annotations += labels_to_annotations(true, k + 1, first_id=1000 * k + 1)
    path.write_text(json.dumps(coco_tree(listed, annotations)))


def test_coco_truth_scores_as_its_label_images_do(sets):
    write_coco(sets / "truth.json")
    assert run(sets, truth="truth.json")["pooled"] == run(sets)["pooled"]


def test_coco_truth_of_unstated_size_needs_the_images(sets):
    write_coco(sets / "truth.json", height=None, width=None)
    with pytest.raises(ValueError, match="has no height and width"):
        run(sets, truth="truth.json")
    found = run(sets, truth="truth.json", images=sets / "truth/images")
    assert found["pooled"] == run(sets)["pooled"]


def test_coco_ap_goes_by_whole_masks_where_annotations_overlap(tmp_path):
    under, over = np.zeros((2, 20, 30), np.int32)
    under[2:18, 2:22], over[4:16, 10:20] = 1, 1
    annotations = [
        *labels_to_annotations(under, 1),
        *labels_to_annotations(over, 1, first_id=2),
    ]
    image = {"id": 1, "file_name": "a.tif", "height": 20, "width": 30}
    (tmp_path / "truth.json").write_text(json.dumps(coco_tree([image], annotations)))
    write_labels(tmp_path / "pred/a.tif", under)
    results = evaluate(tmp_path / "truth.json", tmp_path / "pred", tmp_path / "out", gallery=0)
    at = results["pooled"]["thresholds"]
    # The label image shows 200 of the lower cell's 320 px: IoU 200 / 320.
    assert (at["0.60"]["tp"], at["0.65"]["tp"]) == (1, 0)
    assert results["pooled"]["coco"]["AR"] == pytest.approx(0.5)  # of the masks, one is perfect


@pytest.mark.parametrize("number", [None, 7], ids=["none", "one for all"])
def test_annotations_without_numbers_of_their_own_keep_their_areas(sets, number):
    """A cell of 8x8 pixels is small, by its own stated area, unless that is larger."""
    write_coco(sets / "truth.json")
    tree = json.loads((sets / "truth.json").read_text())
    expected = run(sets, truth="truth.json")["pooled"]["coco"]
    for annotation in tree["annotations"]:
        del annotation["id"]
        if number is not None:
            annotation["id"] = number
    tree["annotations"][0]["area"] = 5000  # the only large cell, and missed
    (sets / "truth.json").write_text(json.dumps(tree))
    found = run(sets, truth="truth.json")["pooled"]["coco"]
    assert found["AP"] == expected["AP"]
    assert expected["APl"] is None
    assert found["APl"] == 0
    assert found["ARs"] > expected["ARs"]


def test_store_truth_is_scored_by_split(sets):
    prepare(sets / "truth", sets / "store")
    for_all = run(sets, truth="store")  # a store that was not split is taken whole
    assert for_all["pooled"] == run(sets)["pooled"]
    assert for_all["split"] == "all"
    assert run(sets, truth="store", cell_types=["BV2"])["pooled"]["n_images"] == 1
    opened = cs.open_store(sets / "store")
    assert evaluate(opened, sets / "pred", sets / "out", gallery=0)["pooled"] == for_all["pooled"]


def test_store_without_the_split_names_those_it_has(sets):
    (sets / "sets/val").mkdir(parents=True)
    (sets / "truth").rename(sets / "sets/val/x")
    for kind in ("images", "labels"):
        (sets / "sets/val/x" / kind).rename(sets / "sets/val" / kind)
    prepare(sets / "sets", sets / "store")
    with pytest.raises(ValueError, match="no split 'test'"):
        run(sets, truth="store")
    assert run(sets, truth="store", split="val")["pooled"]["n_images"] == 3


def write_table(sets, confident):
    """Confidence 0.9 for true cells and 0.2 for extra ones, or the other way round."""
    with (sets / "pred/cells.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "area", "confidence"])
        for k, name in enumerate(NAMES):
            for label in np.unique(cells(k)[1])[1:]:
                right = label < 400
                table.writerow([f"{name}.png", label, 0, 0.9 if right == confident else 0.2])


def test_confidences_of_a_table_rank_the_cells(sets):
    write_table(sets, confident=True)
    good = run(sets)
    write_table(sets, confident=False)
    bad = run(sets)
    (sets / "pred/cells.csv").unlink()
    without = run(sets)
    assert good["pooled"]["coco"]["AP"] > bad["pooled"]["coco"]["AP"]
    assert good["pooled"]["coco"]["AR"] == bad["pooled"]["coco"]["AR"]
    assert good["confidence"].endswith("cells.csv")
    assert without["confidence"] == ""
    assert without["pooled"]["thresholds"] == good["pooled"]["thresholds"]


def test_confidences_of_a_coco_file_are_read_too(sets):
    images, annotations = [], []
    for k, name in enumerate(NAMES):
        pred = np.unique(cells(k)[1], return_inverse=True)[1].reshape(60, 80)
        write_labels(sets / "pred" / f"{name}.tif", pred)
        images.append({"id": k, "file_name": f"{name}.png", "height": 60, "width": 80})
        scores = np.linspace(0.9, 0.1, pred.max())
        annotations += labels_to_annotations(pred, k, scores)
    (sets / "pred/coco.json").write_text(json.dumps(coco_tree(images, annotations)))
    with_scores = run(sets)
    assert with_scores["confidence"].endswith("coco.json")
    (sets / "pred/coco.json").unlink()
    assert with_scores["pooled"]["coco"] != run(sets)["pooled"]["coco"]


@pytest.mark.parametrize("names", [("A1-img", "B1-img"), ("img", "B1-img")])
def test_images_of_one_name_are_told_apart_as_predict_has_them(tmp_path, names):
    """Each has a right cell, which is sure, and a wrong one; a mix-up would cost precision."""
    images, true, found = [], [], []
    for k, (name, right) in enumerate(zip(names, (1, 2), strict=True)):
        pred = np.zeros((20, 40), np.int32)
        pred[4:12, 4:12], pred[4:12, 24:32] = 1, 2
        write_labels(tmp_path / "pred/labels" / f"{name}.tif", pred)
        file = name.replace("-", "/") + ".tif"
        images.append({"id": k, "file_name": file, "height": 20, "width": 40})
        true += labels_to_annotations(np.where(pred == right, 1, 0), k)
        scores = np.where(np.arange(1, 3) == right, 0.9, 0.1)
        found += labels_to_annotations(pred, k, scores)
    (tmp_path / "truth.json").write_text(json.dumps(coco_tree(images, true)))
    (tmp_path / "pred/coco.json").write_text(json.dumps(coco_tree(images[::-1], found)))
    scored = run(tmp_path, truth="truth.json")
    assert scored["confidence"].endswith("coco.json")
    assert scored["pooled"]["coco"]["AP"] == 1


def test_a_stores_images_are_found_by_their_folder_too(tmp_path):
    """The first of two images of one name has the bare name in a store."""
    for folder, size in (("A1", 20), ("B1", 30)):
        labels = np.zeros((size, 40), np.int32)
        labels[4:12, 4:12] = 1
        write_labels(tmp_path / "set/labels" / folder / "img.tif", labels)
        write_labels(tmp_path / "set/images" / folder / "img.tif", labels * 9)
        write_labels(tmp_path / "pred" / f"{folder}-img.tif", labels)
    store = prepare(tmp_path / "set", tmp_path / "store")
    assert [record.name for record in store.records] == ["img", "B1-img"]
    assert run(tmp_path, truth="store")["pooled"]["thresholds"]["0.75"]["f1"] == 1


def test_ground_that_nobody_annotated_has_no_part_in_the_scores(sets):
    """The right side of one image is unknown: scores are those of its left side."""
    write_table(sets, confident=True)
    name = NAMES[0]
    true, pred = cells(0)
    assert not ((pred[:, 45] == pred[:, 46]) & (pred[:, 45] > 0)).any()  # no cell on both sides
    unknown, left = true.copy(), true.copy()
    unknown[:, 46:], left[:, 46:] = -1, 0
    write_labels(sets / "truth/labels" / f"{name}.tif", unknown)
    known = run(sets, gallery=2)
    write_labels(sets / "truth/labels" / f"{name}.tif", left)
    pred[:, 46:] = 0
    write_labels(sets / "pred" / f"{name}.tif", pred)
    alone = run(sets)
    for part in ("pooled", "cell_types", "images"):
        assert known[part] == alone[part]
    assert known["gallery"]


def test_ground_that_nobody_annotated_is_pale_in_pictures():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20  # its median is 110
    where = np.zeros((3, 4), bool)
    where[2] = True
    expected = image.copy()
    expected[2] = [122, 127, 132, 137]
    np.testing.assert_array_equal(faded(image, where), expected)
    np.testing.assert_array_equal(faded(image[:, :, None], where)[:, :, 0], expected)
    assert faded(image, ~where & where) is image


def test_a_table_without_confidences_is_as_none(sets):
    rows = "".join(f"{name},{label},\n" for name in NAMES for label in (1, 2))
    (sets / "pred/cells.csv").write_text("image,label,confidence\n" + rows)
    assert run(sets)["confidence"] == ""
    (sets / "pred/cells.csv").write_text("image,label,confidence\na,1,0.5\na,2,high\n")
    with pytest.raises(ValueError, match=r"cells.csv: line 3: label '2' and confidence 'high'"):
        run(sets)


def test_dots_in_names_are_kept(tmp_path):
    cell = np.pad(np.ones((4, 4), np.int32), 2)
    two = np.where(np.arange(8) < 4, cell, 2 * cell)
    for name in ("well.1", "well.2"):
        write_labels(tmp_path / "truth" / f"{name}.tif", cell)
        write_labels(tmp_path / "pred" / f"{name}.tif", two)
    lines = [f"well.{k},{label},{0.1 * label}" for k in (1, 2) for label in (1, 2)]
    (tmp_path / "pred/cells.csv").write_text("\n".join(["image,label,confidence", *lines]))
    assert run(tmp_path)["confidence"].endswith("cells.csv")


def test_a_table_of_other_labels_is_an_error(sets):
    write_table(sets, confident=True)
    write_labels(sets / "pred" / f"{NAMES[1]}.tif", cells(1)[1] + 1)
    with pytest.raises(ValueError, match=rf"cells.csv: no confidence for label 1 of {NAMES[1]}"):
        run(sets)


class Stand:
    """In a model's place: knows the prediction of each image."""

    card = SimpleNamespace(name="stand", model_dump=lambda mode: {"name": "stand"})

    def predict(self, image):
        for k in range(len(NAMES)):
            true, pred = cells(k)
            if np.array_equal(image, image_of(true, k)):
                labels = np.unique(pred, return_inverse=True)[1].reshape(pred.shape)
                confidence = np.linspace(1, 0, labels.max(), dtype=np.float32)
                return SimpleNamespace(labels=labels.astype(np.int32), confidence=confidence)
        raise AssertionError("an image that was not asked for")


@pytest.mark.parametrize("out", ["truth", "predicted", "pred", "truth/by/link"])
def test_a_models_labels_replace_nobodys(sets, out):
    folder = sets / out
    if out == "truth/by/link":
        (sets / "truth/by").mkdir()
        folder.symlink_to(sets / "truth")
    if out == "predicted":  # with scores of its own beside
        write_labels(folder / "labels/a.tif", cells(0)[1])
        for name in ("scores.json", "made_by.json"):
            (folder / name).write_text("{}")
    if out == "pred":  # labels of another tool, scored in their own folder
        (folder / "labels").mkdir()
        for path in folder.glob("*.tif"):
            path.rename(folder / "labels" / path.name)
        evaluate(sets / "truth", folder, folder, gallery=0)
    before = {path: path.read_bytes() for path in (folder / "labels").iterdir()}
    with pytest.raises(ValueError, match=r"labels holds label images .* choose another folder"):
        evaluate(sets / "truth", Stand(), folder, gallery=0)
    assert {path: path.read_bytes() for path in (folder / "labels").iterdir()} == before


def test_a_models_labels_replace_those_of_an_earlier_evaluation(sets):
    evaluate(sets / "truth", Stand(), sets / "out", gallery=0)
    write_labels(sets / "out/labels/old.tif", cells(0)[1])
    evaluate(sets / "truth", Stand(), sets / "out", gallery=0)
    assert {path.stem for path in (sets / "out/labels").iterdir()} == set(NAMES)


def test_labels_of_an_earlier_model_go_when_others_are_scored(sets):
    evaluate(sets / "truth", Stand(), sets / "out", gallery=0)
    run(sets, pred="out")  # its own labels, scored once more
    assert not list((sets / "out").glob(".*"))
    assert {path.stem for path in (sets / "out/labels").iterdir()} == set(NAMES)
    evaluate(sets / "truth", Stand(), sets / "other", gallery=0)
    evaluate(sets / "truth", sets / "pred", sets / "other", gallery=0)
    assert not (sets / "other/labels").exists()


def test_labels_of_an_evaluation_that_failed_do_not_replace_those_before(sets):
    evaluate(sets / "truth", Stand(), sets / "out", gallery=0)
    before = {path: path.read_bytes() for path in (sets / "out/labels").iterdir()}
    write_labels(sets / "truth/labels" / f"{NAMES[-1]}.tif", cells(0)[0][:30])  # another size
    with pytest.raises(ValueError, match="predicted labels are"):
        evaluate(sets / "truth", Stand(), sets / "out", gallery=0)
    assert {path: path.read_bytes() for path in (sets / "out/labels").iterdir()} == before


def test_predicted_labels_below_zero_are_told_with_their_image(sets):
    write_labels(sets / "pred" / f"{NAMES[1]}.tif", np.where(cells(1)[1] > 0, cells(1)[1], -1))
    with pytest.raises(ValueError, match=f"'{NAMES[1]}': predicted labels hold -1: ids must"):
        run(sets)


def test_a_model_is_scored_as_the_labels_it_writes(sets):
    results = run(sets, pred=Stand())
    assert results["model"] == {"name": "stand"}
    assert (results["pred"], results["confidence"]) == ("stand", "model")
    written = read_labels(sets / "out/labels" / f"{NAMES[0]}.tif")
    assert ((written > 0) == (cells(0)[1] > 0)).all()
    assert results["pooled"]["thresholds"] == run(sets)["pooled"]["thresholds"]


class Bright:
    """Stands in for a model: the bright patches of an image, each a cell."""

    def predict(self, image):
        labels = label(image > 127, connectivity=1).astype(np.int32)
        return SimpleNamespace(labels=labels, confidence=np.ones(labels.max(), np.float32))


@pytest.mark.parametrize(("scale", "factor"), [(2, 4), (0.5, 0.25), (1.5, 2.25)])
def test_images_and_cells_are_scored_at_another_scale(tmp_path, scale, factor):
    true = np.zeros((40, 60), np.int32)
    true[8:16, 8:20], true[24:32, 30:50] = 4, 9
    write_labels(tmp_path / "truth/labels/a.tif", true)
    (tmp_path / "truth/images").mkdir()
    iio.imwrite(tmp_path / "truth/images/a.png", ((true > 0) * 255).astype(np.uint8))
    found = run(tmp_path, pred=Bright(), scale=scale)
    assert found["scale"] == scale
    assert headline(found)[0].endswith(f"images and true cells enlarged {scale} times")
    assert found["images"][0]["height"] == 40 * scale
    assert found["pooled"]["thresholds"]["0.75"]["f1"] == 1
    written = read_labels(tmp_path / "out/labels/a.tif")
    assert np.bincount(written.ravel())[1:] == pytest.approx([96 * factor, 160 * factor], rel=0.05)


@pytest.mark.parametrize("side", ["truth/labels", "pred"])
def test_masks_of_all_cells_are_warned_of(sets, side):
    path = sets / side / f"{NAMES[1]}.tif"
    write_labels(path, (read_labels(path) > 0) * 255)
    with pytest.warns(UserWarning, match=rf"1 of 3 images is in pieces, first of '{NAMES[1]}'"):
        run(sets)


def test_one_whole_cell_is_no_mask(tmp_path, recwarn):
    one = np.zeros((20, 20), np.int32)
    one[4:9, 4:9] = 255
    for folder in ("truth", "pred"):
        write_labels(tmp_path / folder / "a.tif", one)
    run(tmp_path)
    assert not recwarn.list


def test_a_scale_is_for_models_and_within_reason(sets):
    with pytest.raises(ValueError, match=r"scale 2: .*holds labels already; only a model"):
        run(sets, scale=2)
    with pytest.raises(ValueError, match=r"scale 0: give a factor .* from 0\.125 to 8"):
        run(sets, pred=Stand(), scale=0)


def test_a_model_needs_images(sets):
    with pytest.raises(ValueError, match="3 of 3 images to segment are not at hand"):
        run(sets, truth="truth/labels", pred=Stand())
    found = run(sets, truth="truth/labels", pred=Stand(), images=sets / "truth/images")
    assert found["pooled"]["n_images"] == 3


def test_a_missing_prediction_is_named_and_earlier_results_stay(sets):
    run(sets)
    before = (sets / "out/scores.json").read_bytes()
    (sets / "pred" / f"{NAMES[2]}.tif").unlink()
    with pytest.raises(ValueError, match=f"no label image for 1 of 3 true images.*{NAMES[2]}"):
        run(sets)
    assert (sets / "out/scores.json").read_bytes() == before


def test_another_size_is_named(sets):
    write_labels(sets / "pred" / f"{NAMES[1]}.tif", np.ones((30, 40), np.int32))
    with pytest.raises(ValueError, match=f"'{NAMES[1]}': predicted labels are 30x40.*60x80"):
        run(sets)


def test_two_files_for_one_image_are_named(sets):
    np.save(sets / "pred" / f"{NAMES[0]}.npy", cells(0)[1])
    with pytest.raises(ValueError, match=rf"both {NAMES[0]}.npy and {NAMES[0]}.tif"):
        run(sets)


def test_what_is_no_truth_or_no_prediction_is_named(sets):
    (sets / "empty").mkdir()
    for truth, message in (("nowhere", "no such truth"), ("empty", "no label images in it")):
        with pytest.raises(ValueError, match=message):
            run(sets, truth=truth)
    with pytest.raises(ValueError, match="no such folder of predicted label images"):
        run(sets, pred="nowhere")
    with pytest.raises(ValueError, match=r"images .*nowhere: no such folder"):
        run(sets, images=sets / "nowhere")


def test_gallery_shows_images_and_the_worst_of_each_mistake(sets):
    results = run(sets, gallery=2)
    kinds = [entry["kind"] for entry in results["gallery"]]
    assert kinds == ["best"] * 2 + ["worst", *(k for k in ("missed", "extra", "split", "merge")
                                               for _ in range(2))]  # fmt: skip
    written = {f"gallery/{path.name}" for path in (sets / "out/gallery").iterdir()}
    assert written == {entry["file"] for entry in results["gallery"]}
    first = {entry["kind"]: entry for entry in reversed(results["gallery"])}
    assert first["missed"]["caption"].startswith("true cell of 64 px, 0% of it on predicted cells")
    assert first["extra"]["caption"].startswith("predicted cell of 48 px, 0% of it on true cells")
    assert first["split"]["caption"].startswith("1 true cell in 2 parts, at row 6, column 15")
    assert first["merge"]["caption"].startswith("2 true cells as one")
    assert iio.imread(sets / "out" / first["best"]["file"]).shape == (60, 80, 3)
    # both cell types have their turn
    split = {entry["image"][:3] for entry in results["gallery"] if entry["kind"] == "split"}
    assert split == {"A17", "BV2"}
    run(sets, gallery=0)
    assert list((sets / "out/gallery").iterdir()) == []


def test_headline_and_comparison(sets):
    first = run(sets)
    for k, name in enumerate(NAMES):
        write_labels(sets / "pred" / f"{name}.tif", cells(k)[0])
    second = run(sets)
    lines = headline(first)
    f1 = first["pooled"]["thresholds"]["0.50"]["f1"]
    assert lines[0].startswith("3 images, 96 true cells")
    assert f"object F1 at IoU 0.5: {f1:.3f} [" in lines[1]
    assert "9 missed, 6 extra, 3 splits, 3 merges, 0 catastrophes" in lines[4]
    difference = compare(first, second)["f1@0.50"]
    assert difference["value"] == pytest.approx(1 - f1)
    assert 0 < difference["low"] <= difference["value"] <= difference["high"]
    with pytest.raises(ValueError, match="0 images in common"):
        compare(first, second | {"images": []})
    larger = [image | {"height": 2 * image["height"]} for image in second["images"]]
    with pytest.raises(ValueError, match="0 images in common"):
        compare(first, second | {"images": larger})


def test_images_without_cells_leave_no_gap(tmp_path):
    blank, cell = np.zeros((2, 20, 20), np.int32)
    cell[4:9, 4:9] = 1
    for name, true, pred in (("a", blank, blank), ("b", blank, cell), ("c", cell, cell)):
        write_labels(tmp_path / "truth" / f"{name}.tif", true)
        write_labels(tmp_path / "pred" / f"{name}.tif", pred)
    results = run(tmp_path, gallery=2)
    assert results["images"][0]["mean_ap"] is None
    at = results["pooled"]["thresholds"]["0.50"]
    assert (at["tp"], at["fp"], at["fn"]) == (1, 1, 0)
    assert "Infinity" not in (tmp_path / "out/scores.json").read_text()
    assert headline(results)[0] == "3 images, 1 true cell, 2 predicted"


def test_progress_counts_images(sets):
    seen = []
    run(sets, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_evaluation_needs_no_torch():
    code = "import sys, cellshed.evaluation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["livecell-mini", "sartorius"])
def test_painted_truth_of_real_sets_is_perfect(data, tmp_path, name):
    for image in read_coco(data / name / "annotations/LIVECell/livecell_coco_test.json").images:
        labels = paint_image(image, (image.height, image.width)).labels
        write_labels(tmp_path / "pred" / f"{Path(image.file_name).stem}.tif", labels)
    results = evaluate(data / name, tmp_path / "pred", tmp_path / "out", gallery=1)
    pooled = results["pooled"]
    assert pooled["mean_ap"] == pooled["pq"] == pooled["aji"] == pooled["pixel"]["iou"] == 1
    assert pooled["mistakes"]["correct"] == pooled["n_true"] > 1000
    assert len(results["cell_types"]) >= 3
    # COCO's AP goes by the whole masks: overlaps are flattened in sartorius alone
    assert (pooled["coco"]["AP"] == pytest.approx(1)) == (name == "sartorius")
    assert [entry["kind"] for entry in results["gallery"]] == ["best", "worst"]
