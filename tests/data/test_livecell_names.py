"""LIVECell's file names and layout."""

from pathlib import Path

import pytest

from cellshed.data.livecell import (
    CELL_TYPES,
    SUBSETS,
    ImageName,
    annotation_file,
    cell_type_of,
    find_annotations,
    index_images,
    is_livecell,
    known_cell_type,
    livecell_splits,
    parse_name,
    single_cell_file,
    size_split_file,
    take_subset,
)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_file_name_tells_type_well_place_time_and_crop() -> None:
    expected = ImageName("A172", "C7", 1, 64.0, 2)
    assert parse_name("A172_Phase_C7_1_02d16h00m_2.tif") == expected
    assert parse_name("some/folder/A172_Phase_C7_1_02d16h00m_2.png") == expected
    assert parse_name("SkBr3_Phase_H12_2_00d01h30m_4.tif") == ImageName("SkBr3", "H12", 2, 1.5, 4)


@pytest.mark.parametrize(
    "name", ["astro_0a6ecc5fe78a.tif", "A172_Phase_C7_1_02d16h_2.tif", "x.tif", "A172_Phase.tif"]
)
def test_other_names_tell_nothing(name: str) -> None:
    assert parse_name(name) is None


def test_cell_type_is_the_first_word() -> None:
    assert cell_type_of("Huh7_Phase_A12_1_02d12h00m_3.tif") == "Huh7"
    assert cell_type_of("astro_0a6ecc5fe78a.tif") == "astro"
    assert cell_type_of("image7.tif") == ""


def test_cell_types_are_known_in_any_case() -> None:
    assert [known_cell_type(name.lower()) for name in CELL_TYPES] == list(CELL_TYPES)
    with pytest.raises(ValueError, match="unknown cell type 'SKBR'; did you mean 'SkBr3'"):
        known_cell_type("SKBR")


def test_subset_is_every_nth_image_from_the_first() -> None:
    images = list(range(101))
    assert take_subset(images, 2) == [0, 50, 100]
    assert take_subset(images, 100) == images
    for percent, n in SUBSETS.items():
        assert take_subset(images, percent) == list(range(0, 101, n))
        assert round(100 / n) == percent
    with pytest.raises(ValueError, match="unknown subset 10 %: choose one of 2, 4, 5, 25, 50, 100"):
        take_subset(images, 10)


def test_paths_are_those_of_the_bucket() -> None:
    assert annotation_file("val") == "annotations/LIVECell/livecell_coco_val.json"
    assert single_cell_file("SkBr3", "test") == "annotations/LIVECell_single_cells/skbr3/test.json"
    sizes = "annotations/LIVECell_dataset_size_split"
    assert size_split_file(2) == f"{sizes}/0_train2percent.json"
    assert size_split_file(50) == f"{sizes}/4_train50percent.json"
    assert size_split_file(100) == annotation_file("train")
    with pytest.raises(ValueError, match="unknown split 'vall'; did you mean 'val'"):
        annotation_file("vall")


def test_annotations_are_taken_from_what_was_downloaded(tmp_path: Path) -> None:
    def found(cell_types: list[str] | None = None, subset: int | None = None) -> list[str]:
        files = find_annotations(tmp_path, "train", cell_types, subset)
        return [file.relative_to(tmp_path).as_posix() for file in files]

    a172, bv2 = single_cell_file("A172", "train"), single_cell_file("BV2", "train")
    assert found() == []
    touch(tmp_path, bv2, a172)
    assert is_livecell(tmp_path)
    assert found() == [a172, bv2]
    assert found(["bv2"]) == [bv2]
    touch(tmp_path, size_split_file(5), size_split_file(25))
    assert found(subset=5) == [size_split_file(5)]
    assert found() == [size_split_file(25)]
    assert found(["A172"], 5) == [a172]
    touch(tmp_path, annotation_file("train"))
    assert found() == found(["A172"]) == found(subset=5) == [annotation_file("train")]
    assert livecell_splits(tmp_path) == ["train"]


def test_images_are_found_with_and_without_cell_type_folders(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "images/livecell_train_val_images/A172/a.tif",
        "images/livecell_train_val_images/b.tif",
        "images/livecell_test_images/c.tif",
    )
    assert sorted(index_images(tmp_path, "val")) == ["a.tif", "b.tif"]
    assert sorted(index_images(tmp_path, "test")) == ["c.tif"]
