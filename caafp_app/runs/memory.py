"""Memory of this process, as the operating system counts it."""

import contextlib
import os
import sys
from pathlib import Path

_STATM = Path("/proc/self/statm")
_STATUS = Path("/proc/self/status")


def current_memory_mb() -> float | None:
    """Return the resident memory now in MB (10^6 bytes); None where /proc is not there."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_memory_mb() -> float | None:
    """Return the largest resident memory so far in MB (10^6 bytes); None where unknown."""
    # Where there is /proc: what getrusage says counts the parent's, up to the exec.
    with contextlib.suppress(OSError, IndexError, ValueError):
        told = _STATUS.read_text(encoding="ascii", errors="replace").partition("VmHWM:")[2]
        return int(told.split()[0]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows has no such module.
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return float(peak if sys.platform == "darwin" else peak * 1024) / 1e6
