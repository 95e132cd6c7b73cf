"""The process that forks: imports what every message needs, then waits for tasks as a SuperExec."""

import argparse
import gc
import importlib
import logging
import os
from collections.abc import Sequence
from typing import Any

from caafp_app.devices.warm.task import end_with_parent

POLL_SECONDS = "0.2"
"""Between two questions to the SuperNode, on this machine, while a run goes on."""
_POLL = "FLWR_SUPEREXEC_TASK_POLL_INTERVAL"
_IMPORTED = (
    "numpy",
    "torch",
    "caafp_app.client_app",
    "caafp_app.datasets.folder",
    "caafp_app.devices.personal",
    "caafp_app.models.registry",
    "caafp_app.training",
    "flwr.supernode.runtime.run_clientapp",
)


def preload() -> None:
    """Import what a message of our app needs, and keep it shared between the forks.

    Nothing is computed: threads that libraries start for that would not live in a fork.
    """
    for name in _IMPORTED:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    gc.collect()
    # Objects that the collector does not visit stay in pages that the forks share.
    gc.freeze()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve one SuperNode until it ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime-api-address", required=True)
    parser.add_argument("--insecure", action="store_true")
    parser.add_argument("--root-certificates")
    parser.add_argument("--superexec-auth-secret-file")
    parser.add_argument("--memory", type=float)
    chosen = parser.parse_args(arguments)
    os.environ.setdefault(_POLL, POLL_SECONDS)
    end_with_parent()  # also one that waits for a SuperNode that is gone
    preload()

    from flwr.supercore.auth import load_superexec_auth_secret

    from caafp_app.devices.warm.executor import ForkExecutor

    flower: Any = importlib.import_module("flwr.supercore.superexec.run_superexec")
    executor = ForkExecutor(chosen.memory)
    flower.get_executor = lambda *_, **__: executor
    secret = chosen.superexec_auth_secret_file
    logging.getLogger("flwr").info("warm: torch and the app are imported; tasks are forked")
    flower.run_superexec(
        runtime_api_address=chosen.runtime_api_address,
        insecure=chosen.insecure,
        root_certificates_path=chosen.root_certificates,
        superexec_auth_secret=load_superexec_auth_secret(secret_file=secret) if secret else None,
    )


if __name__ == "__main__":
    main()
