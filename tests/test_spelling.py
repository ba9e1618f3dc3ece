"""Unknown names come with a remedy."""

from cellshed.spelling import counted, listed, nearest


def test_nearest_lists_all_when_nothing_is_near() -> None:
    assert nearest("zzz", ["b", "a"]) == "known: a, b"


def test_nearest_offers_what_is_spelled_alike_in_any_case() -> None:
    assert nearest("otsu-Mask", ["OTSU-MASK", "other"]) == "did you mean 'OTSU-MASK'?"


def test_numbers_are_listed_to_three_digits() -> None:
    assert [listed(n) for n in ([1.0], [1.0, 0.75], [2 / 3, 1, 23 / 40])] == [
        "1",
        "1 and 0.75",
        "0.667, 1 and 0.575",
    ]


def test_one_thing_is_one() -> None:
    words = [counted(n, "image") for n in (0, 1, 2, 1200)]
    assert words == ["0 images", "1 image", "2 images", "1,200 images"]
