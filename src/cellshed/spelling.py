"""The remedy for a name that isn't known."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the words " - did you mean 'x'?" for the nearest known name, or all names."""
    known = sorted(known)
    spelling = {word.lower(): word for word in known}
    close = difflib.get_close_matches(name.lower(), spelling, n=1)
    if close:
        return f"did you mean '{spelling[close[0]]}'?"
    return f"known: {', '.join(known)}"
