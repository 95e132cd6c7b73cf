"""What a pool's processes are forked from, started before anything else: it takes longest."""

import sys
from collections.abc import Mapping

FORKS = sys.platform != "win32"


def wants_pool(config: Mapping[str, object]) -> bool:
    """Tell from flat settings whether clients will run in a pool of processes."""
    return config.get("engine") == "batched" and config.get("device", "cpu") == "cpu"


def start_early() -> None:
    """Start a process that imports torch, and from which those of a `pool.Pool` are forked.

    It is a process of its own, because one of the run may have threads, which a fork does not
    survive. It ends with this process. `pool.Pool` calls this too.
    """
    if FORKS:
        from multiprocessing import forkserver

        forkserver.set_forkserver_preload(["caafp_app.engine.answer"])
        forkserver.ensure_running()
