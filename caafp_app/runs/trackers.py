"""Trackers: observers that record a run for a tool that people know; the setting ``track``.

A tracker is an `Observer` whose constructor takes the run directory and the settings. One of your
own (docs/python.md) has a name such as ``track="my_tracker:WandbObserver"``, or one by an entry
point in the group ``caafp_app.trackers``.
"""

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path

from caafp_app.errors import RunError, SettingsError
from caafp_app.registry import TRACKERS
from caafp_app.runs.observer import Observer


def require_trackers(names: Iterable[str]) -> None:
    """Look for what each tracker needs, before a run is started that will use it.

    Raises RunError if a package is not installed, SettingsError if there is no such tracker.
    """
    for name in names:
        package = _tracker(name).package
        if package and importlib.util.find_spec(package) is None:
            extra = f'"caafp-app[{name}]"' if name in TRACKERS.builtin else package
            raise RunError(
                f"track={name} needs the package {package}, found none; install it by `pip install "
                f"{extra}`, or leave the setting out"
            )


def make_trackers(
    names: Iterable[str], run: Path, settings: Mapping[str, object]
) -> list[Observer]:
    """Return the trackers of these names, for a run directory and the settings of the run."""
    return [_tracker(name)(run, settings) for name in names]  # type: ignore[call-arg]


def _tracker(name: str) -> type[Observer]:
    found = TRACKERS[name]
    if not isinstance(found, type) or not issubclass(found, Observer):
        raise SettingsError(
            f"track: expected a subclass of caafp_app.runs.observer.Observer at {name!r}, "
            f"found {found!r}"
        )
    return found
