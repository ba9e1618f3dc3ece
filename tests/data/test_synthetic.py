import hashlib
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage

from cellshed.data.coco import paint_image, read_coco
from cellshed.data.livecell import annotation_file, index_images, parse_name
from cellshed.data.synthetic import MORPHOLOGIES, synthetic_field, write_synthetic
from cellshed.data.synthetic.optics import phase_contrast
from cellshed.data.synthetic.outlines import outlines, whole_cells

SHAPE = (160, 200)
EVERY = pytest.mark.parametrize("morphology", MORPHOLOGIES)


@EVERY
def test_a_seed_always_gives_the_same_field_and_another_seed_another(morphology):
    image, labels = synthetic_field(7, morphology, SHAPE)
    again, same = synthetic_field(7, morphology, SHAPE)
    other, _ = synthetic_field(8, morphology, SHAPE)
    assert np.array_equal(image, again)
    assert np.array_equal(labels, same)
    assert not np.array_equal(image, other)


@EVERY
def test_labels_are_numbered_and_each_is_one_piece_without_holes(morphology):
    image, labels = synthetic_field(3, morphology, SHAPE)
    assert (image.dtype, labels.dtype) == (np.uint8, np.int32)
    assert image.shape == labels.shape == SHAPE
    assert np.array_equal(np.unique(labels[labels > 0]), np.arange(1, labels.max() + 1))
    for k, box in enumerate(ndimage.find_objects(labels), start=1):
        cell = np.pad(labels[box] == k, 1)
        assert ndimage.label(cell)[1] == 1
        assert ndimage.label(~cell, np.ones((3, 3)))[1] == 1


@pytest.mark.parametrize("morphology", [n for n, m in MORPHOLOGIES.items() if not m.glow[1]])
def test_rims_are_dark_within_and_bright_without(morphology):
    image, labels = synthetic_field(5, morphology, (260, 340), density=0.3)
    cells = labels > 0
    grey = np.median(image[ndimage.distance_transform_edt(~cells) > 12])
    within = cells & (ndimage.distance_transform_edt(cells) <= 2)
    without = ~cells & (ndimage.distance_transform_edt(~cells) <= 2)
    assert image[within].mean() < grey - 1
    assert image[without].mean() > grey + 1


@EVERY
def test_the_denser_the_more_is_covered(morphology):
    covered = [
        np.mean([(synthetic_field(s, morphology, SHAPE, d)[1] > 0).mean() for s in range(2)])
        for d in (0.05, 0.25, 0.7)
    ]
    assert covered == sorted(covered)
    assert covered[0] < 0.2
    assert covered[2] > (0.08 if MORPHOLOGIES[morphology].bare else 0.35)


def test_bright_cells_are_brighter_than_the_field_and_darker_towards_the_rim():
    image, labels = synthetic_field(5, "bright", (260, 340), density=0.2)
    depth = ndimage.distance_transform_edt(labels > 0)
    field = np.median(image[labels == 0])
    rim, middle = image[depth == 1].mean(), image[depth > 2].mean()
    assert field + 5 < rim < middle - 10


def test_processes_of_neurons_are_drawn_but_have_no_label():
    image, labels = synthetic_field(4, "neuron", (260, 340), density=0.3)
    filled = [
        (labels[box] == k).sum() / np.prod([side.stop - side.start for side in box])
        for k, box in enumerate(ndimage.find_objects(labels), start=1)
    ]
    assert np.median(filled) > 0.6  # of their boxes: bodies without arms
    contrast = np.abs(image.astype(float) - np.median(image))
    away = ndimage.distance_transform_edt(labels == 0) > 6
    empty, _ = synthetic_field(4, "bright", (260, 340), density=0.0)
    noise = np.abs(empty.astype(float) - np.median(empty))
    assert (contrast[away] > 15).mean() > 0.02 > (noise > 15).mean()


def test_morphologies_differ_in_size_and_form():
    def typical(morphology):
        _, labels = synthetic_field(1, morphology, (260, 340), density=0.3)
        boxes = ndimage.find_objects(labels)
        areas = np.bincount(labels.ravel())[1:]
        fill = [
            a / np.prod([s.stop - s.start for s in b]) for a, b in zip(areas, boxes, strict=True)
        ]
        return np.median(areas), np.median(fill)

    forms = {name: typical(name) for name in MORPHOLOGIES}
    assert forms["round"][0] < forms["plump"][0] < forms["colony"][0] < forms["flat"][0]
    assert forms["angular"][0] < forms["spread"][0] < forms["flat"][0]
    assert forms["branching"][1] < forms["spindle"][1] + 0.1 < forms["round"][1]


def test_cells_of_a_mixed_field_differ_most_in_size():
    def spread_of_areas(morphology):
        fields = [synthetic_field(seed, morphology, (260, 340), 0.4)[1] for seed in range(3)]
        areas = np.concatenate([np.bincount(labels.ravel())[1:] for labels in fields])
        return np.divide(*np.percentile(areas, [90, 30]))

    others = ("round", "plump", "colony", "sheet")
    assert spread_of_areas("mixed") > max(map(spread_of_areas, others))


def test_a_confluent_field_leaves_hardly_any_ground_and_faint_borders():
    def border_over_inside(morphology):
        image, labels = synthetic_field(3, morphology, (260, 340))
        inner = ndimage.minimum_filter(labels, 3) == ndimage.maximum_filter(labels, 3)
        return (labels > 0).mean(), image[~inner & (labels > 0)].mean() - image[inner].mean()

    confluent, sheet = border_over_inside("confluent"), border_over_inside("sheet")
    assert confluent[0] > 0.8
    assert 0 < confluent[1] < sheet[1]


def test_field_without_cells_has_no_contrast_but_noise():
    image = phase_contrast(np.zeros((40, 40), np.float32))
    assert np.abs(image).max() < 1e-5


def test_thin_specimen_is_dark_with_a_bright_halo():
    phase = np.zeros((61, 61), np.float32)
    phase[28:33, 28:33] = 0.2
    image = phase_contrast(phase, halo=3)
    assert image[30, 30] < -0.1
    assert image[30, 35] > 0.01
    assert abs(image[2, 2]) < 1e-3


def test_small_fields_work_and_too_small_ones_are_refused():
    image, labels = synthetic_field(0, "flat", (32, 32))
    assert image.shape == labels.shape == (32, 32)
    with pytest.raises(ValueError, match="31x32"):
        synthetic_field(0, "flat", (31, 32))


def test_wrong_arguments_are_named_with_the_remedy():
    with pytest.raises(ValueError, match=r"'spindel'.*'spindle'"):
        synthetic_field(0, "spindel")
    with pytest.raises(ValueError, match=r"density 1\.5"):
        synthetic_field(0, "round", density=1.5)


def test_whole_cells_keeps_the_largest_piece_and_fills_what_it_encloses():
    labels = np.zeros((9, 12), np.int32)
    labels[0:5, 0:5] = 1
    labels[1:4, 1:4] = 0
    labels[2, 2] = 2  # lies in the hole of 1
    labels[6, 0:6] = 3
    labels[6, 7:9] = 3  # the smaller piece
    labels[8, 11] = 4  # too small
    expected = np.zeros_like(labels)
    expected[0:5, 0:5] = 1
    expected[6, 0:6] = 3
    assert np.array_equal(whole_cells(labels, least=2), expected)


def test_whole_cells_keeps_what_lies_in_a_bay():
    labels = np.ones((3, 3), np.int32)
    labels[0, 1], labels[1, 1] = 0, 2
    assert np.array_equal(whole_cells(labels, least=1), labels)


def test_outlines_of_hand_drawn_cells():
    labels = np.array([[2, 2, 0], [2, 1, 1]], np.int32)
    first, second = outlines(labels)
    assert first.tolist() == [[1, 1], [3, 1], [3, 2], [1, 2]]
    assert second.tolist() == [[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]]
    assert outlines(np.zeros((4, 4), np.int32)) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic") / "set"
    told = []
    write_synthetic(
        out,
        images={"train": 8, "val": 2, "test": 3},
        seed=4,
        shape=(96, 128),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(k, 13) for k in range(1, 14)]
    return out


def drawn(number):
    return synthetic_field((4, number), list(MORPHOLOGIES)[number % len(MORPHOLOGIES)], (96, 128))


def test_painting_the_annotations_gives_back_image_and_labels_pixel_by_pixel(folder):
    import tifffile

    number = 0
    for split, count in (("train", 8), ("val", 2), ("test", 3)):
        coco = read_coco(folder / annotation_file(split))
        paths = index_images(folder, split)
        assert len(coco.images) == count
        for listed in coco.images:
            image, labels = drawn(number)
            assert np.array_equal(tifffile.imread(paths[listed.file_name]), image)
            painted = paint_image(listed, (96, 128))
            assert np.array_equal(painted.labels, labels)
            assert not painted.problems
            number += 1


def test_pycocotools_paints_the_same_and_area_and_box_agree(folder):
    tree = json.loads((folder / annotation_file("train")).read_text())
    for cell in tree["annotations"]:
        runs = coco_mask.merge(coco_mask.frPyObjects(cell["segmentation"], 96, 128))
        assert coco_mask.area(runs) == cell["area"]
        assert coco_mask.toBbox(runs).tolist() == cell["bbox"]
    ids = [cell["id"] for cell in tree["annotations"]]
    assert len(set(ids)) == len(ids)


def test_no_two_cells_of_a_set_share_an_id_however_many_an_image_has(tmp_path, monkeypatch):
    crowded = np.arange(1, 10_101, dtype=np.int32).reshape(100, 101)  # a cell a pixel
    drawn = np.zeros(crowded.shape, np.uint8), crowded
    monkeypatch.setattr("cellshed.data.synthetic.folder.synthetic_field", lambda *_: drawn)
    write_synthetic(tmp_path / "set", images={"train": 2, "val": 1})
    ids = []
    for split in ("train", "val"):
        tree = json.loads((tmp_path / "set" / annotation_file(split)).read_text())
        ids += [cell["id"] for cell in tree["annotations"]]
    assert len(set(ids)) == len(ids) == 3 * 10_100


def test_names_are_livecells_and_tell_the_cell_type(folder):
    images = index_images(folder, "train") | index_images(folder, "test")
    names = {parse_name(name) for name in images}
    assert None not in names
    assert len(names) == 13
    assert {name.cell_type for name in names} == {m.cell_type for m in MORPHOLOGIES.values()}
    assert all(path.parent.name == parse_name(path.name).cell_type for path in images.values())


def test_same_arguments_give_the_same_bytes(tmp_path):
    def write(name):
        write_synthetic(tmp_path / name, images=3, seed=9, shape=(48, 64), morphologies=("round",))
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        return [
            (p.relative_to(tmp_path / name), hashlib.sha256(p.read_bytes()).hexdigest())
            for p in files
        ]

    first = write("first")
    assert len(first) == 6
    assert first == write("second")


def test_an_interrupted_writing_leaves_nothing(tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_synthetic(tmp_path / "set", images=3, shape=(48, 64), progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images": 2}, "images 2"),
        ({"images": {"train": 0}}, "images"),
        ({"images": {"tset": 1}}, "'tset'"),
        ({"morphologies": ()}, "morphologies"),
        ({"morphologies": ("rond",)}, "'round'"),
        ({"shape": (16, 16)}, "16x16"),
    ],
)
def test_wrong_sets_are_refused_and_leave_nothing(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        write_synthetic(tmp_path / "set", **wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.realdata
def test_grey_levels_are_spread_as_in_real_images(data):
    import tifffile

    paths = sorted((data / "livecell-unlabelled").glob("*.tif"))
    real = [tifffile.imread(p).astype(float) for p in paths[::4]]
    ours = [synthetic_field(s, m)[0].astype(float) for s, m in enumerate(MORPHOLOGIES)]
    low, high = np.percentile([r.std() for r in real], [0, 100])
    assert low / 2 < np.median([o.std() for o in ours]) < 2 * high
    assert abs(np.mean(ours) - np.mean(real)) < 3
