"""Who is there, who was asked and who has answered, as it happens: ``live.jsonl`` of a run.

A line for each change. Unlike ``rounds.jsonl`` it is not waited for on the disk: it is to be seen
while a run goes on, and nothing is computed from it.
"""

import contextlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caafp_app.runs.observer import Observer

LIVE = "live.jsonl"
_MOST_REASON = 300
_MOST_BYTES = 256 * 1024 * 1024
_NO_LINE = (ValueError, TypeError, KeyError, AttributeError, OverflowError)


@dataclass
class Device:
    """A client as the server last saw it.

    `node` is the id of its SuperNode (0: unknown), and `there` whether that is connected. It was
    `seen` last at so many seconds since 1970. `asked`: it is among those that were asked last;
    `answered`: whether it did that well (None: not yet). `failures` are refused answers, for the
    last `reason`, and missing ones. `accuracy` is of the model that it received last; `nbytes` were
    sent to it and received from it, since the run was started or resumed.
    """

    label: str
    node: int = 0
    there: bool = False
    seen: float | None = None
    asked: bool = False
    answered: bool | None = None
    reason: str = ""
    failures: int = 0
    accuracy: float | None = None
    nbytes: int = 0

    def state(self, now: float, deadline: float) -> str:
        """Return one word or two for what it is doing."""
        if not self.asked:
            return "waits" if self.there else "away"
        if self.answered is not None:
            return "answered" if self.answered else "failed"
        return "missed" if deadline and now > deadline else "works" if self.there else "away"


@dataclass
class Live:
    """What the lines say so far: of the exchange that goes on, or was the last, and the devices.

    `deadline` is when answers are no longer waited for, in seconds since 1970 (0: never). `ended`
    says why the server ended the run early; "" for a run that came to its end, None before it.
    """

    phase: str = ""
    round: int = 0
    deadline: float = 0.0
    devices: dict[str, Device] = field(default_factory=dict)
    ended: str | None = None

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one line; one that is not of `LiveLog` raises an error of `_NO_LINE`."""
        when = _seconds(event["t"])
        self.ended = None  # a run may go on after its end
        match event.get("event"):
            case "present":
                for label, node in event["joined"].items():
                    device = self._device(label)
                    device.node, device.there, device.seen = int(node), True, when
                for label in event["left"]:
                    self._device(label).there = False
            case "asked":
                self.phase, self.round = str(event["phase"]), int(event["round"])
                self.deadline = _seconds(event["deadline"])
                asked = set(event["labels"])
                for device in self.devices.values():
                    if device.asked and device.answered is None:
                        device.failures += 1
                    device.asked = device.label in asked
                    device.answered = None
                for label in asked:
                    self._device(label).asked = True
            case "answer":
                device = self._device(event["label"])
                device.seen, device.answered = when, bool(event["ok"])
                device.reason = "" if event["ok"] else str(event["reason"])
                device.failures += not event["ok"]
                device.accuracy = _share(event.get("accuracy"), device.accuracy)
                device.nbytes = int(event.get("bytes", device.nbytes))
            case "ended":
                self.ended = str(event["reason"])

    def _device(self, label: object) -> Device:
        return self.devices.setdefault(str(label), Device(str(label)))


def _seconds(told: Any) -> float:
    seconds = float(told)
    if not math.isfinite(seconds):
        raise ValueError(f"expected seconds, found {seconds}")
    return seconds


def _share(told: Any, before: float | None) -> float | None:
    return float(told) if isinstance(told, int | float) and 0 <= told <= 1 else before


class LiveLog(Observer):
    """Appends to the ``live.jsonl`` of a run directory."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LIVE
        self._present: dict[str, int] = {}

    def on_present(self, nodes: Mapping[str, int]) -> None:
        """Note who is there, if that has changed: labels, and the ids of their nodes."""
        joined = {k: int(node) for k, node in nodes.items() if self._present.get(k) != node}
        left = sorted(self._present.keys() - nodes.keys())
        self._present = dict(nodes)
        if joined or left:
            self._write("present", joined=joined, left=left)

    def on_asked(self, labels: Sequence[str], phase: str, round: int, deadline: float) -> None:
        """Note who is asked, and until when their answers are waited for."""
        until = deadline if math.isfinite(deadline) else 0.0
        self._write("asked", labels=sorted(labels), phase=phase, round=round, deadline=until)

    def on_answer(
        self, label: str, ok: bool, reason: str = "", accuracy: float | None = None, nbytes: int = 0
    ) -> None:
        """Note that one has answered, and why its answer was refused if it was."""
        words: dict[str, object] = {"label": label, "ok": ok, "reason": reason[:_MOST_REASON]}
        if accuracy is not None:
            words["accuracy"] = round(accuracy, 4)
        if nbytes:
            words["bytes"] = nbytes
        self._write("answer", **words)

    def ended(self, reason: str = "") -> None:
        """Note that the server has ended the run; why, if it did so early."""
        self._write("ended", reason=reason)

    def _write(self, event: str, **words: object) -> None:
        line = json.dumps({"t": round(time.time(), 2), "event": event, **words})
        # A run does not end because it cannot be watched.
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


class LiveReader:
    """Reads a growing ``live.jsonl``, each line once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LIVE
        self._place = 0
        self.live = Live()

    def read(self) -> Live:
        """Take the lines that are new, and return what all say."""
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            file.seek(self._place)
            piece = file.read(_MOST_BYTES)
            whole = piece[: piece.rfind(b"\n") + 1]
            self._place += len(whole)
            for line in whole.splitlines():
                with contextlib.suppress(*_NO_LINE):
                    self.live.take(json.loads(line))
        return self.live
