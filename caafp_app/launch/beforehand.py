"""One check of all that can be known before a run starts: said once, not by every client."""

import importlib.util
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caafp_app.datasets.base import source_of
from caafp_app.datasets.survey import about_shape, survey, unread
from caafp_app.errors import CaafpError, RunError, SettingsError
from caafp_app.launch.effects import without_effect
from caafp_app.launch.environment import check_ray, check_system
from caafp_app.launch.plan import about_seats, count_supernodes
from caafp_app.registry import check_installed
from caafp_app.runs.trackers import require_trackers
from caafp_app.settings import Settings


@dataclass(frozen=True)
class Checked:
    """What was found of a run that can start.

    `clients` is None on real devices, and where data that is not yet downloaded will say it.
    `facts` describe the data in a line. `notes` are what is allowed and may be a mistake.
    """

    clients: int | None
    facts: str
    notes: list[str] = field(default_factory=list)


def check_simulation(
    settings: Settings,
    results: Path,
    supernodes: int | None = None,
    given: Collection[str] | None = None,
    *,
    fetch: bool = True,
) -> Checked:
    """Check a run of simulated clients on this machine. Nothing is started, made or changed.

    `settings` and `results` are from `placed`. `given` are the settings that the user named.
    Without `fetch` no data is downloaded: a note says what a run will download, and the rest is
    checked. Raises SettingsError, DataError or RunError.
    """
    ray = settings.run.engine == "ray"
    if ray:
        check_system()
        if importlib.util.find_spec("ray") is None:
            raise RunError(
                "engine 'ray' needs Ray, found none; install the extra 'simulation' (`pip install "
                '"caafp-app[simulation]"`, or `make setup` in a clone), set engine=batched, which '
                "needs none, or run on real devices by --superlink NAME"
            )
    for key, path in settings.paths():
        check_installed(key, path)
    source = source_of(settings.data.dataset)
    away = "" if fetch else source.to_fetch(settings.data)
    clients = supernodes
    if source.form_known or not away:
        clients = count_supernodes(settings, supernodes)
    if away:
        found = unread(settings.data, away)
    else:
        found = survey(settings.data, settings.data.known_clients or clients or 0)
    require_trackers(settings.run.trackers)
    _check_device(settings)
    if found.shape is not None:
        _check_network(settings, found.shape, found.classes)
    unused = _check_strategy(settings)
    if settings.rounds.unseen_users and found.labels:
        _check_unseen(settings, [one for one in found.labels[:clients] if one], unused)
    if settings.run.resume_from:
        from caafp_app.runs.checkpoint import FOLDER, Checkpoints
        from caafp_app.server_app import terms_of

        # As the server will: it may have ended, or have other settings.
        Checkpoints(results / FOLDER, terms=terms_of(settings)).load()
    else:
        check_writable("output-dir", results.parent)
    if ray:
        check_ray(os.environ)
    notes = [*found.notes, *without_effect(settings, unused, clients, given)]
    if supernodes is not None and not away:
        notes += about_seats(settings, supernodes)
    return Checked(clients, found.facts, notes)


def check_deployment(settings: Settings, given: Collection[str] | None = None) -> Checked:
    """Check what can be known here of a run on real devices, with the errors of `check_simulation`.

    Their data, and the folders of the server, are elsewhere.
    """
    if settings.run.engine != "ray":
        raise SettingsError(
            f"engine: {settings.run.engine!r} is for simulations; expected --superlink or the "
            "engine, found both"
        )
    ours = not any(settings.paths())  # parts of other packages may be on the server alone
    unused = _check_strategy(settings) if ours else ()
    notes = without_effect(settings, unused, given=given)
    shape, classes = settings.data.shape, 0
    if settings.data.dataset in ("folder", "synthetic", "digits", "uci-har", "wisdm"):
        from caafp_app.datasets.resolve import data_shape

        form = data_shape(settings.data)
        shape, classes = form.input_shape, len(form.class_names)
    if shape is not None and classes:
        notes += about_shape(shape)
        if ours:
            _check_network(settings, shape, classes)
    return Checked(None, f"windows of {shape}, on the devices" if shape else "", notes)


def check_node(settings: Settings, shape: tuple[int, ...], classes: int) -> list[str]:
    """Check on a device what a run will ask of it, for windows of `shape`; return notes."""
    _check_device(settings)
    _check_network(settings, shape, classes)
    return about_shape(shape)


def _check_device(settings: Settings) -> None:
    device = settings.train.device
    if device == "cpu":
        return
    import torch

    there = torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()
    if not there:
        raise SettingsError(
            f"device: expected {device} on this machine, found none that torch {torch.__version__} "
            "can use; use device=cpu, or install a torch for this GPU"
        )


def _check_network(settings: Settings, shape: tuple[int, ...], classes: int) -> None:
    import torch

    from caafp_app.models import build_model

    name = settings.model.model
    try:
        model = build_model(name, shape, classes, settings.run.seed).eval()
        with torch.no_grad():
            logits = model(torch.zeros(2, *shape))
    except CaafpError as error:
        raise SettingsError("; ".join([str(error), *about_shape(shape)])) from error
    except Exception as error:  # whatever torch or a network of another package raises
        raise SettingsError(
            f"model: expected {name} to take windows of shape {shape}, found: {error}"
        ) from error
    if tuple(logits.shape) != (2, classes):
        raise SettingsError(
            f"model: expected {name} to return {classes} numbers for each window of shape {shape}, "
            f"found an output of shape {tuple(logits.shape)} for two"
        )


def _check_strategy(settings: Settings) -> tuple[str, ...]:
    """Make the strategy and its plan; return the settings that it has no argument for."""
    from caafp_app.strategies.factory import check_strategy, unused_settings

    check_strategy(settings)
    return unused_settings(settings.run.strategy)


def _check_unseen(settings: Settings, labels: Sequence[str], unused: Collection[str]) -> None:
    """Draw the users to keep out, as the server will, and look whether enough are left."""
    from caafp_app.strategies.unseen import draw_unseen

    asked, clusters = settings.rounds.unseen_users, settings.clustering.fixed
    left = len(labels) - len(draw_unseen(asked, sorted(labels), settings.run.seed))
    if clusters > left and "clusters" not in unused:
        raise SettingsError(
            f"clusters: expected at most the {left} clients that unseen-users={asked} leaves, "
            f"found {clusters}"
        )


def check_writable(key: str, folder: Path) -> None:
    """Look whether a folder is there, or can be made, and can be written to; else SettingsError."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        reason = f"{place} is a file"
    elif not os.access(place, os.W_OK | os.X_OK):
        reason = f"{place} cannot be written to"
    else:
        return
    raise SettingsError(f"{key}: expected a folder that can be written, found {folder}: {reason}")
