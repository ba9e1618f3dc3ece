"""The page's pictures: the best and worst images, and close-ups of the worst mistakes."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from cellshed.report.markup import Html, join, tag
from cellshed.report.overlay import EXTRA, MATCHED, MISSED, Rgb
from cellshed.report.results import Result, Tree

KINDS = {
    "worst": "Worst images",
    "best": "Best images",
    "missed": "Missed: true cells that were not found",
    "extra": "Extra: predicted cells that are none",
    "split": "Split: one true cell found as several",
    "merge": "Merged: several true cells found as one",
}
_WHOLE = ("worst", "best")


def pictures(results: Sequence[Result]) -> Html:
    """Return all pictures by their kind, with what the colours mean."""
    parts = []
    for kinds, note in ((_WHOLE, _outcome_legend()), (KINDS.keys() - set(_WHOLE), _closeup_note())):
        shown = [_of_kind(results, kind) for kind in KINDS if kind in kinds]
        if any(shown):
            parts += [note, *shown]
    return join(parts)


def _of_kind(results: Sequence[Result], kind: str) -> Html:
    shown = []
    for result in results:
        for entry, path in result.pictures():
            if entry["kind"] == kind:
                where = f"{result.name}: {entry['image']}" if len(results) > 1 else entry["image"]
                shown.append(_figure(path, where, entry))
    if not shown:
        return Html("")
    gallery = tag("div", shown, class_="gallery large" if kind in _WHOLE else "gallery")
    return join([tag("h3", KINDS[kind]), gallery])


def _figure(path: Path, where: str, entry: Tree) -> Html:
    caption = str(entry.get("caption", ""))
    return tag(
        "figure",
        tag("img", src=_embed(path), alt=f"{where}: {caption}", loading="lazy", tabindex=0),
        tag("figcaption", tag("b", where), " ", caption),
    )


def _embed(path: Path) -> str:
    """Return a picture as a data address: as it is, or as JPEG where that is far smaller."""
    from PIL import Image, UnidentifiedImageError

    data, kind = path.read_bytes(), "png"
    try:
        with Image.open(io.BytesIO(data)) as picture:
            kind = (picture.format or "png").lower()
            packed = io.BytesIO()
            picture.convert("RGB").save(packed, "jpeg", quality=88, subsampling=0)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path}: damaged ({error}); evaluate again") from error
    if len(packed.getvalue()) < 0.6 * len(data):
        data, kind = packed.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _outcome_legend() -> Html:
    words = ((MATCHED, "found"), (MISSED, "missed: true outline"), (EXTRA, "extra: predicted"))
    swatches = [tag("span", _swatch(color), word) for color, word in words]
    return tag("p", swatches, tag("span", "at IoU 0.5"), class_="legend")


def _swatch(color: Rgb) -> Html:
    red, green, blue = (int(part) for part in color)
    return tag("i", style=f"background: rgb({red}, {green}, {blue})")


def _closeup_note() -> Html:
    text = (
        "Close-ups show the image, the true outlines (white) and the predicted outlines "
        "(coloured), from left to right; outlines of other cells are dim."
    )
    return tag("p", text, class_="note")
