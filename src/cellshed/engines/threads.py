"""How many threads an engine may use."""

import os


def threads() -> int:
    """Return OMP_NUM_THREADS, which torch obeys too, else the number of usable processors."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
