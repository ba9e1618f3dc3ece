"""One self-contained HTML page of runs and results: it works offline and can be sent around."""

from collections.abc import Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import yaml

import cellshed
from cellshed.files import write_text
from cellshed.report import score_sections as scores
from cellshed.report.markup import Child, Html, join, table, tag
from cellshed.report.picture_section import pictures
from cellshed.report.results import Result, Run, read_folders
from cellshed.report.run_section import training

_WORDS = {
    "object F1": "2 TP / (2 TP + FP + FN) over cells. A predicted cell is found (TP) if its "
    "overlap with a true one, divided by their union (IoU), exceeds the threshold; otherwise it is "
    "extra (FP). A true cell without such a partner is missed (FN). Counts are summed over all "
    "images before they are divided.",
    "pixel F1, pixel IoU": "cells against background, whatever cell a pixel belongs to: it doesn't "
    "tell whether neighbours were separated. Not to be compared with object F1.",
    "AP, mean AP": "TP / (TP + FP + FN) over cells at one IoU threshold, and its mean over 0.50, "
    "0.55 ... 0.95 (often called mSA). Not the COCO AP.",
    "PQ, AJI, SEG": "panoptic quality: F1 times the mean IoU of found cells. Aggregated Jaccard "
    "index. Mean over true cells of the IoU with the predicted cell that covers more than half of "
    "each, 0 where there is none.",
    "COCO AP, AR, AFNR": "area under the precision-recall curve of cells ranked by confidence, by "
    "LIVECell's protocol: at most 2,000 cells an image; s below 324 px, m to 961 px, l above. "
    "AFNR is 1 - AR.",
    "mistakes": "a cell is correct if its IoU exceeds 0.6. Of the others, cells that overlap by an "
    "IoU of 0.1 or more, or by more than half of one of them, belong together: one true with "
    "several predicted is split, several true with one are merged, several with several mixed up; "
    "those alone are missed or extra. Splits, merges and mix-ups count groups.",
    "0.818\u20130.877": "small print: the 95 % interval, by bootstrap over images. So far might a "
    "score move with other images of the same kind. A single image has none.",
}


def report(inputs: str | Path | Sequence[str | Path], out: str | Path) -> None:
    """Write one page about run folders and results of evaluate, side by side.

    Args:
        inputs: folders that train and evaluate have left.
        out: the page, whole or not at all.

    Raises:
        ValueError: a folder is neither, or a file in it is damaged.
    """
    if Path(out).is_dir():
        raise ValueError(f"{out} is a folder: name the page, such as {Path(out) / 'report.html'}")
    found = read_folders([inputs] if isinstance(inputs, str | Path) else inputs)
    runs = [item for item in found if isinstance(item, Run)]
    results = [item for item in found if isinstance(item, Result)]
    sections: dict[str, Child] = {}
    if results:
        sections |= _result_sections(results)
    if runs:
        sections["Training"] = training(runs)
    if results:
        sections["How to read it"] = tag(
            "dl", [(tag("dt", word), tag("dd", text)) for word, text in _WORDS.items()]
        )
    sections["Origin"] = _origin(found)
    write_text(out, page(_title(found), sections))


def _result_sections(results: Sequence[Result]) -> dict[str, Child]:
    several = len(results) > 1
    tables = [
        (tag("h3", r.name) if several else None, list(scores.score_tables(r))) for r in results
    ]
    images = [(tag("h3", r.name) if several else None, scores.image_table(r)) for r in results]
    sections: dict[str, Child] = {
        "At a glance": scores.glance(results),
        "Scores": [scores.plots(results), tables],
    }
    shown = pictures(results)
    if shown:
        sections["Pictures"] = shown
    sections["Images"] = [scores.image_plots(results), images]
    return sections


def _title(found: Sequence[Run | Result]) -> str:
    return ", ".join(dict.fromkeys(item.name for item in found))


def page(title: str, sections: dict[str, Child]) -> str:
    """Return a whole page of some sections, by their headings; it needs no other file."""
    folder = package_files("cellshed.report")
    style, script = ((folder / name).read_text("utf-8") for name in ("page.css", "page.js"))
    links = {name: name.lower().replace(" ", "-") for name in sections}
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title}: cellshed report"),
        tag("style", Html(style)),
    )
    body = tag(
        "body",
        tag(
            "header",
            tag("h1", "cellshed report ", tag("span", title)),
            tag("nav", [(tag("a", name, href=f"#{link}"), " ") for name, link in links.items()]),
        ),
        tag(
            "main",
            [
                tag("section", tag("h2", name), "\n", part, id=links[name])
                for name, part in sections.items()
            ],
        ),
        tag("script", Html(script)),
    )
    return f'<!doctype html>\n<html lang="en">\n{head}\n{body}\n</html>\n'


def _origin(found: Sequence[Run | Result]) -> Html:
    rows: list[list[Child]] = []
    for item in found:
        listed = _run_origin(item) if isinstance(item, Run) else _result_origin(item)
        rows += [[name, text] for name, text in listed.items() if text]
    rows.append(["this page", f"cellshed {cellshed.__version__}"])
    details = [
        tag(
            "details",
            tag("summary", f"Model of {item.name}"),
            tag("pre", yaml.safe_dump(item.scores["model"], sort_keys=False, allow_unicode=True)),
        )
        for item in found
        if isinstance(item, Result) and item.scores.get("model")
    ]
    return join([table(["", ""], rows, "plain"), details])


def _run_origin(run: Run) -> dict[str, str]:
    environment = run.environment
    system = [environment.get("platform"), environment.get("python")]
    packages = environment.get("packages") or {}
    return {
        f"run {run.name}": str(run.path),
        "command": str(environment.get("command", "")),
        "system": ", Python ".join(str(part) for part in system if part),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "trained on": _data(run.card),
        "licence of its data": str(run.card.get("licence") or run.settings.get("licence") or ""),
    }


def _result_origin(result: Result) -> dict[str, str]:
    tree = result.scores
    model = tree.get("model") or {}
    return {
        f"result {result.name}": str(result.path),
        "truth": ", split ".join(str(tree[key]) for key in ("truth", "split") if tree.get(key)),
        "images enlarged": "" if tree.get("scale", 1) == 1 else f"{tree['scale']} times",
        "predicted cells": str(tree.get("pred", "")),
        "model": str(model.get("name", "")),
        "model trained on": _data(model),
        "licence of its data": str(model.get("licence") or ""),
    }


def _data(card: dict[str, Any]) -> str:
    """Return the stores that a model was trained on, by the beginning of their hash."""
    stores = (card.get("data") or {}).get("train") or []
    return "; ".join(
        f"{store.get('images', '?')} images, {store.get('cells', '?')} cells, store "
        f"{str(store.get('hash', '?'))[:12]}"
        for store in stores
        if isinstance(store, dict)
    )
