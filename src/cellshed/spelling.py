"""Words of messages: numbers of things, and the remedy for a name that isn't known."""

import difflib
from collections.abc import Iterable, Sequence


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the words " - did you mean 'x'?" for the nearest known name, or all names."""
    known = sorted(known)
    spelling = {word.lower(): word for word in known}
    close = difflib.get_close_matches(name.lower(), spelling, n=1)
    if close:
        return f"did you mean '{spelling[close[0]]}'?"
    return f"known: {', '.join(known)}"


def listed(numbers: Sequence[float]) -> str:
    """Return words such as "1, 0.75 and 0.5", numbers to three digits."""
    *others, last = [f"{number:.3g}" for number in numbers]
    return f"{', '.join(others)} and {last}" if others else last


def counted(number: int, thing: str) -> str:
    """Return words such as "1 image" or "1,200 images"."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
