"""Whether the installed Flower still has what a warm device builds on."""

import importlib
import inspect
import os
from collections.abc import Callable
from typing import Any

_RUN = "flwr.supernode.runtime.run_clientapp"
_NEEDED: dict[str, tuple[str, ...]] = {
    "flwr.supercore.superexec.run_superexec:run_superexec": (
        "runtime_api_address",
        "insecure",
        "root_certificates_path",
        "superexec_auth_secret",
    ),
    "flwr.supercore.superexec.run_superexec:get_executor": ("executor_type",),
    "flwr.supercore.superexec.executor:SubprocessExecutor.launch": ("spec",),
    "flwr.supercore.superexec.executor:LaunchResult.accepted": (),
    "flwr.supercore.constant:TaskType.CLIENT_APP": (),
    f"{_RUN}:run_clientapp": (
        "runtime_api_address",
        "token",
        "insecure",
        "certificates",
        "parent_pid",
        "runtime_dependency_install",
    ),
    f"{_RUN}:pull_task_input": ("client",),
    f"{_RUN}:push_message": ("client", "message", "context"),
    f"{_RUN}:push_task_output": ("client", "context", "sub_status", "details"),
    "flwr.supercore.exit.exit_handler:registered_exit_handlers": (),
    "flwr.supernode.cli:flower_supernode": (),
}
"""Names, and the parameters that are used of those that are functions."""


def why_not_warm() -> str:
    """Return why this Flower, or this system, cannot fork tasks; empty where it can."""
    if not hasattr(os, "fork"):
        return "this operating system has no fork"
    for place, parameters in _NEEDED.items():
        try:
            found = _resolve(place)
        except (ImportError, AttributeError) as error:
            return f"this version of Flower has no {place} ({error})"
        if parameters and (missing := set(parameters) - parameters_of(found)):
            return f"{place} of this version of Flower takes no {', '.join(sorted(missing))}"
    return ""


def _resolve(place: str) -> Any:
    module, _, path = place.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def parameters_of(function: Callable[..., Any]) -> set[str]:
    """Return the names of a function's parameters."""
    return set(inspect.signature(function).parameters)
