"""Many images segmented one after another: reading, network, decoding and writing overlap."""

import errno
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cellshed.data.images import list_images, read_image
from cellshed.normalize import as_channels
from cellshed.outputs import (
    KINDS,
    check_kinds,
    claim,
    forget_outdated,
    is_done,
    is_result,
    names_of_results,
    write_prediction,
    write_summary,
)
from cellshed.predict import Segmenter, load_model
from cellshed.progress import Progress
from cellshed.rivals import View
from cellshed.sources import Source, source_of, told_apart
from cellshed.spelling import counted, listed

_AHEAD = 2
"""Images read before the network needs them, and images decoded and written behind it."""


@dataclass(frozen=True)
class Done:
    """What is known of an image once its results are written."""

    cells: int
    scales: tuple[float, ...]
    """At which it was seen."""


@dataclass
class Summary:
    """What became of the images."""

    done: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)
    """Those done in which no cell was found."""
    scales: Counter[tuple[float, ...]] = field(default_factory=Counter)
    """At which images were seen, and how many were seen so."""
    cells: int = 0
    seconds: float = 0.0

    def add(self, path: Path, done: Done) -> None:
        """Note an image that is done."""
        self.done.append(path)
        self.cells += done.cells
        self.scales[done.scales] += 1
        if done.cells == 0:
            self.empty.append(path)

    def text(self) -> str:
        """Return one line for people."""
        parts = [f"{counted(len(self.done), 'image')} segmented", counted(self.cells, "cell")]
        if self.done and self.seconds:
            rate = len(self.done) / self.seconds
            slow = rate < 0.1  # as mosaics are
            parts.append(f"{1 / rate:.0f} s an image" if slow else f"{rate:.2f} images a second")
        if self.skipped:
            parts.append(f"{len(self.skipped)} skipped, they were there already")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        return ", ".join(parts)

    def looks(self) -> str:
        """Return at which scales the images were seen; nothing, if all were at the same."""
        if len(self.scales) < 2:
            return ""
        parts = [f"{listed(s)} in {counted(n, 'image')}" for s, n in self.scales.most_common()]
        return f"seen at scale {'; '.join(parts)}"

    def warnings(self) -> list[str]:
        """Return what people should know beside, one line each."""
        lines = [f"{path}: {reason.removeprefix(f'{path}: ')}" for path, reason in self.failed]
        if self.empty:
            lines.append(
                f"no cell found in {len(self.empty)} of {counted(len(self.done), 'image')}, "
                f"first {self.empty[0]}: if there are any, try --diameter PIXELS, another "
                "--model (cellshed models), or --set decode.confidence_threshold=0"
            )
        return lines


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
    there already, made from the same file by this model with these settings, are skipped; one
    whose file has changed is done again. Results in the folder aren't taken for images.

    Images of one name in several folders are called by their folders too.

    Args:
        inputs: files, patterns or folders.
        out: folder for labels/, overlay/, coco.json and cells.csv.
        model: a Segmenter, or what load_model takes.
        save: kinds of output.
        channel: the one channel to use, counted from 0.
        overwrite: do again what is there already, whatever made it.
        progress: called with (images finished, images in all).

    Raises:
        ValueError: no images, unknown kinds of output, two images of one name in one folder, or an
            `out` with results of another model or other settings, or with files that aren't
            results.
    """
    save, out = check_kinds(save), Path(out)
    sources = _sources(inputs, out)
    segmenter = model if isinstance(model, Segmenter) else load_model(model)
    out.mkdir(parents=True, exist_ok=True)
    maker = segmenter.maker() | {"channel": channel}
    claim(out, maker, [source.name for source in sources], overwrite=overwrite)
    summary = Summary()
    todo = []
    for source in sources:
        if overwrite or not is_done(out, source, save):
            todo.append(source)
        else:
            summary.skipped.append(source.path)
    began = time.monotonic()
    for source, result in _Run(segmenter, out, save, channel).over(todo):
        if isinstance(result, Exception):
            forget_outdated(out, source)
            summary.failed.append((source.path, str(result)))
        else:
            summary.add(source.path, result)
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

    def over(self, sources: Sequence[Source]) -> Iterator[tuple[Source, Done | Exception]]:
        """Yield each image with what was found, or with what went wrong."""
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            reading = deque((s, reader.submit(read_image, s.path)) for s in sources[:_AHEAD])
            rest = iter(sources[_AHEAD:])
            writing: deque[tuple[Source, Future[Done]]] = deque()
            while reading:
                source, future = reading.popleft()
                reading.extend((s, reader.submit(read_image, s.path)) for s in islice(rest, 1))
                writing.append((source, self._through(source, future, writer)))
                while len(writing) > _AHEAD:
                    yield _settled(*writing.popleft())
            while writing:
                yield _settled(*writing.popleft())

    def _through(
        self, source: Source, reading: "Future[NDArray[Any]]", writer: ThreadPoolExecutor
    ) -> "Future[Done]":
        """Run the network on an image that is being read; hand its views to the writer."""
        try:
            image = reading.result()
            views = self.segmenter.views(image, channel=self.channel)
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            failed: Future[Done] = Future()
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            failed.set_exception(ValueError(reason))
            return failed
        return writer.submit(self._finish, source, image, views)

    def _finish(self, source: Source, image: NDArray[Any], views: Sequence[View]) -> Done:
        found = self.segmenter.decode(views, image.shape[:2])
        cells = (found.labels, found.confidence)
        seen = image if self.channel is None else as_channels(image)[:, :, self.channel]
        write_prediction(self.out, source, seen, cells, self.save)
        return Done(len(found.confidence), found.scales)


def _settled(source: Source, future: "Future[Done]") -> tuple[Source, Done | Exception]:
    """Return the result, or what is wrong with this one image; a full disk ends the run."""
    try:
        return source, future.result()
    except (ValueError, MemoryError) as error:
        return source, error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return source, ValueError("its name is too long for its results: give it a shorter one")


def _sources(inputs: Iterable[str | Path], out: Path) -> list[Source]:
    """List the images by what their results are called, without results that lie among them.

    These are of this folder or of any that says in MADE_BY what made it.

    Raises:
        ValueError: no images, or two whose results would have one name.
    """
    listed = {s.mark["path"]: s for s in map(source_of, list_images(inputs))}  # each file once
    sources = [s for path, s in listed.items() if not is_result(Path(path), out)]
    if not sources:
        raise ValueError(f"{out}: all images given are results in it; give others")
    return told_apart(sources, names_of_results(out))
