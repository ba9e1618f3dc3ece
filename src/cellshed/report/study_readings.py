"""What a study's table says, in sentences: the best, how sure, and what can't be said."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellshed.metrics.comparison import Mean
from cellshed.report.study_law import CELLS, fit_law
from cellshed.report.study_numbers import Comparison, comparisons, costs, matrix, means, told

if TYPE_CHECKING:
    from pandas import DataFrame

SURE = 0.05
"""Corrected p below which two groups are said to differ."""
_F1 = "object F1 at IoU 0.5"


def readings(table: "DataFrame", study: str) -> list[str]:
    """Return what was found, a sentence each, then how far it can be trusted."""
    found = means(table, told(table))
    if not found:
        return ["No run was scored."]
    own = [sentence for read in _OWN.get(study, (_ranking,)) for sentence in read(table)]
    return [*own, *_caveats(table, found)]


def words(mean: Mean) -> str:
    """Return a mean and its interval in words."""
    if mean.low is None or mean.high is None:
        return f"{mean.value:.3f}"
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def _ranking(table: "DataFrame") -> list[str]:
    found = means(table, told(table))
    best = max(found, key=lambda group: found[group].value)
    said = [f"Best by {_F1} over all test images: {best}, {words(found[best])}."]
    if len(found) < 2:
        return said
    first = next(iter(found))
    pairs = comparisons(table, told(table))
    if best != first:
        said.append(f"The study's first, {first}, reaches {words(found[first])}.")
    against = [pair for pair in pairs if best in (pair.first, pair.second)]
    worse = [_other(pair, best) for pair in against if pair.p_corrected < SURE]
    alike = [_other(pair, best) for pair in against if pair.p_corrected >= SURE]
    if worse:
        said.append(f"{best} differs (paired test, corrected p < {SURE}) from {_list(worse)}.")
    if alike:
        said.append(f"{best} can't be told apart from {_list(alike)} with these data.")
    return said


def _transforms(table: "DataFrame") -> list[str]:
    """Say what the paper concludes: inner distance with pixelwise is best, others add nothing."""
    found = means(table, told(table))
    have = {g: m.value for g, m in found.items() if "inner_distance" in g.split("+")}
    lack = {g: m.value for g, m in found.items() if "inner_distance" not in g.split("+")}
    said = []
    if have and lack:
        said.append(
            f"Mean {_F1} of combinations with inner distance {np.mean(list(have.values())):.3f}, "
            f"without it {np.mean(list(lack.values())):.3f}. The paper finds inner distance with "
            "pixelwise significantly better than those without inner distance."
        )
    pairs = {(p.first, p.second): p for p in comparisons(table, told(table))}
    for (first, second), pair in pairs.items():
        if first == "inner_distance+pixelwise":
            said.append(f"{second} against {first}: {_difference(pair)}.")
    without = means(table, told(table, small="without"))
    shift = [without[g].value - found[g].value for g in found if g in without]
    if shift:
        said.append(
            f"Leaving out small objects changes the scores by {np.mean(shift):+.3f} on average."
        )
    return said


def _cell_types(table: "DataFrame") -> list[str]:
    """Say how each model does on its own type, and on the others; as a whole they don't compete."""
    groups, types, rows = matrix(table, told(table))
    scored = [(t, means(table, told(table, cell_type=t)).get(t)) for t in types if t in groups]
    on_own = [f"{cell_type} {words(mean)}" for cell_type, mean in scored if mean is not None]
    own: list[float] = []
    other: list[float] = []
    for group, row in zip(groups, rows, strict=True):
        for cell_type, score in zip(types, row, strict=True):
            if np.isfinite(score):
                (own if cell_type == group else other).append(score)
    if not own or not other:
        return []
    return [
        f"Each model on the type it was trained on, {_F1}: {_list(on_own)}.",
        f"Mean {_F1} on the type trained on {np.mean(own):.3f}, on other types "
        f"{np.mean(other):.3f}.",
    ]


def _backbones(table: "DataFrame") -> list[str]:
    said = []
    for name, mean in costs(table, "parameters").items():
        pixel, iou = means(table, told(table, "pixel.f1")), means(table, told(table, "pixel.iou"))
        times = costs(table, "seconds_per_step")
        time = f", {1000 * times[name].value:,.0f} ms a step" if name in times else ""
        if name in pixel and name in iou:
            said.append(
                f"{name}: {mean.value / 1e6:.1f} million parameters{time}; pixel IoU "
                f"{words(iou[name])}, pixel F1 {words(pixel[name])}."
            )
    return said


def _dataset_size(table: "DataFrame") -> list[str]:
    law = fit_law(table)
    if law is None:
        return ["Too few sizes to fit a law."]
    cells = max(mean.value for mean in costs(table, CELLS, "data").values())
    now, then = law.error(cells), law.error(2 * cells)
    sure = "" if law.exponent_low > 0 else " So it isn't certain that more cells help at all."
    return [
        f"The error, 1 - {_F1}, goes as cells to the power of {-law.exponent:.3f} "
        f"[{-law.exponent_high:.3f}, {-law.exponent_low:.3f}], over {law.n} runs.{sure}",
        f"At {cells:,.0f} cells the law gives {1 - now[0]:.3f}; twice as many would bring "
        f"{1 - then[0]:.3f} [{1 - then[2]:.3f}, {1 - then[1]:.3f}], a change of "
        f"{now[0] - then[0]:+.3f}.",
    ]


def _search(table: "DataFrame") -> list[str]:
    tried = table[(table["set"] == "trial") & (table["metric"] == "objective")]
    pruned = table[(table["set"] == "trial") & (table["metric"] == "pruned")]["value"].sum()
    best = tried.iloc[int(tried["value"].to_numpy().argmax())]
    columns = list(table.columns)
    factors = columns[columns.index("seed") + 1 : columns.index("set")]
    chosen = ", ".join(f"{name} = {best[name]}" for name in factors)
    return [
        f"{len(tried)} trials, {pruned:.0f} of them stopped early. The best on val, "
        f"{best['value']:.3f}: {chosen}.",
        "The best of many trials on val is flattered by chance: go by its own score on test.",
    ]


_OWN: dict[str, tuple[Callable[["DataFrame"], list[str]], ...]] = {
    "transforms": (_ranking, _transforms),
    "cell-types": (_cell_types,),  # each model knows its own type: a ranking would say nothing
    "backbones": (_ranking, _backbones),
    "dataset-size": (_ranking, _dataset_size),
    "search": (_search,),  # chosen on val: a ranking by test would choose again
}


def _caveats(table: "DataFrame", found: dict[str, Mean]) -> list[str]:
    seeds = min(mean.n for mean in found.values())
    images = table[table["image"].notna()].groupby("run")["image"].nunique()
    trained = costs(table, "train_images", "data")
    said = [
        f"Each run was tested on {_range(images.tolist())} images and trained on "
        f"{_range([mean.value for mean in trained.values()])}."
    ]
    if told(table).decode == "tuned":
        said.append("All scores here are those with thresholds tuned on each run's val images.")
    if seeds < 2:
        said.append(
            "One seed: intervals and tests are over test images and say nothing of how another "
            "training of the same kind would turn out."
        )
    else:
        said.append(
            f"Intervals (Student's t) and paired t-tests are over {seeds} seeds; p values are "
            "corrected for the number of pairs by Holm's method."
        )
    return said


def _difference(pair: Comparison) -> str:
    found = pair.found
    return (
        f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}], p = {pair.p_corrected:.2g} "
        f"(corrected; over {found.n} {pair.over})"
    )


def _other(pair: Comparison, group: str) -> str:
    return pair.second if pair.first == group else pair.first


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"
