"""The page's section on training: best epoch, learning curves, settings."""

from collections.abc import Sequence
from typing import Any

import yaml

from cellshed.progress import duration
from cellshed.report import figures
from cellshed.report.markup import Child, Html, join, number, table, tag
from cellshed.report.results import Run, Tree
from cellshed.report.score_sections import figure_row


def training(runs: Sequence[Run]) -> Html:
    """Return what happened in each run, and with which settings."""
    parts = [_overview(runs), _curves(runs)]
    if len(runs) > 1:
        parts.append(_differing(runs))
    parts += [_settings(run) for run in runs]
    return join(parts)


def _overview(runs: Sequence[Run]) -> Html:
    rows: list[list[Child]] = []
    for run in runs:
        best, last = run.best(), run.history[-1] if run.history else {}
        epoch = best.get("epoch")
        rows.append(
            [
                run.name,
                number(best.get("val_f1")),
                number(best.get("val_precision")),
                number(best.get("val_recall")),
                number(None if epoch is None else int(epoch)),
                number(int(last["epoch"])) if last else number(None),
                number(int(last["step"])) if "step" in last else number(None),
                duration(last["seconds"]) if "seconds" in last else number(None),
            ]
        )
    head = ["run", "object F1 at IoU 0.5, val", "precision", "recall", "at epoch", "of epochs"]
    return table([*head, "steps", "time"], rows)


def _curves(runs: Sequence[Run]) -> Html:
    histories = {run.name: run.history for run in runs if run.history}
    if not histories:
        return tag("p", "No epoch is finished yet.", class_="note")
    there = set().union(*(row for rows in histories.values() for row in rows))
    losses = {"loss": "training", "val_loss": "validation"}
    drawn = [figures.curves(histories, losses, "Loss", log=True)]
    if "val_f1" in there:
        scores = {"val_f1": "F1", "val_precision": "precision", "val_recall": "recall"}
        if len(histories) > 1:
            scores = {"val_f1": "F1"}
        title = "Object scores at IoU 0.5 on validation images"
        drawn.append(figures.curves(histories, scores, title))
    heads = sorted(name for name in there if name.startswith("loss_"))
    if len(histories) == 1 and heads:
        words = {name: name.removeprefix("loss_").replace("_", " ") for name in heads}
        drawn.append(figures.curves(histories, words, "Training loss of each head", log=True))
    if len(histories) == 1 and "lr" in there:
        drawn.append(figures.curves(histories, {"lr": "learning rate"}, "Learning rate", log=True))
    return figure_row(drawn)


def _differing(runs: Sequence[Run]) -> Html:
    """Return the settings that aren't the same in all runs."""
    flat = [_flat(run.settings) for run in runs]
    names = [
        name
        for name in dict.fromkeys(name for settings in flat for name in settings)
        if any(settings.get(name) != flat[0].get(name) for settings in flat)
    ]
    if not names:
        return tag("p", "All runs have the same settings.", class_="note")
    rows = [[name, *(_text(settings.get(name, "\u2013")) for settings in flat)] for name in names]
    title = tag("h3", "Settings that differ")
    return join([title, table(["setting", *(run.name for run in runs)], rows, "plain")])


def _settings(run: Run) -> Html:
    text = yaml.safe_dump(run.settings, sort_keys=False, allow_unicode=True)
    return tag("details", tag("summary", f"All settings of {run.name}"), tag("pre", text))


def _flat(tree: Tree, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in tree.items():
        if isinstance(item, dict) and item:
            flat |= _flat(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def _text(item: Any) -> str:
    return ", ".join(map(str, item)) if isinstance(item, list) else str(item)
