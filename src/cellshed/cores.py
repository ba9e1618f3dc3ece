"""What this machine's processors are."""

import os
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def usable_cores() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_multiplies_bf16() -> bool:
    """Return whether the processor has matrix units for bf16 (Intel's AMX).

    Known on Linux alone, and without importing torch. Others that compute in bf16 by their vector
    units alone gain less, or nothing.
    """
    try:
        flags = _CPUINFO.read_text("utf-8", errors="replace")
    except OSError:
        return False
    return "amx_bf16" in flags.split()
