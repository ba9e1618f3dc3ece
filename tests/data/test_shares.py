"""Images without a split are dealt out, those of a well together."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellshed.data.shares import deal


def test_single_images_are_dealt_by_share() -> None:
    splits = deal(list(range(20)), val=0.1, test=0.25, seed=[1])
    assert Counter(splits) == {"train": 13, "val": 2, "test": 5}
    assert deal(list(range(20)), val=0.1, test=0.25, seed=[1]) == splits
    assert deal(list(range(20)), val=0.1, test=0.25, seed=[2]) != splits


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(0, 5))
def test_wells_stay_together_and_shares_are_reached(more: list[int], seed: int) -> None:
    wells = [*range(31), *more]
    splits = deal(wells, val=0.1, test=0.2, seed=[seed])
    homes = {well: {s for w, s in zip(wells, splits, strict=True) if w == well} for well in wells}
    assert all(len(home) == 1 for home in homes.values())
    largest = max(Counter(wells).values())
    for split, share in (("val", 0.1), ("test", 0.2)):
        assert abs(splits.count(split) - round(share * len(wells))) <= largest / 2
        assert split in splits
    assert "train" in splits


@pytest.mark.parametrize("seed", range(20))
def test_a_large_well_is_no_small_share(seed: int) -> None:
    """Nine wells of one image and one of forty: that one is trained on."""
    splits = deal([*range(9), *[9] * 40], val=0.1, test=0.0, seed=[seed])
    assert Counter(splits) == {"train": 44, "val": 5}
    splits = deal([*range(9), *[9] * 40], val=0.1, test=0.1, seed=[seed])
    assert splits[-1] == "train"
    assert {"val", "test"} < set(splits)


@pytest.mark.parametrize("seed", range(20))
def test_no_split_stays_empty(seed: int) -> None:
    splits = deal([*"aaabbbcccc"], val=0.4, test=0.4, seed=[seed])
    assert set(splits) == {"train", "val", "test"}
    splits = deal([*"aaabbbb"], val=0.4, test=0.4, seed=[seed])  # two wells: parted
    assert Counter(splits) == {"train": 1, "val": 3, "test": 3}


@given(
    st.lists(st.integers(1, 12), min_size=3, max_size=6),
    st.sampled_from([(0.1, 0.1), (0.3, 0.5), (0.4, 0.4)]),
    st.integers(0, 5),
)
def test_each_split_has_images_however_wells_differ(
    sizes: list[int], shares: tuple[float, float], seed: int
) -> None:
    wells = [well for well, size in enumerate([*sizes, 8]) for _ in range(size)]
    splits = deal(wells, val=shares[0], test=shares[1], seed=[seed])
    assert set(splits) == {"train", "val", "test"}


def test_few_wells_are_parted() -> None:
    splits = deal(["A1"] * 6 + ["A2"] * 4, val=0.1, test=0.0, seed=[0])
    assert Counter(splits) == {"train": 9, "val": 1}


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 images of no split are too few for shares of 0\.5"):
        deal(["a", "b"], val=0.5, test=0.5, seed=[0])
