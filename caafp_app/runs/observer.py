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
from caafp_app.runs.live import LiveLog
from caafp_app.runs.records import RoundRecord, RunReport
from caafp_app.runs.report_text import report_lines
from caafp_app.runs.summary import build_summary
from caafp_app.runs.timeleft import RoundPlanLike, TimeLeft

SO_FAR_SECONDS = 10.0
"""How long after the last word the log says how many clients of an exchange have answered."""


class Observer:
    """Base of observers: does nothing. Override what is of interest.

    Attributes
    ----------
    package : str
        The package that has to be installed for it; empty for none.
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
    """Writes the run directory as the run goes on.

    Parameters
    ----------
    directory : RunDirectory
        Where to.
    settings : mapping of str to object
        The resolved settings, kebab-case keys; ``strategy``, ``dataset`` and ``seed`` are among
        them, and go to the summary.
    """

    def __init__(self, directory: RunDirectory, settings: Mapping[str, object]) -> None:
        self.directory = directory
        self._settings = dict(settings)
        self._rounds = 0
        self._note, self._changes = directory.note(), directory.changes()  # of a resumed run
        self._live = LiveLog(directory.path)

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
        members: dict[int, list[str]] = {number: [] for number in sorted(set(labels.values()))}
        for label, number in sorted(labels.items()):
            members[number].append(label)
        clusters = {number: {"members": names} for number, names in members.items()}
        self._write_clusters(clusters)

    def _write_clusters(self, clusters: Mapping[int, object]) -> None:
        found = {"note": self._note, "clusters": plain(clusters)}
        if self._changes:
            found["changes"] = self._changes
        self.directory.write("clusters", found)

    def on_present(self, nodes: Mapping[str, int]) -> None:
        """Append to ``live.jsonl``."""
        self._live.present(nodes)

    def on_asked(self, labels: Sequence[str], phase: str, round: int, deadline: float) -> None:
        """Append to ``live.jsonl``."""
        self._live.asked(labels, phase, round, deadline)

    def on_answer(
        self, label: str, ok: bool, reason: str = "", accuracy: float | None = None, nbytes: int = 0
    ) -> None:
        """Append to ``live.jsonl``."""
        self._live.answer(label, ok, reason, accuracy, nbytes)

    def on_key(self, label: str, key: str) -> None:
        """Write ``devices/LABEL.pub``: the folder is one for ``known-devices`` of a later run."""
        self.directory.write_key(label, key)

    def on_finish(self, report: RunReport) -> None:
        """Write models, masks, clusters and clients, and the summary last."""
        for number, cluster in report.clusters.items():
            name = f"cluster-{number}"
            metadata = {
                "mask-digest": cluster.mask_digest,
                "density": repr(float(cluster.density)),
            }
            if cluster.arrays:
                self.directory.write_model(name, cluster.arrays, metadata)
            if cluster.mask_bits is not None:
                self.directory.write_mask(name, cluster.mask_bits, metadata)
            for share, bits in cluster.parts.items():
                self.directory.write_mask(f"level-{share}-{name}", bits, metadata)
        clusters = {number: report.clusters[number].to_json() for number in sorted(report.clusters)}
        self._write_clusters(clusters)
        self.directory.write_clients(report.clients)
        self.directory.write(
            "summary", build_summary(report, settings=self._settings, rounds=self._rounds)
        )


class LogObserver(Observer):
    """Logs the run as a report of plain lines.

    Parameters
    ----------
    logger : logging.Logger, optional
        Flower's own logger by default.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("flwr")
        self._time_left = TimeLeft()
        self._phase_width = 0
        self._present = False
        self._describing = False
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
            self._logger.warning("%s", trouble)

    def on_present(self, nodes: Mapping[str, int]) -> None:
        """Log who is there when the run begins; the runner tells of changes."""
        if not self._present and nodes:
            self._log([text.presence_line(nodes)])
        self._present = bool(nodes)

    def on_asked(self, labels: Sequence[str], phase: str, round: int, deadline: float) -> None:
        """Note who is asked, and whether it is who they are."""
        self._describing = phase == "describe"
        self._asked, self._answers = (phase, len(labels)), 0
        self._began = self._told = time.monotonic()

    def on_answer(
        self, label: str, ok: bool, reason: str = "", accuracy: float | None = None, nbytes: int = 0
    ) -> None:
        """Log who says who it is, as it happens, and of a long exchange how many have answered."""
        if self._describing:
            self._log([text.answer_line(label, reason)])
            return
        phase, asked = self._asked
        self._answers += 1
        now = time.monotonic()
        if now - self._told >= SO_FAR_SECONDS and self._answers < asked:
            self._told = now
            self._log([text.so_far_line(phase, self._answers, asked, now - self._began)])

    def on_clusters(self, labels: Mapping[str, int], note: str) -> None:
        """Log who is in which cluster."""
        self._log(text.cluster_lines(labels, note))

    def on_finish(self, report: RunReport) -> None:
        """Log the table of clusters and the totals."""
        self._log(report_lines(report))

    def _log(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._logger.info("%s", line)
