"""What there is to see of a run now, read from its folder alone."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from caafp_app.errors import RunError, reading
from caafp_app.runs.live import Device, LiveReader
from caafp_app.runs.reading import RunFiles, read_run
from caafp_app.runs.records import BETWEEN_ROUNDS
from caafp_app.runs.text import duration, megabytes
from caafp_app.runs.timeleft import TimeLeft

TROUBLES = 5


class DeviceRow(NamedTuple):
    """One client, in which cluster; what it is doing, and how many seconds ago it was seen."""

    device: Device
    cluster: str
    state: str = "-"
    seen: float | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the row under `HEADS`, as text of which clients wrote part."""
        one = self.device
        return (
            one.label,
            str(one.node or "-"),
            self.cluster or "-",
            self.state,
            "-" if self.seen is None else f"{duration(self.seen, rough=True)} ago",
            "-" if one.accuracy is None else f"{100 * one.accuracy:.1f} %",
            megabytes(one.nbytes) if one.nbytes else "-",
            str(one.failures),
            one.reason,
        )


HEADS = ("device", "node", "cluster", "now", "seen", "accuracy", "bytes", "failed", "reason")


class View(NamedTuple):
    """A moment of a run: the exchange that goes on, of how many rounds, and the devices by label.

    `finished`: the server has ended it, early for a `complaint`. `deadline` are the seconds until
    answers are no longer waited for (None: it is over, or there is none), `left` those that the
    rest of the run is expected to take. `accuracy` is of the last round that has one. `troubles`
    are sentences.
    """

    run: RunFiles
    finished: bool
    complaint: str
    phase: str
    round: int
    total: int
    answered: int
    asked: int
    deadline: float | None
    left: float | None
    accuracy: float | None
    bytes_total: int
    devices: list[DeviceRow]
    troubles: list[str]

    @property
    def headline(self) -> str:
        """One sentence: where the run is."""
        if self.complaint:
            return f"ended early: {self.complaint}"
        if self.finished:
            return f"finished after {self.total} rounds"
        if not self.phase:
            return "waits for the first devices"
        return (
            f"{self.phase}, round {self.round} of {self.total}: {self.answered} of {self.asked} "
            "answered"
        )


class Watcher:
    """Looks at a run directory again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._live = LiveReader(folder)

    def look(self, now: float | None = None) -> View:
        """Return what there is now; RunError if it is no run directory, or a file is damaged."""
        with reading(self.folder, RunError):
            return self._look(time.time() if now is None else now)

    def _look(self, now: float) -> View:
        run, live = read_run(self.folder), self._live.read()
        finished = run.finished or live.ended is not None
        last = run.rounds[-1] if run.rounds else {}
        total = len(run.plan.get("rounds", []))
        asked = [device for device in live.devices.values() if device.asked]
        answered = sum(device.answered is True for device in asked)
        waits = bool(asked) and any(device.answered is None for device in asked)
        clusters = cluster_of(run)
        rows = [
            DeviceRow(
                device,
                clusters.get(label, ""),
                "-" if finished else device.state(now, live.deadline),
                None if device.seen is None else max(now - device.seen, 0.0),
            )
            for label, device in sorted(live.devices.items())
        ]
        if not rows:
            rows = [DeviceRow(Device(label), k) for label, k in sorted(clusters.items())]
        accuracies = [float(r["accuracy"]) for r in run.rounds if r.get("accuracy") is not None]
        return View(
            run=run,
            finished=finished,
            complaint=live.ended or "",
            phase=live.phase or str(last.get("phase", "")),
            round=live.round or int(last.get("round", 0)),
            total=total,
            answered=answered if asked else int(last.get("answered", 0)),
            asked=len(asked) or int(last.get("asked", 0)),
            deadline=max(live.deadline - now, 0.0) if waits and live.deadline else None,
            left=None if finished else time_left(run),
            accuracy=accuracies[-1] if accuracies else None,
            bytes_total=sum(r["bytes_down"] + r["bytes_up"] for r in run.rounds),
            devices=rows,
            troubles=_troubles(run, rows),
        )


def cluster_of(run: RunFiles) -> dict[str, str]:
    """Return the cluster's number by the label of each client."""
    clusters: dict[str, Any] = run.clusters.get("clusters", {})
    return {
        str(label): str(number)
        for number, cluster in clusters.items()
        for label in cluster.get("members", [])
    }


def time_left(run: RunFiles) -> float | None:
    """Return the seconds that the rounds of the plan will still take; None: not known yet."""
    plan = [SimpleNamespace(**entry) for entry in run.plan.get("rounds", [])]
    left = TimeLeft(plan)
    done = 0
    for record in run.rounds:
        left.add(record["phase"], record["seconds"])
        if record["phase"] not in BETWEEN_ROUNDS:
            done = max(done, record["round"])
    return left.after(done)


def _troubles(run: RunFiles, rows: list[DeviceRow]) -> list[str]:
    """Say what went wrong, the last first: now, and in the rounds before."""
    said = [f"{row.device.label} has missed its deadline" for row in rows if row.state == "missed"]
    said += [f"{row.device.label} is away" for row in rows if row.state == "away"]
    for record in reversed(run.rounds):
        where = f"{record['phase']}, round {record['round']}"
        said += [f"{where}: {label} did not answer" for label in record.get("missing", [])]
        refused = record.get("refusals", {})
        said += [f"{where}: {label}: {reason}" for label, reason in refused.items()]
        if len(said) >= TROUBLES:
            break
    return said[:TROUBLES]
