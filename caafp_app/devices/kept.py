"""The personal models that a device keeps: one of each run, and which of them is served.

::

    <state-dir>/served.json              which one, and who chose it
    <state-dir>/<run>/personal.safetensors  personal.json

A new model never takes another's place in silence: all are scored on the windows that the device
holds out today, and the best one is served, unless the operator chose one (``caafp personal use``).
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from caafp_app.datasets.resolve import NodeConfig
from caafp_app.devices.personal import MODEL, Card, keep_personal, load_personal
from caafp_app.errors import CaafpError, DataError, SettingsError, reading
from caafp_app.runs.files import write_json
from caafp_app.runs.place import check_name, default_home

SERVED = "served.json"
BEST = "best"
KEPT = 5
"""Runs whose models are kept, where the node-config has no ``keep-personal``."""

Arrays = Mapping[str, NDArray[Any]]
Score = Callable[[Arrays, Card], float | None]
"""Accuracy on the windows held out today, or None where the model takes others."""


@dataclass(frozen=True)
class Kept:
    """A model that is kept, by its run's id."""

    run: str
    folder: Path
    card: Card
    served: bool


def state_folder(node_config: NodeConfig, label: str) -> Path | None:
    """Return where a device keeps what it learnt; None for a simulated client."""
    if "data-path" not in node_config:
        return None
    told = str(node_config.get("state-dir", ""))
    return Path(told).expanduser() if told else default_states() / label


def default_states() -> Path:
    """Return the folder of the devices' folders, the same for a SuperNode and ``caafp predict``."""
    return default_home() / "personal"


def the_only_state() -> Path:
    """Return the one folder that `default_states` has, or raise DataError."""
    states = default_states()
    found = sorted({path.parent.parent for path in states.glob(f"*/*/{MODEL}")})
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(
            f"{states}: expected the personal models of one device, found {names}; say which by "
            "--state-dir, or take a run's models by --models"
        )
    return found[0]


def how_many(node_config: NodeConfig) -> int:
    """Return ``keep-personal`` of a node-config: runs whose models are kept, or SettingsError."""
    told = node_config.get("keep-personal", KEPT)
    if isinstance(told, bool) or not isinstance(told, int) or told < 1:
        raise SettingsError(f"keep-personal: expected a whole number of at least 1, found {told!r}")
    return told


def list_kept(state: Path) -> list[Kept]:
    """Return the models of a ``state-dir``, the oldest first; what cannot be read is left out."""
    served = _told(state).get("run")
    found = []
    for path in state.glob(f"*/{MODEL}"):
        try:
            card = load_personal(path.parent)[1]
        except DataError:
            continue
        name = path.parent.name
        found.append(Kept(name, path.parent, card, name == served))
    return sorted(found, key=lambda kept: (kept.card.written, kept.run))


def find_kept(state: Path, run: str = "") -> Kept:
    """Return one model: of a run by its id or name, or the one that is served.

    Raises DataError if there is none, or several runs have that name.
    """
    kept = list_kept(state)
    if run:
        found = [one for one in kept if run in (one.run, one.card.run_name)]
    else:
        found = [one for one in kept if one.served] or kept[-1:]
    if len(found) == 1:
        return found[0]
    if not kept:
        raise DataError(
            f"{state}: expected the personal model of this device, found nothing; a run leaves it "
            "after its personalise phase, in the state-dir of the SuperNode's node-config; a "
            "device that took no part predicts by a copy of a run directory: caafp predict --models"
        )
    known = ", ".join(f"{one.run} {one.card.run_name}".strip() for one in kept)
    raise DataError(
        f"{state}: expected one model of run {run!r}, found {len(found)}; there are: {known}"
    )


def keep(state: Path, arrays: Arrays, card: Card, score: Score, most: int = KEPT) -> str:
    """Keep the model of a run, serve the best one, and remove the oldest; say what was done.

    `score` is of any kept model on today's windows. Of `most` models that stay the served one and
    the new one are two in any case. Raises RunError if the folder cannot be written to.
    """
    run = check_name(card.run, "the id of a run")
    before = next((one for one in list_kept(state) if one.served), None)
    keep_personal(state / run, arrays, card)
    told = _told(state)
    said = [f"kept the personal model in {state / run}{_percent(card.personal_accuracy)}"]
    if told.get("by") == "operator" and before is not None:
        said.append(f"served stays run {before.run}, which the operator chose")
    else:
        said.append(_serve_best(state, before, score))
    said += _prune(state, run, most)
    return "; ".join(said)


def use(state: Path, run: str) -> Kept:
    """Serve the model of a run from now on; `BEST` lets the next run choose again.

    Raises DataError if there is no such model.
    """
    if run == BEST:
        kept = find_kept(state)
        _write(state, kept.run, "accuracy")
        return kept
    kept = find_kept(state, run)
    _write(state, kept.run, "operator")
    return kept


def _serve_best(state: Path, before: Kept | None, score: Score) -> str:
    """Choose by accuracy on today's windows; of equal ones the newest, which knows the most."""
    scored: list[tuple[float, int, Kept]] = []
    for place, kept in enumerate(list_kept(state)):
        # One that this version cannot build, of another network, is not served and does no harm.
        with contextlib.suppress(CaafpError), reading(kept.folder, DataError):
            accuracy = score(load_personal(kept.folder)[0], kept.card)
            if accuracy is not None:
                scored.append((accuracy, place, kept))
    if not scored:
        newest = list_kept(state)[-1]
        _write(state, newest.run, "accuracy")
        return f"serves run {newest.run}, the newest: there are no windows to judge by"
    best, _, kept = max(scored, key=lambda one: one[:2])
    _write(state, kept.run, "accuracy")
    if before is None or before.run == kept.run:
        verb = "serves" if before is None else "still serves"
        return f"{verb} run {kept.run}{_percent(best)}"
    others = {one.run: accuracy for accuracy, _, one in scored}
    return f"serves run {kept.run}{_percent(best)} in place of run {before.run}" + _percent(
        others.get(before.run)
    )


def _prune(state: Path, new: str, most: int) -> list[str]:
    kept = list_kept(state)
    spare = [one for one in kept if not one.served and one.run != new]
    gone = spare[: max(len(kept) - most, 0)]
    for one in gone:
        shutil.rmtree(one.folder, ignore_errors=True)
    return [f"removed run {one.run}, the oldest" for one in gone]


def _told(state: Path) -> dict[str, Any]:
    try:
        told = json.loads((state / SERVED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _write(state: Path, run: str, by: str) -> None:
    write_json(state / SERVED, {"run": run, "by": by}, private=True)


def _percent(accuracy: float | None) -> str:
    return "" if accuracy is None else f" ({100 * accuracy:.1f} % of today's held-out windows)"
