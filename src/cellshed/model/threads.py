"""Compiled loops on as many threads as torch uses."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch


def each(call: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
    """Call a function, which lets go of the interpreter's lock, with each of some arguments."""
    threads = torch.get_num_threads()
    if threads == 1:
        for values in arguments:
            call(*values)
    else:
        list(_pool(threads).map(lambda values: call(*values), arguments))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="cellshed-model")
