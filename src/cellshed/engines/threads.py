"""How many threads an engine may use."""

import os

from cellshed.cores import usable_cores


def threads() -> int:
    """Return OMP_NUM_THREADS, which torch obeys too, else the number of usable processors."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    return usable_cores()
