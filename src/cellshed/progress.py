"""How far work is, and how long it takes."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Is told how many parts are done, and of how many."""


def duration(seconds: float) -> str:
    """Return a time such as 2 h 05 min, 3 min 20 s or 8 s; "?" for an infinite one."""
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
