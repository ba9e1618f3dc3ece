"""What the results of images are called: by their files, and by folders where these are alike."""

from pathlib import Path

import pytest

from cellshed.sources import source_of, told_apart


def _names(*paths: str, known: dict[str, str] | None = None) -> list[str]:
    absolute = {str(Path(path).resolve()): name for path, name in (known or {}).items()}
    return [source.name for source in told_apart(map(source_of, map(Path, paths)), absolute)]


def test_results_are_called_by_their_files() -> None:
    assert _names("one/a.tif", "two/b.ome.tif", "c.d.png") == ["a", "b", "c.d"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["A1/img.tif", "B1/img.tif"], ["A1-img", "B1-img"]),
        (
            ["A1/img.tif", "B1/IMG.png"],
            ["A1-img", "B1-IMG"],
        ),  # many file systems take these for one
        (["x/A1/img.tif", "y/A1/img.tif", "z/b.tif"], ["x-A1-img", "y-A1-img", "b"]),
        (["A1/img.tif", "x/A1/img.tif"], [None, "x-A1-img"]),
    ],
)
def test_those_of_one_name_are_called_by_their_folders_too(
    paths: list[str], names: list[str | None]
) -> None:
    above = Path.cwd().name
    assert _names(*paths) == [name or f"{above}-A1-img" for name in names]


def test_results_that_are_there_keep_their_names() -> None:
    both = ("A1/img.tif", "B1/img.tif")
    assert _names(*both, known={"A1/img.tif": "img"}) == ["img", "B1-img"]
    assert _names("A1/img.tif", known={"A1/img.tif": "A1-img"}) == ["A1-img"]


@pytest.mark.parametrize(
    "paths", [("a.tif", "a.png"), ("a.tif", "A.tif"), ("x-a.tif", "x/a.tif", "y/a.tif")]
)
def test_what_no_folder_tells_apart_is_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="would both be written as"):
        _names(*paths)


def test_a_file_is_named_with_the_folders_that_its_results_are_called_by() -> None:
    one, two = told_apart(map(source_of, map(Path, ("A1/img.ome.tif", "B1/img.ome.tif"))), {})
    assert (one.file_name, two.file_name) == ("A1/img.ome.tif", "B1/img.ome.tif")
    assert source_of(Path("A1/img.ome.tif")).file_name == "img.ome.tif"
