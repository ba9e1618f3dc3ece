"""One run of a study from its folder: train, score, write the result. Can be interrupted."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cellshed.data.store import Store
from cellshed.evaluation.run import SMALL
from cellshed.metrics.mistakes import count_mistakes, link_cells
from cellshed.metrics.overlap import overlap
from cellshed.metrics.scores import count, count_without_small
from cellshed.model.folder import read_card
from cellshed.model.panoptic import build_model
from cellshed.predict import Segmenter, load_model
from cellshed.report.results import read_folder
from cellshed.settings import Config, DecodeSettings
from cellshed.studies.folder import RunPlace, read_task
from cellshed.studies.plan import choose
from cellshed.studies.tuning import search
from cellshed.studies.views import views_of
from cellshed.training.loop import Listener, train
from cellshed.training.run import Status
from cellshed.training.split import of_splits

FEW = {
    "maxima_threshold": (0.02, 0.05, 0.1, 0.2),
    "interior_threshold": (0.2, 0.3, 0.4, 0.5, 0.6),
}
"""Thresholds that a study tries when it tunes each run."""
_TRAINING = 0.9
"""Share of a run that its progress gives to training; the rest is scoring."""


class _Watch:
    """Listens to a training: notes its progress, and how long its steps take."""

    def __init__(self, place: RunPlace, listener: Listener | None) -> None:
        self.place = place
        self.listener = listener
        self.times: list[tuple[int, float]] = []
        self.told = 0.0

    def __call__(self, now: Status) -> None:
        moment = time.monotonic()
        if now.row is None:
            self.times.append((now.step, moment))
        if moment > self.told + 1:
            self.told = moment
            whole = now.seconds + now.seconds_left
            self.place.tell(_TRAINING * (now.seconds / whole if whole else 0))
        if self.listener is not None:
            self.listener(now)

    def seconds_per_step(self) -> float | None:
        """Return the median time between two steps of one epoch."""
        steps = [b[1] - a[1] for a, b in pairwise(self.times) if b[0] == a[0] + 1]
        return median(steps) if steps else None


def execute(folder: str | Path, listener: Listener | None = None) -> dict[str, Any]:
    """Do a run, or go on with it, and write its result.json.

    Args:
        folder: with run.json in it.
        listener: called as train's progress; what it raises ends the run.

    Returns:
        What result.json holds.
    """
    place = RunPlace(folder)
    task = place.task()
    run, config, stores = read_task(task)
    config = _within(config, task.get("max_minutes") or 0.0)
    parts = choose(stores, run)
    watch = _Watch(place, listener)
    begun = (place.training / "config.yaml").is_file()
    if not begun:  # killed before there was anything to go on with
        shutil.rmtree(place.training, ignore_errors=True)
    best = train(config, parts, place.training, resume=begun, progress=watch)
    began = time.monotonic()
    # The network's own engine: another would bring threads and roundings of its own.
    segmenter = load_model(best, device=config.training.device, engine="torch")
    settings = {"set": segmenter.card.decode}
    if task.get("tune"):
        settings["tuned"] = _tuned(segmenter, of_splits(parts, "val"))
    images = list(_score(segmenter, of_splits(parts, "test"), settings, place))
    cost = {
        "seconds_scoring": time.monotonic() - began,
        "seconds_per_step": watch.seconds_per_step(),
        "parameters": _parameters(config),
    }
    result = {
        "task": task,
        "images": images,
        "decode": {name: chosen.model_dump() for name, chosen in settings.items()},
        **_training(place, parts),
    }
    result["cost"] |= cost
    place.finish(result)
    return result


def unscored(place: RunPlace) -> dict[str, Any]:
    """Return the result of a run whose training was ended early: its history, without scores."""
    run, _, stores = read_task(place.task())
    parts = choose(stores, run)
    return {
        "task": place.task(),
        "images": [],
        "decode": {},
        "pruned": True,
        **_training(place, parts),
    }


def _within(config: Config, minutes: float) -> Config:
    if not minutes:
        return config
    training = config.training.model_copy(update={"max_minutes": minutes})
    return config.model_copy(update={"training": training})


def _tuned(segmenter: Segmenter, val: Sequence[Store]) -> DecodeSettings:
    """Return the model's decode settings with the best of a few thresholds on val."""
    if not val:
        return segmenter.card.decode
    return search(views_of(segmenter, val), segmenter.card.decode, candidates=FEW).decode


def _score(
    segmenter: Segmenter,
    test: Sequence[Store],
    settings: Mapping[str, DecodeSettings],
    place: RunPlace,
) -> Iterator[dict[str, Any]]:
    """Yield the counts of each test image, for each of the decode settings."""
    total, done = sum(len(store) for store in test), 0
    for number, store in enumerate(test):
        for i, record in enumerate(store.records):
            labels = np.asarray(store.labels(i), dtype=np.int32)
            views = segmenter.views(store.image(i))
            for name, chosen in settings.items():
                found = segmenter.decode(views, labels.shape, **chosen.model_dump())
                table = overlap(labels, found.labels)
                yield {
                    "name": f"{number}/{record.name}",
                    "cell_type": record.cell_type,
                    "decode": name,
                    "counts": count(table).tolist(),
                    "without_small": count_without_small(table, SMALL).tolist(),
                    "mistakes": count_mistakes(link_cells(table)),
                }
            done += 1
            place.tell(_TRAINING + (1 - _TRAINING) * done / total)


def _training(place: RunPlace, parts: Sequence[Store]) -> dict[str, Any]:
    """Return what the training was on, its history, and what it cost."""
    history = read_folder(place.training).history  # type: ignore[union-attr]
    scores = read_card(place.training / "best").scores
    records = [record for part in parts for record in part.records]
    data = {
        split: {
            "images": sum(record.split in names for record in records),
            "cells": sum(record.n_cells for record in records if record.split in names),
        }
        for split, names in (("train", ("train", "all")), ("val", ("val",)), ("test", ("test",)))
    }
    last = history[-1]
    cost = {
        "seconds_training": last["seconds"],
        "steps": last["step"],
        "epochs": last["epoch"],
        "best_epoch": scores.get("epoch"),
    }
    return {"data": data, "history": history, "cost": cost}


def _parameters(config: Config) -> int:
    """Return the number of trained values of the network."""
    net = build_model(config.model.model_copy(update={"pretrained": "none"}))
    return sum(p.numel() for p in net.parameters())
