"""Numbers of a study's table: means over seeds, and comparisons of what belongs together."""

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from cellshed.metrics.comparison import Mean, Paired, holm, mean_interval, paired_f1, paired_t
from cellshed.metrics.intervals import RESAMPLES

if TYPE_CHECKING:
    from pandas import DataFrame

F1 = "f1@0.50"

DRAWS_PER_PAIR = 40
"""So many draws for each pair of groups at least, so that a p of 0.05 is within reach of all."""


@dataclass(frozen=True)
class Choice:
    """Which scores of the table are meant."""

    metric: str = F1
    small: str = "with"
    decode: str = "set"
    cell_type: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two groups: second less first, and how sure that is."""

    first: str
    second: str
    found: Paired
    p_corrected: float
    """By Holm, for all pairs of the study."""
    over: str
    """seeds or images: what was drawn at random."""


def decodes(table: "DataFrame") -> list[str]:
    """Return which decode settings the table has scores of: set, and perhaps tuned."""
    return [str(name) for name in table["decode"].dropna().unique() if name]


def told(table: "DataFrame", metric: str = F1, small: str = "with", cell_type: str = "") -> Choice:
    """Return the scores that a study speaks of: with tuned thresholds, where they were tuned.

    Thresholds that are alike for all runs suit some of them better than others.
    """
    return Choice(metric, small, "tuned" if "tuned" in decodes(table) else "set", cell_type)


def scores(table: "DataFrame", choice: Choice) -> "DataFrame":
    """Return the pooled test scores of a choice, one row a run."""
    return table[
        (table["set"] == "test")
        & table["image"].isna()
        & (table["metric"] == choice.metric)
        & (table["small"] == choice.small)
        & (table["decode"] == choice.decode)
        & (table["cell_type"].astype(object).fillna("") == choice.cell_type)
    ]


def means(table: "DataFrame", choice: Choice) -> dict[str, Mean]:
    """Return each group's mean score and 95 % interval.

    The interval is Student's over the seeds; with one seed, the bootstrap's over its images.
    """
    found = {}
    for group, rows in scores(table, choice).groupby("group", sort=False):
        mean = mean_interval(rows["value"].tolist())
        if mean.n == 1:
            low, high = (None if np.isnan(e) else float(e) for e in rows[["low", "high"]].iloc[0])
            mean = Mean(mean.value, low, high, 1)
        found[str(group)] = mean
    return found


def costs(table: "DataFrame", name: str, kind: str = "cost") -> dict[str, Mean]:
    """Return each group's mean of a cost, or of a number of cells or images (kind "data")."""
    rows = table[(table["set"] == kind) & (table["metric"] == name)]
    return {
        str(group): mean_interval(of_group["value"].tolist())
        for group, of_group in rows.groupby("group", sort=False)
    }


def comparisons(table: "DataFrame", choice: Choice) -> list[Comparison]:
    """Compare the object F1 at IoU 0.5 of every two groups.

    Values of one seed belong together: their runs saw the same images. With one seed in common
    the images do, and the bootstrap is over them. Groups with neither are left out.
    """
    by_seed = scores(table, choice).pivot_table(
        index="seed", columns="group", values="value", sort=False
    )
    pairs = []
    chosen = list(combinations(list(by_seed.columns), 2))
    # A p can't fall below one in so many draws; Holm multiplies it by the number of pairs.
    resamples = max(RESAMPLES, DRAWS_PER_PAIR * len(chosen))
    for first, second in chosen:
        both = by_seed[[first, second]].dropna()
        if len(both) > 1:
            found = paired_t(both[first].tolist(), both[second].tolist())
            pairs.append((first, second, found, "seeds"))
        elif len(both) == 1 and choice.metric == F1:
            of_seed = table[table["seed"] == both.index[0]]
            found_by_images = _over_images(of_seed, choice, first, second, resamples)
            if found_by_images is not None:
                pairs.append((first, second, found_by_images, "images"))
    corrected = holm([found.p for _, _, found, _ in pairs])
    return [
        Comparison(first, second, found, p, over)
        for (first, second, found, over), p in zip(pairs, corrected, strict=True)
    ]


def matrix(table: "DataFrame", choice: Choice) -> tuple[list[str], list[str], list[list[float]]]:
    """Return the mean score of each group on each cell type: groups, types, rows of scores."""
    types = sorted(table["cell_type"].dropna().unique())
    types = [cell_type for cell_type in types if cell_type]
    found = [means(table, Choice(choice.metric, choice.small, choice.decode, t)) for t in types]
    groups = [str(group) for group in table["group"].unique()]
    rows = [
        [of_type[group].value if group in of_type else float("nan") for of_type in found]
        for group in groups
    ]
    return groups, types, rows


def _over_images(
    table: "DataFrame", choice: Choice, first: str, second: str, resamples: int
) -> Paired | None:
    counts = table[
        table["image"].notna()
        & table["metric"].isin(["tp@0.50", "fp@0.50", "fn@0.50"])
        & (table["small"] == choice.small)
        & (table["decode"] == choice.decode)
    ]
    if choice.cell_type:
        counts = counts[counts["cell_type"] == choice.cell_type]
    wide = {
        group: counts[counts["group"] == group].pivot_table(
            index="image", columns="metric", values="value"
        )
        for group in (first, second)
    }
    images = wide[first].index.intersection(wide[second].index)
    if len(images) < 2:
        return None
    order = ["tp@0.50", "fp@0.50", "fn@0.50"]
    before, after = (wide[group].loc[images, order].to_numpy(float) for group in (first, second))
    return paired_f1(before, after, resamples=resamples)
