"""A model's card, for people: made from its data, licence, recipe and scores alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cellshed.report.figures import MISTAKES
from cellshed.spelling import listed

Tree = Mapping[str, Any]


def model_card(
    card: Tree, results: Mapping[str, Tree], pictures: Sequence[Mapping[str, str]], limits: str
) -> str:
    """Return the card as Markdown.

    Args:
        card: what model.yaml holds.
        results: what scores.json holds, by the name of the image set.
        pictures: "file", beside the card, and "caption" of each.
        limits: what the model isn't good for, in words.
    """
    recipe = card["recipe"]
    parts = [
        f"# {card['name']}",
        card["summary"],
        "## Licence and data",
        f"Licence of the training data, which the weights inherit or may inherit: "
        f"**{card['licence']}**.",
        _table(
            ["set", "train", "val", "test", "licence"],
            [
                [name, *_counts(of_set), of_set["licence"]]
                for name, of_set in recipe["sets"].items()
            ],
        ),
        "Images, and their cells. Trained on train, chosen and tuned on val, scored on test. A "
        "set with test images alone took no part in making the model.",
        "## How it was made",
        f"`make models DATA=...` at commit `{recipe['commit']}`, settings "
        + ", then ".join(f"`recipes/{file}`" for file in recipe["settings"])
        + f" (SHA-256 {recipe['settings_sha256'][:16]}).",
        _looks(card["predict"]),
        "## How good it is",
        _table(_SCORE_HEAD, list(_score_rows(results))),
        "Object F1: cells found at IoU above 0.5, pooled over images, with the 95 % bootstrap "
        "interval over images. Mean AP: TP / (TP + FP + FN), averaged over IoU 0.5 to 0.95.",
        *_sizes(card["scores"], results),
        "## Mistakes, for each 100 true cells",
        _table(
            ["set", *MISTAKES.values()], [_mistakes(n, r["pooled"]) for n, r in results.items()]
        ),
        limits.strip(),
        "## What its confidences mean",
        "The probability that a cell has an IoU above 0.5 with a true one, calibrated on val.",
        "![Share of cells that are right, over their confidence](reliability.svg)",
        _table(
            ["test set", "cells", "expected calibration error"],
            [
                [name, f"{result['pooled']['n_pred']:,}", _number(result["pooled"], error)]
                for name, result in results.items()
                if (error := "confidence_error") in result["pooled"]
            ],
        ),
    ]
    if pictures:
        parts.append("## Where it fails")
        parts += [f"![{p['caption']}]({p['file']})\n\n*{p['caption']}*" for p in pictures]
    return "\n\n".join(part for part in parts if part) + "\n"


def _looks(predict: Tree) -> str:
    """Return at which scales the model sees an image."""
    usual, by_size = listed(predict["scales"]), predict["scales_by_size"]
    if not by_size:
        return f"An image is shown to it at scale {usual}."
    suited = "; ".join(f"up to {pixels:g} pixels {listed(own)}" for pixels, own in by_size)
    return (
        "An image is shown to it at scales that suit its cells, by their diameter in a first "
        f"look (half of their area is in smaller ones): {suited}; larger ones, or none, {usual}."
        + _smaller(predict.get("surer_when_smaller", 0.0))
    )


def _smaller(gain: float) -> str:
    """Return when the model sees an image smaller than that."""
    if not gain:
        return ""
    return (
        " Where cells at the second of these scales, if it is the smaller one, are on average "
        f"surer by {gain:g} or more than at the first, large cells came in pieces: that scale and "
        "two thirds of it are taken instead."
    )


_SCORE_HEAD = ["set", "images", "cells", "object F1 at IoU 0.5", "at 0.75", "mean AP", "PQ"]
_SCORE_HEAD += ["COCO AP", "pixel F1"]


def _score_rows(results: Mapping[str, Tree]) -> Iterator[list[str]]:
    for name, result in results.items():
        yield [f"**{name}**", *_scores(result["pooled"])]
        types = result["cell_types"]
        if len(types) > 1:
            yield from ([f"{name}, {kind}", *_scores(scores)] for kind, scores in types.items())


def _scores(scores: Tree) -> list[str]:
    at = scores["thresholds"]
    ends = scores["intervals"].get("f1@0.50")
    interval = f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else ""
    return [
        f"{scores['n_images']:,}",
        f"{scores['n_true']:,}",
        _number(at["0.50"], "f1") + interval,
        _number(at["0.75"], "f1"),
        _number(scores, "mean_ap"),
        _number(scores, "pq"),
        _number(scores["coco"], "AP"),
        _number(scores["pixel"], "f1"),
    ]


def _sizes(scores: Tree, results: Mapping[str, Tree]) -> list[str]:
    """Return how object F1 changes with the images' size, by set."""
    sizes = scores.get("sizes", {})
    if not sizes:
        return []
    scales = [row["scale"] for row in next(iter(sizes.values()))]
    rows = []
    for name, of_set in sizes.items():
        itself = _number(results[name]["pooled"]["thresholds"]["0.50"], "f1")
        rows.append([name, itself, *(_number(row, "f1") for row in of_set)])
        rows.append([f"{name}, told", itself, *(_number(row, "f1_diameter") for row in of_set)])
    return [
        "## Cells of other sizes",
        _table(["object F1 at IoU 0.5", "as they are", *(f"{s:g} times" for s in scales)], rows),
        "The same test images, reduced or enlarged. Told: with `--diameter`, the training cells' "
        "times the factor; each image is then brought back to its size before, and what is lost "
        "is lost by reducing it.",
    ]


def _mistakes(name: str, scores: Tree) -> list[str]:
    share = 100 / max(scores["n_true"], 1)
    return [name, *(f"{share * scores['mistakes'][kind]:.1f}" for kind in MISTAKES)]


def _counts(of_set: Tree) -> list[str]:
    counts = (of_set[split] for split in ("train", "val", "test"))
    return [f"{c['images']:,}, {c['cells']:,}" if c["images"] else "none" for c in counts]


def _number(scores: Tree, key: str) -> str:
    return "undefined" if scores.get(key) is None else f"{scores[key]:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
