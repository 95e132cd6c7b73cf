"""Observers: told of a run's plan, rounds, clusters and end; they never change it."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from caafp_app.runs import text
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.files import plain
from caafp_app.runs.records import RoundRecord, RunReport
from caafp_app.runs.report_text import report_lines
from caafp_app.runs.summary import build_summary
from caafp_app.runs.timeleft import RoundPlanLike, TimeLeft
from caafp_app.safe_text import printable

SO_FAR_SECONDS = 10.0
"""How long after the last word the log says how many clients of an exchange have answered."""


class Observer:
    """Base of observers: does nothing. Override what is of interest.

    `package` has to be installed for it; empty for none.
    """

    package: ClassVar[str] = ""

    def on_plan(self, plan: Sequence[RoundPlanLike], facts: Mapping[str, object]) -> None:
        """Take the plan of all rounds, and facts of the run by name, in the order to show them."""

    def on_round(self, record: RoundRecord, total_rounds: int) -> None:
        """Take one round, or another exchange, that has ended."""

    def on_distances(self, labels: Sequence[str], distances: NDArray[np.floating]) -> None:
        """Take the distances [n, n] between the clients' updates that are about to be clustered."""

    def on_clusters(self, labels: Mapping[str, int], note: str) -> None:
        """Take the cluster of each client label, and how it came about."""

    def on_present(self, nodes: Mapping[str, int]) -> None:
        """Take who is there: the id of its node by the label of each client; told on a change."""

    def on_asked(self, labels: Sequence[str], phase: str, round: int, deadline: float) -> None:
        """Take who is asked now, and until when answers are waited for (s since 1970; 0: ever)."""

    def on_answer(
        self, label: str, ok: bool, reason: str = "", accuracy: float | None = None, nbytes: int = 0
    ) -> None:
        """Take that one has answered, and why its answer is refused if it is.

        `accuracy` is of the model that it received; `nbytes` were exchanged with it so far.
        """

    def on_key(self, label: str, key: str) -> None:
        """Take the public key, in OpenSSH's form, that a label belongs to from now on."""

    def on_finish(self, report: RunReport) -> None:
        """Take the whole run at its end."""


class CompositeObserver(Observer):
    """Hands every call on to several observers, in their order."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        everyone = tuple(observers)

        def hand_on(call: str, *said: object, **more: object) -> None:
            for observer in everyone:
                getattr(observer, call)(*said, **more)

        for call in vars(Observer):
            if call.startswith("on_"):
                setattr(self, call, partial(hand_on, call))


class DirectoryObserver(Observer):
    """Writes the run directory as the run goes on, with the resolved settings by their keys.

    Without ``live.jsonl``, which `caafp watch` reads: `runs.live.LiveLog` writes it.
    """

    def __init__(self, directory: RunDirectory, settings: Mapping[str, object]) -> None:
        self.directory = directory
        self._settings = dict(settings)
        self._rounds = 0
        self._note, self._changes = directory.note(), directory.changes()  # of a resumed run

    def on_plan(self, plan: Sequence[RoundPlanLike], facts: Mapping[str, object]) -> None:
        """Write ``settings.json`` and ``plan.json``."""
        self.directory.write("settings", self._settings)
        kept = ("round", "phase", "mask_update", "sparsity")
        rounds = [{name: getattr(entry, name) for name in kept} for entry in plan]
        self.directory.write("plan", {"facts": facts, "rounds": rounds})

    def on_round(self, record: RoundRecord, total_rounds: int) -> None:
        """Append to ``rounds.jsonl``."""
        # By number, not by count: a resumed run has had rounds that this process did not see.
        self._rounds = max(self._rounds, min(record.round, total_rounds))
        self._changes += [{"round": record.round, **plain(one)} for one in record.changes]
        self.directory.append_round(record)

    def on_distances(self, labels: Sequence[str], distances: NDArray[np.floating]) -> None:
        """Write ``distances.safetensors``."""
        self.directory.write_distances(labels, distances)

    def on_clusters(self, labels: Mapping[str, int], note: str) -> None:
        """Write a first ``clusters.json``, so that a run cut short has one."""
        self._note = note or self._note
        members = text.members_of(labels)
        self._write_clusters({number: {"members": names} for number, names in members.items()})

    def _write_clusters(self, clusters: Mapping[int, object]) -> None:
        found = {"note": self._note, "clusters": plain(clusters)}
        if self._changes:
            found["changes"] = self._changes
        self.directory.write("clusters", found)

    def on_key(self, label: str, key: str) -> None:
        """Write ``devices/LABEL.pub``: the folder is one for ``known-devices`` of a later run."""
        self.directory.write_key(label, key)

    def on_finish(self, report: RunReport) -> None:
        """Write models, masks, clusters and clients, and the summary last."""
        for number, cluster in report.clusters.items():
            name = f"cluster-{number}"
            density = repr(float(cluster.density))
            metadata = {"mask-digest": cluster.mask_digest, "density": density}
            if cluster.arrays:
                self.directory.write_model(name, cluster.arrays, metadata)
            if cluster.mask_bits is not None:
                self.directory.write_mask(name, cluster.mask_bits, metadata)
            for share, bits in cluster.parts.items():
                self.directory.write_mask(f"level-{share}-{name}", bits, metadata)
        told = ("members", "examples", "density", "mask_digest")
        clusters = sorted(report.clusters.items())
        self._write_clusters({k: {name: getattr(c, name) for name in told} for k, c in clusters})
        self.directory.write_clients(report.clients)
        summary = build_summary(report, settings=self._settings, rounds=self._rounds)
        self.directory.write("summary", summary)


class LogObserver(Observer):
    """Logs the run as a report of plain lines, by default to Flower's own logger."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("flwr")
        self._time_left = TimeLeft()
        self._phase_width = 0
        self._present = False
        self._asked: tuple[str, int] = "", 0
        self._answers = 0
        self._began = self._told = 0.0

    def on_plan(self, plan: Sequence[RoundPlanLike], facts: Mapping[str, object]) -> None:
        """Log the plan as a tree."""
        self._time_left = TimeLeft(plan)
        self._phase_width = max((len(str(entry.phase)) for entry in plan), default=0)
        self._log(text.plan_lines(plan, facts))

    def on_round(self, record: RoundRecord, total_rounds: int) -> None:
        """Log one line, and a warning if clients are missing or refused."""
        self._time_left.add(record.phase, record.seconds)
        left = self._time_left.after(record.round)
        self._log(text.change_lines(record))
        self._log([text.round_line(record, total_rounds, left, self._phase_width)])
        self._log(text.influence_lines(record))
        if trouble := text.trouble_line(record):
            self._logger.warning("%s", printable(trouble))

    def on_present(self, nodes: Mapping[str, int]) -> None:
        """Log who is there when the run begins; the runner tells of changes."""
        if not self._present and nodes:
            named = [f"{label} (node {node})" for label, node in sorted(nodes.items())]
            self._log([f"{text.counted(named, 'device')}: {text.some(named)}"])
        self._present = bool(nodes)

    def on_asked(self, labels: Sequence[str], phase: str, round: int, deadline: float) -> None:
        """Note who is asked, and whether it is who they are."""
        self._asked, self._answers = (phase, len(labels)), 0
        self._began = self._told = time.monotonic()

    def on_answer(
        self, label: str, ok: bool, reason: str = "", accuracy: float | None = None, nbytes: int = 0
    ) -> None:
        """Log who says who it is, as it happens, and of a long exchange how many have answered."""
        phase, asked = self._asked
        if phase == "describe":
            self._log([f"answered: {label[:80]}" + (f", refused: {reason}" if reason else "")])
            return
        self._answers += 1
        now = time.monotonic()
        if now - self._told >= SO_FAR_SECONDS and self._answers < asked:
            self._told = now
            so_far, after = f"{self._answers} of {asked}", text.duration(now - self._began)
            self._log([f"{phase}: {so_far} clients have answered after {after}"])

    def on_clusters(self, labels: Mapping[str, int], note: str) -> None:
        """Log who is in which cluster."""
        self._log(text.cluster_lines(labels, note))

    def on_finish(self, report: RunReport) -> None:
        """Log the table of clusters and the totals."""
        self._log(report_lines(report))

    def _log(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._logger.info("%s", printable(line))
