"""Images that have no split, dealt out to train, val and test by shares."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np


def deal(kin: Sequence[Hashable], *, val: float, test: float, seed: Sequence[int]) -> list[str]:
    """Return each image's split.

    Images of one well are nearly copies, so they go together, unless wells are so few that the
    smallest share would be less than one of them.

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
    if len(groups) * min(share for share in (val, test) if share) < 1:
        groups, kin = list(range(count)), range(count)
    order = [groups[n] for n in np.random.default_rng(seed).permutation(len(groups))]
    sizes = Counter(kin)
    chosen: dict[Hashable, str] = {}
    for split, images in wanted.items():
        while images > 0 and len(order) > 1:
            group = order.pop(0)
            chosen[group] = split
            images -= sizes[group]
    return [chosen.get(group, "train") for group in kin]
