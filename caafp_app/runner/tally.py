"""What came of one exchange: who was asked, who answered, who was refused and why."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from logging import WARNING

from flwr.app import ConfigRecord, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from caafp_app.runner.replies import MAX_REASON
from caafp_app.runner.told import believed, bounded
from caafp_app.runs.ledger import Ledger
from caafp_app.runs.memory import current_memory_mb, peak_memory_mb
from caafp_app.runs.records import GroupChange, RoundRecord
from caafp_app.safe_text import sentence

Aggregate = Callable[[list[RecordDict], str], MetricRecord]


@dataclass
class Tally:
    """Counts of one exchange, and the metrics of its replies; all by the clients' labels.

    `contents` are what the user's apps sent besides the model, `refusals` reasons, `missing` who
    did not answer in time, `empty` who had nothing to train or evaluate on. `clipped` are those of
    whom a vector was scaled down (see `pruning.influence`), `opposed` those whose update is in no
    sum, because it points against most others'; `changes` tells who changed their cluster before
    this exchange, `seconds` the time from the beginning to each kept answer.
    """

    phase: str
    round: int
    started: float = field(default_factory=time.monotonic)
    asked: list[str] = field(default_factory=list)
    contents: dict[str, RecordDict] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    empty: set[str] = field(default_factory=set)
    clipped: set[str] = field(default_factory=set)
    opposed: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    changes: list[GroupChange] = field(default_factory=list)

    @property
    def all_failed(self) -> bool:
        """Whether everyone answered, and every answer was refused."""
        return bool(self.asked) and len(self.refusals) == len(self.asked)

    def why(self) -> str:
        """Say why nobody's answer could be used, alike reasons once."""
        reasons = Counter(self.refusals.values())
        told = [f"{reason} ({count} clients)" for reason, count in sorted(reasons.items())]
        if self.missing:
            told.append(f"{len(self.missing)} clients did not answer in time")
        return f"no usable answer of {len(self.asked)} clients: " + "; ".join(told)

    def keep(self, label: str, content: RecordDict) -> None:
        """Keep a reply's own records; arrays were taken out before."""
        self.contents[label] = content
        self.seconds[label] = time.monotonic() - self.started

    def refuse(self, label: str, reason: str) -> None:
        """Note why a client's answer is in no sum; what was kept of it goes."""
        self.refusals[label] = sentence(reason, MAX_REASON)
        self.contents.pop(label, None)
        self.empty.discard(label)

    def metrics(self) -> dict[str, MetricRecord]:
        """Return each answer's metrics, by label in alphabetic order."""
        return {
            label: next(iter(self.contents[label].metric_records.values()))
            for label in sorted(self.contents)
        }

    def aggregate(
        self, function: Aggregate, weighted_by: str, *, robust: bool = False
    ) -> MetricRecord | None:
        """Aggregate the metrics as the user's function does, in the order of labels.

        Replies whose metrics have other names or lengths than most are left out, with a warning:
        one client's slip must not end a run. If `robust`, metrics are bounded, see `told.bounded`.
        """
        if not self.contents:
            return None
        shapes = {label: _shape(metrics) for label, metrics in self.metrics().items()}
        usual, _ = Counter(shapes.values()).most_common(1)[0]
        odd = [label for label, shape in shapes.items() if shape != usual]
        if odd:
            log(WARNING, "metrics unlike the others', left out: of %s", ", ".join(odd))
        kept = [self.contents[label] for label in shapes if label not in odd]
        counts = [m.get(weighted_by) for c in kept for m in c.metric_records.values()]
        if function is aggregate_metricrecords and not any(counts):
            log(WARNING, "no mean of metrics: %s is 0 of every client", weighted_by)
            return None
        if robust:
            kept = _bounded(kept, weighted_by)
        return function(kept, weighted_by)

    def mean(self, kind: str, labels: Collection[str] | None = None) -> float | None:
        """Return the mean over clients of a metric, without those that report none that can be.

        With `labels` over these clients alone. See `told.believed`.
        """
        said = {
            label: value
            for label, metrics in self.metrics().items()
            if label not in self.empty
            and (labels is None or label in labels)
            and (value := pick(metrics, kind)) is not None
        }
        known = believed(kind, said)
        return sum(known.values()) / len(known) if known else None

    def accuracy(self, label: str) -> float | None:
        """Return what one client says of the model that it received; None where it is no share."""
        content = self.contents.get(label, RecordDict())
        for metrics in content.metric_records.values():
            found = pick(metrics, "accuracy")
            return found if found is not None and 0 <= found <= 1 else None
        return None

    def record(self, ledger: Ledger, density: Mapping[int, float]) -> RoundRecord:
        """Sum the exchange up for the run directory and the log."""
        traffic = ledger.exchange(self.phase, self.round)
        return RoundRecord(
            round=self.round,
            phase=self.phase,
            seconds=time.monotonic() - self.started,
            asked=len(self.asked),
            answered=len(self.contents.keys() | self.empty),
            refused=len(self.refusals),
            missing=self.missing,
            accuracy=self.mean("accuracy"),
            loss=self.mean("loss"),
            density=dict(density),
            bytes_down=traffic.down,
            bytes_up=traffic.up,
            bytes_by_kind=traffic.by_kind(),
            reasons=dict(Counter(self.refusals.values())),
            refusals=dict(sorted(self.refusals.items())),
            clipped=tuple(sorted(self.clipped)),
            opposed=tuple(sorted(self.opposed)),
            changes=tuple(self.changes),
            server_memory_mb=current_memory_mb(),
            server_memory_peak_mb=peak_memory_mb(),
        )


def pick(metrics: MetricRecord | ConfigRecord, kind: str, model: str = "cluster") -> float | None:
    """Find accuracy or loss of a model among metrics whose names the user chose.

    ``<model>-<kind>`` is what our own app calls it; else the first name with "acc" or "loss" in
    it that is not about training.
    """
    exact = metrics.get(f"{model}-{kind}")
    if isinstance(exact, int | float):
        return float(exact)
    if f"{'personal' if model == 'cluster' else 'cluster'}-{kind}" in metrics:
        return None
    for name, value in metrics.items():
        if kind[:3] in name.lower() and "train" not in name and isinstance(value, int | float):
            return float(value)
    return None


def _bounded(contents: list[RecordDict], weighted_by: str) -> list[RecordDict]:
    """Return the contents with bounded metrics; those that are kept do not change."""
    fair = bounded([next(iter(one.metric_records.values())) for one in contents], weighted_by)
    made = []
    for content, metrics in zip(contents, fair, strict=True):
        copy = RecordDict(dict(content.items()))
        copy[next(iter(content.metric_records))] = metrics
        made.append(copy)
    return made


def _shape(metrics: MetricRecord) -> tuple[tuple[str, int], ...]:
    """Names of the metrics, and how long each is; -1 for a single number."""
    return tuple(
        sorted((name, len(v) if isinstance(v, list) else -1) for name, v in metrics.items())
    )
