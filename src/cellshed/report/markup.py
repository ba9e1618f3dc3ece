"""HTML built from nested calls: text is escaped unless it is HTML already."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TypeAlias


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = str | int | Iterable["Child"] | None
_VOID = {"br", "img", "input", "meta"}


def tag(name: str, *children: Child, **attributes: str | int | None) -> Html:
    """Return an element.

    Args:
        name: of the element.
        children: text, which is escaped; Html; None, which is left out; or a sequence of these.
        attributes: escaped; an underscore at the end of a name is dropped, others become hyphens.
            None leaves the attribute out.
    """
    listed = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{listed}>")
    return Html(f"<{name}{listed}>{join(children)}</{name}>")


def join(children: Child) -> Html:
    """Return children one after another, as `tag` takes them."""
    if children is None:
        return Html("")
    if isinstance(children, Html):
        return children
    if isinstance(children, str | int):
        return Html(escape(str(children)))
    return Html("".join(join(child) for child in children))


def table(
    head: Sequence[Child], rows: Iterable[Sequence[Child]], class_: str | None = None
) -> Html:
    """Return a table whose first column names the rows; it scrolls by itself if it is wide."""
    top = tag("tr", [tag("th", cell, scope="col") for cell in head])
    body = [
        tag("tr", tag("th", first, scope="row"), [tag("td", cell) for cell in rest])
        for first, *rest in rows
    ]
    return tag(
        "div",
        tag("table", tag("thead", top), "\n", tag("tbody", [(row, "\n") for row in body])),
        class_=f"wide {class_}" if class_ else "wide",
        tabindex=0,
    )


def number(value: float | None, ends: Sequence[float] | None = None) -> Html:
    """Return a count or a score with 3 decimals, and its interval in small print."""
    if value is None:
        return Html("&ndash;")
    text = f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
    return join([text, tag("small", f"{ends[0]:.3f}\u2013{ends[1]:.3f}") if ends else None])
