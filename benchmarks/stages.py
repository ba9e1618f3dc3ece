"""Shows where the time of `predict` and of `train` goes, stage by stage, on all cores.

Run as `python benchmarks/stages.py predict|train [--model NAME] [--images N] [--steps N]`, on drawn
images. Stages that overlap add up to more than the time that passed.
"""

import argparse
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

from torch.profiler import ProfilerActivity, profile

from cellshed import predict_files as files
from cellshed.config import load_config
from cellshed.cores import usable_cores
from cellshed.data.prepare import prepare
from cellshed.data.synthetic import write_synthetic
from cellshed.predict import load_model
from cellshed.training import loop

CELLS = ("round", "plump", "colony", "spindle")


class Stages:
    """Seconds by name, taken in whichever thread does the work."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, its time noted under a name."""

        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._note(name, time.perf_counter() - began)

        return call

    def waiting(self, name: str, items: Iterable[Any]) -> Iterator[Any]:
        """Yield the items, the time until each is there noted under a name."""
        iterator = iter(items)
        following = self.timed(name, lambda: next(iterator, self))
        while (item := following()) is not self:
            yield item

    def show(self, passed: float, processor: float, count: int, what: str) -> None:
        """Print one line a stage, in milliseconds for each of count things."""
        for name, seconds in self.seconds.items():
            print(f"{name:<28}{1e3 * seconds / count:>9.1f} ms {what}")
        busy = processor / (passed * usable_cores())
        print(f"{'time that passed':<28}{1e3 * passed / count:>9.1f} ms {what}")
        print(f"{usable_cores()} cores were busy for {busy:.0%} of it")

    def _note(self, name: str, seconds: float) -> None:
        with self._lock:
            self.seconds[name] += seconds


def main() -> None:
    """Draw images, then run the verb that is named under timers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=["predict", "train"])
    parser.add_argument("--model", default="phase", help="of predict")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--steps", type=int, default=20, help="of train")
    parser.add_argument("--preset", default="cpu-small", help="of train")
    parser.add_argument("--operations", action="store_true", help="of train: torch's, slower")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_synthetic(folder / "drawn", images=chosen.images, seed=1, morphologies=CELLS)
        if chosen.verb == "predict":
            _predict(folder, chosen.model)
        else:
            _train(folder, chosen.preset, chosen.steps, chosen.operations)


def _predict(folder: Path, model: str) -> None:
    segmenter = load_model(model)
    images = sorted((folder / "drawn").rglob("*.tif"))
    files.predict_files(images[:2], folder / "warm", model=segmenter)
    stages = Stages()
    segmenter.maps = stages.timed("network", segmenter.maps)
    segmenter.decode = stages.timed("decoding", segmenter.decode)
    read = stages.timed("reading", files.read_image)
    write = stages.timed("writing", files.write_prediction)
    with patch.object(files, "read_image", read), patch.object(files, "write_prediction", write):
        began, processor = time.perf_counter(), time.process_time()
        files.predict_files(images, folder / "cells", model=segmenter)
        passed, processor = time.perf_counter() - began, time.process_time() - processor
    stages.show(passed, processor, len(images), "an image")


def _train(folder: Path, preset: str, steps: int, operations: bool) -> None:
    prepare(folder / "drawn", folder / "store")
    changes = [f"training.steps_per_epoch={steps}", "training.epochs=2", "training.val_images=1"]
    config = load_config(preset, [*changes, "training.val_every=2", "model.pretrained=none"])
    stages = Stages()
    loader, epoch = loop.loader, loop.Trainer._epoch
    spans = (0.0, 0.0)

    def batches(*args: Any, **kwargs: Any) -> Iterator[Any]:
        return stages.waiting("waiting for a batch", loader(*args, **kwargs))

    def one_epoch(trainer: loop.Trainer) -> Any:
        nonlocal spans
        stages.seconds.clear()  # the first epoch compiles: the second one is shown
        began, processor = time.perf_counter(), time.process_time()
        row = epoch(trainer)
        spans = time.perf_counter() - began, time.process_time() - processor
        return row

    with (
        patch.object(loop, "loader", batches),
        patch.object(loop.Trainer, "_epoch", one_epoch),
        patch.object(loop.Trainer, "_step", stages.timed("step", loop.Trainer._step)),
        profile(activities=[ProfilerActivity.CPU]) if operations else nullcontext() as found,
    ):
        loop.train(config, folder / "store", folder / "run")
    stages.show(*spans, steps, "a step")
    if found is not None:
        table = found.key_averages()
        print(table.table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=48))


if __name__ == "__main__":
    main()
