"""How every benchmark takes its times."""

import time
from collections.abc import Callable
from typing import Any


def best_ms(
    function: Callable[[], Any],
    repeats: int,
    *,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the shortest of several runs by a clock, after one that may compile."""
    if warm_up:
        function()
    found = []
    for _ in range(repeats):
        start = clock()
        function()
        found.append(1e3 * (clock() - start))
    return min(found)
