"""Many images segmented one after another: reading, network, decoding and writing overlap."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cellshed.data.images import list_images, read_image, stem
from cellshed.inference import Maps
from cellshed.outputs import KINDS, check_kinds, claim, is_done, write_prediction, write_summary
from cellshed.predict import Segmenter, load_model

Progress = Callable[[int, int], None]
_AHEAD = 2
"""Images read before the network needs them, and images decoded and written behind it."""


@dataclass
class Summary:
    """What became of the images."""

    done: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    cells: int = 0
    seconds: float = 0.0

    def text(self) -> str:
        """Return one line for people."""
        parts = [f"{len(self.done)} images segmented, {self.cells:,} cells"]
        if self.done and self.seconds:
            parts.append(f"{len(self.done) / self.seconds:.2f} images a second")
        if self.skipped:
            parts.append(f"{len(self.skipped)} skipped, they were there already")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        return ", ".join(parts)


def predict_files(  # noqa: PLR0913  each is one option of the command line
    inputs: Iterable[str | Path],
    out: str | Path,
    *,
    model: str | Path | Segmenter,
    save: Sequence[str] = KINDS,
    channel: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Segment images and write what is asked for into a folder.

    An image that can't be read or segmented is noted and the rest go on. Images whose outputs are
    there already, made by this model with these settings, are skipped.

    Args:
        inputs: files, patterns or folders.
        out: folder for labels/, overlay/, coco.json and cells.csv.
        model: a Segmenter, or what load_model takes.
        save: kinds of output.
        channel: the one channel to use, counted from 0.
        overwrite: do again what is there already, whatever made it.
        progress: called with (images finished, images in all).

    Raises:
        ValueError: no images, unknown kinds of output, two images of one name, or a folder with
            results of another model or other settings.
    """
    save = check_kinds(save)
    paths = list_images(inputs)
    _check_names(paths)
    out = Path(out)
    segmenter = model if isinstance(model, Segmenter) else load_model(model)
    out.mkdir(parents=True, exist_ok=True)
    maker = segmenter.maker() | {"channel": channel}
    claim(out, maker, [stem(p) for p in paths], overwrite=overwrite)
    summary = Summary()
    todo = [p for p in paths if overwrite or not is_done(out, stem(p), save)]
    summary.skipped = [p for p in paths if p not in set(todo)]
    if todo:
        began = time.monotonic()
        run = _Run(segmenter, out, save, channel)
        for path, result in run.over(todo):
            if isinstance(result, Exception):
                summary.failed.append((path, str(result)))
            else:
                summary.done.append(path)
                summary.cells += result
            if progress is not None:
                progress(len(summary.done) + len(summary.failed), len(todo))
        summary.seconds = time.monotonic() - began
    write_summary(out, save)
    return summary


class _Run:
    """One pass over images: a thread reads ahead, the network runs here, threads write behind."""

    def __init__(
        self, segmenter: Segmenter, out: Path, save: Sequence[str], channel: int | None
    ) -> None:
        self.segmenter, self.out, self.save, self.channel = segmenter, out, save, channel

    def over(self, paths: Sequence[Path]) -> Iterator[tuple[Path, int | Exception]]:
        """Yield each image's path with its number of cells, or with what went wrong."""
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            reading = deque((p, reader.submit(read_image, p)) for p in paths[:_AHEAD])
            rest = iter(paths[_AHEAD:])
            writing: deque[tuple[Path, Future[int]]] = deque()
            while reading:
                path, future = reading.popleft()
                reading.extend((p, reader.submit(read_image, p)) for p in islice(rest, 1))
                writing.append((path, self._through(path, future, writer)))
                while len(writing) > _AHEAD:
                    yield _settled(*writing.popleft())
            while writing:
                yield _settled(*writing.popleft())

    def _through(
        self, path: Path, reading: "Future[NDArray[Any]]", writer: ThreadPoolExecutor
    ) -> "Future[int]":
        """Run the network on an image that is being read; hand its maps to the writer."""
        try:
            image = reading.result()
            maps = self.segmenter.maps(image, channel=self.channel)
        except (ValueError, OSError, MemoryError) as error:
            failed: Future[int] = Future()
            failed.set_exception(ValueError(str(error)))
            return failed
        return writer.submit(self._finish, path, image, maps)

    def _finish(self, path: Path, image: NDArray[Any], maps: Maps) -> int:
        found = self.segmenter.decode(maps, image.shape[:2])
        cells = (found.labels, found.confidence)
        write_prediction(self.out, stem(path), image, cells, self.save, path.name)
        return len(found.confidence)


def _settled(path: Path, future: "Future[int]") -> tuple[Path, int | Exception]:
    """Return the result, or what is wrong with this one image; a full disk ends the run."""
    try:
        return path, future.result()
    except (ValueError, MemoryError) as error:
        return path, error


def _check_names(paths: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(stem(path), path)
        if other != path:
            raise ValueError(
                f"{other} and {path} would both be written as '{stem(path)}': "
                "rename one, or give them to two runs with folders of their own"
            )
