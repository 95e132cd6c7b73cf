"""The second model of a device, trained beside its cluster's, on its disk: of one run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from caafp_app.errors import RunError
from caafp_app.runs.tensors import PRIVATE, read_tensors, write_tensors

OWN_FILE = "own.safetensors"
_MAX_BYTES = 2**30


def keep_own(state: Path, arrays: Mapping[str, NDArray[Any]], run: str) -> None:
    """Write the model of a run into a ``state-dir``, for its owner alone; or raise RunError."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_tensors(state / OWN_FILE, arrays, {"run": run}, mode=PRIVATE)
    except (OSError, RunError) as error:
        raise RunError(
            f"state-dir {state}: expected to keep this device's own model there, found: {error}"
        ) from error


def load_own(state: Path, run: str) -> dict[str, NDArray[Any]]:
    """Return what `keep_own` wrote for this run; empty if there is none, or it is damaged."""
    try:
        arrays, told = read_tensors(state / OWN_FILE, limit=_MAX_BYTES)
    except RunError:
        return {}
    return arrays if told.get("run") == run else {}
