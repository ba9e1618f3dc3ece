"""How every benchmark takes its times."""

import time
from collections.abc import Callable
from typing import Any


def best_ms(function: Callable[[], Any], repeats: int, *, warm_up: bool = True) -> float:
    """Return the shortest of several runs, after one that may compile."""
    if warm_up:
        function()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        found.append(1e3 * (time.perf_counter() - start))
    return min(found)
