"""Images that have no split, dealt out to train, val and test by shares."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np


def deal(kin: Sequence[Hashable], *, val: float, test: float, seed: Sequence[int]) -> list[str]:
    """Return each image's split.

    Images of one well are nearly copies, so they go together, unless wells are so few that the
    smallest share would be less than one of them, or that one would be missing for each split.

    Args:
        kin: by image, what it has in common with its near copies, such as its well.
        val: share of the images, 0 for none.
        test: likewise.
        seed: of the chance by which they are dealt.

    Raises:
        ValueError: too few images for these shares.
    """
    count = len(kin)
    wanted = {
        split: max(1, round(share * count))
        for split, share in (("test", test), ("val", val))
        if share
    }
    if count <= sum(wanted.values()):
        raise ValueError(
            f"{count} images of no split are too few for shares of {val} val and {test} test; "
            "shares are for images that have no split yet"
        )
    groups = list(dict.fromkeys(kin))
    if len(groups) <= len(wanted) or len(groups) * min(filter(None, (val, test))) < 1:
        groups, kin = list(range(count)), range(count)
    left = [groups[n] for n in np.random.default_rng(seed).permutation(len(groups))]
    sizes = Counter(kin)
    chosen: dict[Hashable, str] = {}
    for number, (split, images) in enumerate(wanted.items()):
        taken = _take(left, sizes, images, spare=len(wanted) - number)
        chosen |= dict.fromkeys(taken, split)
        left = [group for group in left if group not in taken]
    return [chosen.get(group, "train") for group in kin]


def _take(
    left: Sequence[Hashable], sizes: Mapping[Hashable, int], images: int, spare: int
) -> list[Hashable]:
    """Return groups of so many images, as nearly as they allow: at least one, and `spare` stay.

    One that would go beyond it by more than half of its own images is passed over.
    """
    taken: list[Hashable] = []
    for group in left:
        if len(left) - len(taken) == spare:
            break
        if 2 * images >= sizes[group]:
            taken.append(group)
            images -= sizes[group]
    return taken or [min(left, key=lambda group: sizes[group])]
