"""One self-contained HTML page of runs and results: it works offline and can be sent around."""

import base64
from collections.abc import Sequence
from html import escape
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import cellshed
from cellshed.files import write_text
from cellshed.report import figures
from cellshed.report.results import Result, Run, read_folder

_MISTAKES = {
    "correct": "correct",
    "missed": "missed",
    "gained": "extra",
    "split": "splits",
    "merge": "merges",
    "catastrophe": "catastrophes",
}
_PICTURES = {
    "best": "Best images",
    "worst": "Worst images",
    "missed": "Missed cells",
    "extra": "Extra cells",
    "split": "Split cells",
    "merge": "Merged cells",
}
_COCO = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR", "ARs", "ARm", "ARl", "AFNR")


def report(inputs: str | Path | Sequence[str | Path], out: str | Path) -> None:
    """Write one page about run folders and results of evaluate, side by side.

    Args:
        inputs: folders that train and evaluate have left.
        out: the page, whole or not at all.

    Raises:
        ValueError: a folder is neither, or a file in it is damaged.
    """
    listed = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    found = [read_folder(path) for path in listed]
    runs = [item for item in found if isinstance(item, Run)]
    results = [item for item in found if isinstance(item, Result)]
    parts = [_tiles(results), _scores(results), _types(results), _pictures(results)]
    parts += [_images(results), _training(runs), _words() if results else "", _origin(found)]
    write_text(out, _page("\n".join(part for part in parts if part)))


def _page(body: str) -> str:
    folder = package_files("cellshed.report")
    style, script = ((folder / name).read_text("utf-8") for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>cellshed report</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<header><h1>cellshed report</h1></header>\n<main>\n{body}\n</main>\n"
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """Return a table of cells that are HTML already; the first column names the row."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = [
        "<tr>" + f"<th>{first}</th>" + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    ]
    attribute = f' class="{kind}"' if kind else ""
    body = "\n".join(lines)
    return (
        f'<div class="wide"><table{attribute}>\n<thead><tr>{top}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _number(value: float | None, ends: Sequence[float] | None = None) -> str:
    if value is None:
        return "-"
    text = f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
    if ends:
        text += f" <small>{ends[0]:.3f} to {ends[1]:.3f}</small>"
    return text


def _tiles(results: Sequence[Result]) -> str:
    tiles = []
    for result in results:
        pooled = result.scores["pooled"]
        for name, value, score in (
            ("object F1 at IoU 0.5", pooled["thresholds"]["0.50"]["f1"], "f1@0.50"),
            ("mean AP, IoU 0.5 to 0.95", pooled["mean_ap"], "mean_ap"),
            ("pixel F1", pooled["pixel"]["f1"], "pixel.f1"),
        ):
            ends = pooled["intervals"].get(score)
            tiles.append(
                f'<div class="tile"><b>{_number(value)}</b><span>{name}</span>'
                + (f"<small>95 %: {ends[0]:.3f} to {ends[1]:.3f}</small>" if ends else "")
                + f"<small>{escape(result.name)}</small></div>"
            )
        cells = f"{pooled['n_true']:,} true, {pooled['n_pred']:,} predicted"
        tiles.append(
            f'<div class="tile"><b>{len(result.scores["images"])}</b><span>images</span>'
            f"<small>{cells} cells</small><small>{escape(result.name)}</small></div>"
        )
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _scores(results: Sequence[Result]) -> str:
    if not results:
        return ""
    lines = {r.name: r.scores["pooled"] for r in results}
    if len(results) == 1:
        lines = {"all": results[0].scores["pooled"]} | results[0].scores["cell_types"]
    return _section(
        "Scores",
        _table(("IoU threshold", *results[0].scores["pooled"]["thresholds"]), _f1_rows(lines)),
        '<div class="figures">',
        figures.over_iou(lines, "ap"),
        figures.over_iou(lines, "f1"),
        "</div>",
        _overall(results),
    )


def _f1_rows(lines: dict[str, Any]) -> list[list[str]]:
    return [
        [f"object F1, {escape(name)}"] + [_number(at["f1"]) for at in scores["thresholds"].values()]
        for name, scores in lines.items()
    ]


def _overall(results: Sequence[Result]) -> str:
    head = ["", *(result.name for result in results)]
    pooled = [result.scores["pooled"] for result in results]

    def row(name: str, score: str, values: Sequence[float | None]) -> list[str]:
        ends = [scores["intervals"].get(score) for scores in pooled]
        return [name, *(_number(v, e) for v, e in zip(values, ends, strict=True))]

    at = [scores["thresholds"]["0.50"] for scores in pooled]
    rows = [
        row("object F1 at IoU 0.5", "f1@0.50", [s["f1"] for s in at]),
        row("precision at IoU 0.5", "precision@0.50", [s["precision"] for s in at]),
        row("recall at IoU 0.5", "recall@0.50", [s["recall"] for s in at]),
        row("mean AP = TP / (TP + FP + FN)", "mean_ap", [s["mean_ap"] for s in pooled]),
        row("PQ", "pq", [s["pq"] for s in pooled]),
        row("AJI", "aji", [s["aji"] for s in pooled]),
        row("SEG", "seg", [s["seg"] for s in pooled]),
        row("pixel IoU", "pixel.iou", [s["pixel"]["iou"] for s in pooled]),
        row("pixel F1", "pixel.f1", [s["pixel"]["f1"] for s in pooled]),
    ]
    without = [s["without_small"]["thresholds"]["0.50"]["f1"] for s in pooled]
    small = results[0].scores.get("small", "?")
    rows.append(
        row(
            f"object F1 at IoU 0.5 without cells below {small} px", "without_small.f1@0.50", without
        )
    )
    rows += [
        row(
            f"COCO {name}, LIVECell's protocol",
            f"coco.{name}",
            [s["coco"].get(name) for s in pooled],
        )
        for name in _COCO
    ]
    rows += [
        row(f"cells: {word}", "", [s["mistakes"].get(kind) for s in pooled])
        for kind, word in _MISTAKES.items()
    ]
    return _table(head, rows)


def _types(results: Sequence[Result]) -> str:
    by_type = {r.name: r.scores["cell_types"] for r in results if r.scores["cell_types"]}
    if not by_type:
        return ""
    rows = [
        [
            escape(kind if len(by_type) == 1 else f"{kind}, {name}"),
            *(_number(scores[count]) for count in ("n_images", "n_true", "n_pred")),
            *(
                _number(value, scores["intervals"].get(score))
                for score, value in (
                    ("f1@0.50", scores["thresholds"]["0.50"]["f1"]),
                    ("mean_ap", scores["mean_ap"]),
                    ("pixel.f1", scores["pixel"]["f1"]),
                )
            ),
            *(_number(scores["mistakes"].get(kind)) for kind in _MISTAKES),
        ]
        for name, types in by_type.items()
        for kind, scores in types.items()
    ]
    head = ("", "images", "true", "predicted", "object F1 at IoU 0.5", "mean AP", "pixel F1")
    return _section(
        "Cell types",
        f'<div class="figures">{figures.bars(by_type)}</div>',
        _table((*head, *_MISTAKES.values()), rows),
    )


def _pictures(results: Sequence[Result]) -> str:
    parts = []
    for kind, title in _PICTURES.items():
        shown = [
            _figure(result.path / entry["file"], f"{entry['image']}: {entry['caption']}")
            for result in results
            for entry in result.pictures()
            if entry["kind"] == kind
        ]
        if shown:
            size = "large" if kind in ("best", "worst") else "small"
            parts.append(f'<h3>{title}</h3>\n<div class="gallery {size}">{"".join(shown)}</div>')
    return _section("Pictures", *parts) if parts else ""


def _figure(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    text = escape(caption)
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{text}" loading="lazy">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _images(results: Sequence[Result]) -> str:
    parts = []
    for result in results:
        rows = [
            [
                escape(image["name"]),
                escape(image["cell_type"]),
                *(_number(image[count]) for count in ("n_true", "n_pred")),
                *(_number(image["thresholds"]["0.50"][s]) for s in ("f1", "precision", "recall")),
                *(_number(image["pixel"]["f1"]), _number(image["mean_ap"])),
                *(_number(image["mistakes"].get(kind)) for kind in _MISTAKES),
            ]
            for image in result.scores["images"]
        ]
        head = ["image", "cell type", "true", "predicted", "object F1", "precision", "recall"]
        head += ["pixel F1", "mean AP", *_MISTAKES.values()]
        plot = figures.f1_by_cells(result.scores["images"])
        parts.append(f'<h3>{escape(result.name)}</h3>\n<div class="figures">{plot}</div>')
        parts.append(_table(head, rows, "sortable"))
    return _section("Images", *parts) if parts else ""


def _training(runs: Sequence[Run]) -> str:
    if not runs:
        return ""
    curves = {run.name: run.history for run in runs if run.history}
    parts = [f'<div class="figures">{figures.learning_curves(curves)}</div>'] if curves else []
    parts += [
        f"<details><summary>Settings of {escape(run.name)}</summary>"
        f"<pre>{escape(run.settings)}</pre></details>"
        for run in runs
    ]
    return _section("Training", *parts)


def _words() -> str:
    words = {
        "object F1": "2 TP / (2 TP + FP + FN) over cells: a predicted cell is a hit if its IoU "
        "with a true one exceeds the threshold. Pooled: counts are summed over images first.",
        "pixel F1, pixel IoU": "foreground against background, whatever cell a pixel belongs to.",
        "AP = TP / (TP + FP + FN)": "also called Jaccard or mSA; mean AP is its mean over the IoU "
        "thresholds. Not the COCO AP, which is the area under a precision-recall curve.",
        "COCO AP, AR, AFNR": "LIVECell's protocol: at most 2,000 cells an image; small below 324 "
        "px, medium to 961 px, large above; AFNR = 1 - AR.",
        "splits, merges, catastrophes": "one true cell found as several; several found as one; "
        "several found as several others. Links count from IoU 0.1, hits from 0.6.",
        "pictures": "light blue: found, the prediction's outline. Orange: a true cell that was not "
        "found. Pink: a predicted cell that is none. Close-ups show the image, the true outlines "
        "(white) and the predicted ones (coloured) from left to right.",
        "intervals": "95 %, by bootstrap over images: how far the score would move with other "
        "images of the same kind.",
    }
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in words.items())
    return _section("How to read it", f"<dl>{items}</dl>")


def _origin(found: Sequence[Run | Result]) -> str:
    rows = [["cellshed", cellshed.__version__]]
    for item in found:
        if isinstance(item, Run):
            rows.append([f"run {escape(item.name)}", escape(item.environment.get("command", ""))])
            packages = item.environment.get("packages", {})
            rows.append(["packages", escape(", ".join(f"{k} {v}" for k, v in packages.items()))])
            continue
        rows.append([f"truth of {escape(item.name)}", escape(str(item.scores.get("truth", "")))])
        rows.append([f"cells of {escape(item.name)}", escape(str(item.scores.get("pred", "")))])
        model = item.scores.get("model")
        if model:
            rows.append(["data licence", escape(model.get("licence") or "not stated")])
    return _section("Origin", _table(("", ""), rows, "origin"))
