"""The page's sections on scores: at a glance, tables, plots, and each image."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cellshed.metrics.intervals import paired_difference
from cellshed.report import figures
from cellshed.report.drawing import Figure, to_svg
from cellshed.report.markup import Child, Html, join, number, table, tag
from cellshed.report.results import Result, counts_in_common, images_in_common

Scores = Mapping[str, Any]

OBJECT_F1 = "object F1 at IoU 0.5"
SCORES = {
    OBJECT_F1: "f1@0.50",
    "precision at IoU 0.5": "precision@0.50",
    "recall at IoU 0.5": "recall@0.50",
    "object F1 at IoU 0.75": "f1@0.75",
    "mean AP, IoU 0.5 to 0.95": "mean_ap",
    "PQ": "pq",
    "AJI": "aji",
    "SEG": "seg",
    "pixel F1": "pixel.f1",
    "pixel IoU": "pixel.iou",
}
"""Words for a score -> its name in scores.json's intervals."""
_SCORE_HEAD = ["", "images", "true cells", "predicted", *SCORES]
_SCORE_COLUMN = 4
_COCO = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR", "ARs", "ARm", "ARl", "AFNR")


def value(scores: Scores, name: str) -> float | None:
    """Return a score by its name: "f1@0.50", "pixel.f1", "coco.AP"; None if it isn't there."""
    start, at, threshold = name.partition("@")
    if at and "." not in start:
        found = (scores.get("thresholds") or {}).get(threshold, {}).get(start)
    else:
        tree: Any = scores
        *outer, last = name.split(".")
        for key in outer:
            tree = tree.get(key) or {}
        found = tree.get(last)
    return None if found is None else float(found)


def with_ends(scores: Scores, name: str) -> Html:
    """Return a score and its 95 % interval, where it has one."""
    return number(value(scores, name), (scores.get("intervals") or {}).get(name))


def glance(results: Sequence[Result]) -> Html:
    """Return the few numbers to read first; with several results, side by side."""
    if len(results) > 1:
        return join([_side_by_side(results), _differences(results)])
    pooled = results[0].pooled
    words = (OBJECT_F1, "mean AP, IoU 0.5 to 0.95", "PQ", "pixel F1")
    tiles = [_tile(word, pooled, SCORES[word]) for word in words]
    ratio = pooled["n_pred"] / pooled["n_true"] if pooled["n_true"] else None
    cells = [
        tag("b", number(pooled["n_pred"])),
        tag("span", "predicted cells"),
        tag("small", f"{pooled['n_true']:,} true in {len(results[0].images):,} images"),
        tag("small", f"{ratio:.3f} for each true one") if ratio is not None else None,
    ]
    return tag("div", tiles, tag("div", cells, class_="tile"), class_="tiles")


def _tile(word: str, scores: Scores, name: str) -> Html:
    ends = (scores.get("intervals") or {}).get(name)
    return tag(
        "div",
        tag("b", number(value(scores, name))),
        tag("span", word),
        tag("small", f"95 %: {ends[0]:.3f}\u2013{ends[1]:.3f}") if ends else None,
        class_="tile",
    )


def _side_by_side(results: Sequence[Result]) -> Html:
    """Return one row a result; the best scores in bold if all are of the same images."""
    first = results[0]
    same = all(
        len(images_in_common(first.scores, result.scores))
        == len(first.images)
        == len(result.images)
        for result in results
    )
    rows = [_score_row(result.name, result.pooled) for result in results]
    for column, name in enumerate(SCORES.values(), _SCORE_COLUMN):
        values = [value(result.pooled, name) for result in results]
        best = max((v for v in values if v is not None), default=None)
        for row, found in zip(rows, values, strict=True):
            if same and found is not None and found == best:
                row[column] = tag("b", row[column])
    note = "These results are of different images: their scores don't tell which is better."
    return join([table(_SCORE_HEAD, rows), None if same else tag("p", note, class_="note")])


def _differences(results: Sequence[Result]) -> Html:
    """Return each result less the first, on the images that both have, by paired bootstrap."""
    first, *others = results
    rows = []
    for other in others:
        before, after = counts_in_common(first.scores, other.scores)
        if len(before) < 2 or before.shape != after.shape:
            continue
        found = paired_difference(before, after)
        cells = [
            tag("span", f"{d.value:+.3f}", tag("small", f"{d.low:+.3f} to {d.high:+.3f}"))
            if (d := found.get(SCORES[word]))
            else number(None)
            for word in (OBJECT_F1, "mean AP, IoU 0.5 to 0.95", "PQ", "pixel F1")
        ]
        rows.append([f"{other.name} less {first.name}", f"{len(before):,}", *cells])
    if not rows:
        return Html("")
    head = ["difference", "same images", OBJECT_F1, "mean AP, IoU 0.5 to 0.95", "PQ", "pixel F1"]
    note = "An interval that leaves out zero is a difference that other images would show too."
    return join([table(head, rows), tag("p", note, class_="note")])


def score_tables(result: Result) -> Iterator[Html]:
    """Yield the tables of one result: all images and each cell type."""
    lines = lines_of(result)
    yield table(_SCORE_HEAD, [_score_row(name, scores) for name, scores in lines.items()])
    yield _details("Each IoU threshold", _thresholds(result.pooled))
    small = result.scores.get("small")
    if small is not None and "without_small" in result.pooled:
        yield _details(f"Without cells below {small} px", _without_small(lines))
    if any(scores.get("coco") for scores in lines.values()):
        yield _details("COCO AP and AR, by LIVECell's protocol", _coco(lines, result))
    if "mistakes" in result.pooled:
        yield _details("Mistakes", _mistakes(lines))


def lines_of(result: Result) -> dict[str, Scores]:
    """Return the pooled scores as "all", then those of each cell type if there are several."""
    types = result.cell_types
    return {"all": result.pooled, **(types if len(types) > 1 else {})}


def _details(title: str, *children: Child) -> Html:
    return tag("details", tag("summary", title), *children)


def _score_row(name: str, scores: Scores) -> list[Child]:
    counts = (number(scores.get(key)) for key in ("n_images", "n_true", "n_pred"))
    return [name, *counts, *(with_ends(scores, score) for score in SCORES.values())]


def _thresholds(scores: Scores) -> Html:
    names = ("tp", "fp", "fn", "precision", "recall", "f1", "ap")
    head = ["IoU above", "found (TP)", "extra (FP)", "missed (FN)", "precision", "recall"]
    rows = [
        [threshold, *(number(at[name]) for name in names)]
        for threshold, at in scores["thresholds"].items()
    ]
    return table([*head, "object F1", "AP = TP / (TP + FP + FN)"], rows)


def _without_small(lines: Mapping[str, Scores]) -> Html:
    words = [word for word, name in SCORES.items() if not name.startswith("pixel")]
    rows = []
    for name, scores in lines.items():
        without = scores.get("without_small") or {}
        ends = scores.get("intervals") or {}
        cells = [
            number(value(without, SCORES[w]), ends.get(f"without_small.{SCORES[w]}")) for w in words
        ]
        counts = (number(without.get(key)) for key in ("n_true", "n_pred"))
        rows.append([name, *counts, *cells])
    return table(["", "true cells", "predicted", *words], rows)


def _coco(lines: Mapping[str, Scores], result: Result) -> Html:
    rows = [
        [name, *(with_ends(scores, f"coco.{key}") for key in _COCO)]
        for name, scores in lines.items()
    ]
    source = result.scores.get("confidence") or (
        "none given: all cells count alike, which makes AP lower than it need be"
    )
    return join([table(["", *_COCO], rows), tag("p", f"Confidences: {source}.", class_="note")])


def _mistakes(lines: Mapping[str, Scores]) -> Html:
    rows = []
    for name, scores in lines.items():
        counts = scores.get("mistakes") or {}
        listed = [number(counts.get(kind)) for kind in ("correct", *figures.MISTAKES)]
        rows.append([name, number(scores["n_true"]), *listed])
    return table(["", "true cells", "correct", *figures.MISTAKES.values()], rows)


def plots(results: Sequence[Result]) -> Html:
    """Return the plots of all results together."""
    several = len(results) > 1
    lines = {r.name: r.pooled for r in results} if several else lines_of(results[0])
    types = {r.name: r.cell_types for r in results if r.cell_types}
    drawn = [
        figures.over_iou(lines, "ap", "AP over the IoU threshold"),
        figures.over_iou(lines, "f1", "Object F1 over the IoU threshold"),
    ]
    if types:
        drawn.append(figures.bars(types, "Object F1 at IoU 0.5 by cell type, 95 % intervals"))
    drawn.append(figures.mistake_bars({r.name: r.pooled for r in results}, "Mistakes"))
    known = {r.name: r.pooled["reliability"] for r in results if r.pooled.get("reliability")}
    if known:
        drawn.append(figures.reliability(known, "How often confident cells are right, IoU 0.5"))
    return figure_row(drawn)


def figure_row(drawn: Sequence[Figure]) -> Html:
    """Return figures side by side, as many as fit."""
    svgs = [Html(to_svg(f, f.axes[0].get_title(loc="left"))) for f in drawn]
    return tag("div", [tag("div", svg) for svg in svgs], class_="figures")


def image_plots(results: Sequence[Result]) -> Html:
    """Return the plots over images: by result if there are several, else by cell type."""
    if len(results) > 1:
        groups = {r.name: r.images for r in results}
    else:
        names = sorted({image["cell_type"] for image in results[0].images})
        groups = {
            name or "images": [i for i in results[0].images if i["cell_type"] == name]
            for name in names
        }
    spread = {r.name: r.images for r in results}
    return figure_row(
        [
            figures.f1_by_cells(groups, "Object F1 at IoU 0.5 of each image"),
            figures.f1_histogram(spread, "How many images have which object F1"),
        ]
    )


def image_table(result: Result) -> Html:
    """Return the scores of each image, which the reader can sort."""
    names = ("f1@0.50", "precision@0.50", "recall@0.50", "mean_ap", "pixel.f1")
    head = ["image", "cell type", "true cells", "predicted", OBJECT_F1, "precision", "recall"]
    head += ["mean AP", "pixel F1", *figures.MISTAKES.values()]
    rows = []
    for image in result.images:
        counts = image.get("mistakes") or {}
        rows.append(
            [
                image["name"],
                image["cell_type"],
                *(number(image[key]) for key in ("n_true", "n_pred")),
                *(number(value(image, name)) for name in names),
                *(number(counts.get(kind)) for kind in figures.MISTAKES),
            ]
        )
    return table([tag("button", word) for word in head], rows, "sortable tall")
