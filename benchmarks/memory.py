"""Peak memory of one process: what its own image reached, not what its parent had."""

from pathlib import Path

from caafp_app.runs.memory import peak_memory_mb

_STATUS = Path("/proc/self/status")


def peak_mb() -> float:
    """Return the largest resident memory of this process so far, in MB (10^6 bytes).

    Linux carries ``ru_maxrss`` over from the process that started this one; ``VmHWM`` starts anew.
    """
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return peak_memory_mb() or 0.0
    sizes = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(sizes[0]) * 1024 / 1e6 if sizes else peak_memory_mb() or 0.0
