"""How sparse each cluster is made at a mask update: as planned, or by what its clients say."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from logging import INFO, WARNING
from math import isfinite
from typing import TYPE_CHECKING

from flwr.app import MetricRecord
from flwr.common.logger import log

from caafp_app.protocol.messages import Action
from caafp_app.protocol.objective import HELD_OUT, HELD_TRAINED, LABEL_ENTROPY
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.pruning.tuning import (
    ENTROPY_MOST,
    MOST_CHANGE,
    Figure,
    Gain,
    Search,
    entropy_sparsity,
)
from caafp_app.runner.model import SparseModel
from caafp_app.runner.runner import Answers
from caafp_app.runner.tally import pick
from caafp_app.runner.told import believed
from caafp_app.runs.checkpoint import State

if TYPE_CHECKING:
    from caafp_app.strategies.masks import Pruning

HELD = 0.15
"""Share of its training windows that a client of ours holds out, to score its cluster's model."""


class Sparsity:
    """As planned; base of the others.

    Clients are told `config` with each training; `watched` is the mean of the watched figure in
    the last exchange, by cluster.
    """

    def __init__(self) -> None:
        self.config: Mapping[str, float] = {}
        self.watched: dict[int, float] = {}

    def hear(self, answers: Answers, models: Mapping[int, SparseModel]) -> None:
        """Take in what clients say of the clusters' models, or of the parts that they were sent."""

    def target(self, number: int, model: SparseModel, step: RoundPlan, members: int) -> float:
        """Return the sparsity of a cluster's model of so many members after this round's update."""
        return step.sparsity

    def state(self) -> State:
        """Return what a checkpoint saves; the inverse of `restore`."""
        return {}

    def restore(self, state: State) -> None:
        """Go on from what `state` returned."""


@dataclass
class _Watched:
    """One cluster's search, and the figures of its clients by label.

    `best` are those of the densest model, or of a later good one that was better; `now` the newest
    ones of the present density, which was reached in round `since`, and `earlier` those before,
    of the clients that answered last.
    """

    search: Search
    best: dict[str, float] = field(default_factory=dict)
    now: dict[str, float] = field(default_factory=dict)
    earlier: dict[str, float] = field(default_factory=dict)
    since: int = -1


class Tuned(Sparsity):
    """As sparse as a figure of the clients allows: see `pruning.tuning`.

    `last` is the round of the last mask update; `own` clients hold out windows to be scored on.
    """

    def __init__(self, pruning: "Pruning", last: int, *, own: bool) -> None:
        super().__init__()
        name = pruning.watch or (f"{HELD_TRAINED}-accuracy" if own else "")
        self.tolerance = pruning.tolerance / 100
        self.most = max(MOST_CHANGE, 4 * self.tolerance)
        self.last = last
        self.figure = Figure.called(name) if name else None
        self.config = {HELD_OUT: HELD, HELD_TRAINED: 1.0} if own else {}
        self.clusters: dict[int, _Watched] = {}

    def hear(self, answers: Answers, models: Mapping[int, SparseModel]) -> None:
        """Note the figures of each cluster's clients, of all levels together.

        The first ones after a change do not count: a model just cut tells little of what it will
        be.
        """
        tally, self.watched = answers.tally, {}
        metrics = tally.metrics()
        heard: dict[int, dict[str, float]] = {}
        trains = any(summed.query.action is Action.TRAIN for summed in answers.summed)
        for summed in answers.summed:
            for client in summed.query.clients:
                if client.label not in metrics or client.label in tally.empty:
                    continue
                value = self._figure_in(metrics[client.label])
                if value is not None:
                    heard.setdefault(summed.query.group, {})[client.label] = value
        for number, told in heard.items():
            said = believed(self.figure.name, told) if self.figure is not None else told
            if not said:
                continue
            self.watched[number] = sum(said.values()) / len(said)
            one = self._of(number, models[number])
            if tally.round - trains > one.since:
                one.earlier = {label: one.now[label] for label in said if label in one.now}
                one.now |= said

    def target(self, number: int, model: SparseModel, step: RoundPlan, members: int) -> float:
        """Decide by the figures since the last change; say so in the log."""
        one, last = self._of(number, model), step.round == self.last
        gain = self._gain(one, last=last)
        if gain is None:
            if last or not self.clusters:
                log(WARNING, "cluster %d: no figure to tune its sparsity by", number)
            return 1.0 - one.search.density
        if not last and self._learns(one):
            log(INFO, "cluster %d: %s still rises: its sparsity waits", number, self._name)
            return 1.0 - one.search.density
        before, one.search = one.search, one.search.next(gain, self.tolerance, last=last)
        if gain.mean >= -self.tolerance:
            one.best = one.best | one.now if gain.mean > 0 else one.now | one.best
        said = "nobody has answered since its last cut"
        if gain.clients:
            said = (
                f"{self._name} of {gain.clients} clients {100 * gain.mean:+.2f} points against "
                "the densest model"
            )
        now, then = 1.0 - one.search.density, 1.0 - before.density
        log(INFO, "cluster %d: %s: sparsity %.3f -> %.3f", number, said, then, now)
        if one.search.density != before.density:
            one.now, one.earlier, one.since = {}, {}, step.round
        return 1.0 - one.search.density

    def _gain(self, one: _Watched, *, last: bool) -> Gain | None:
        """Compare a cluster's figures; None: nothing is known, and nothing has to be taken back."""
        if self.figure is None:
            return None
        if not one.best:
            one.best = dict(one.now)
        gain = self.figure.gain(one.best, one.now, self.most)
        if gain is None and last and one.search.density < one.search.good:
            return Gain(-1.0, 0.0, 0)
        return gain

    def _learns(self, one: _Watched) -> bool:
        """Tell whether clients gain more than the tolerance from one of their figures to the next.

        A model that still learns, or mends what pruning broke, shows later what it has lost.
        """
        rise = self.figure.gain(one.earlier, one.now, self.most) if self.figure else None
        return rise is not None and rise.mean > max(self.tolerance, rise.error)

    @property
    def _name(self) -> str:
        return self.figure.name if self.figure else ""

    def _of(self, number: int, model: SparseModel) -> _Watched:
        """Return what is known of a cluster: at first, what is of the model of all."""
        if number not in self.clusters:
            known = self.clusters.get(-1)
            fresh = _Watched(Search.begin(model.density))
            self.clusters[number] = deepcopy(known) if known else fresh
        return self.clusters[number]

    def _figure_in(self, metrics: MetricRecord) -> float | None:
        """Return the watched figure of a client: the named one, or its accuracy, or its loss."""
        if self.figure is not None and self.figure.name not in ("accuracy", "loss"):
            value = metrics.get(self.figure.name)
            return _finite(value)
        kinds = (self.figure.name,) if self.figure else ("accuracy", "loss")
        for kind in kinds:
            found = _finite(pick(metrics, kind))
            if found is not None:
                self.figure = Figure.called(kind)
                return found
        return None

    def state(self) -> State:
        clusters = {number: asdict(one) for number, one in sorted(self.clusters.items())}
        return {"figure": self._name, "clusters": clusters}

    def restore(self, state: State) -> None:
        name = state["figure"]
        self.figure = Figure.called(name) if name else None
        self.clusters = {
            int(number): _Watched(**{**deepcopy(one), "search": Search(**one["search"])})
            for number, one in state["clusters"].items()
        }


class ByEntropy(Sparsity):
    """By how diverse the labels of a cluster's clients are: see `pruning.tuning.entropy_sparsity`.

    Label counts stay on the clients: in place of the entropy of all labels of a cluster it takes
    the mean of the clients' own, which is at most that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.config = {LABEL_ENTROPY: 1.0}
        self.entropies: dict[int, dict[str, float]] = {}

    def hear(self, answers: Answers, models: Mapping[int, SparseModel]) -> None:
        metrics = answers.tally.metrics()
        self.watched = {}
        for summed in answers.summed:
            known = self.entropies.setdefault(summed.query.group, {})
            for client in summed.query.clients:
                said = metrics.get(client.label)
                value = _finite(said.get(LABEL_ENTROPY)) if said else None
                if value is not None and 0.0 <= value <= 1.0:
                    known[client.label] = value
            if known:
                self.watched[summed.query.group] = sum(known.values()) / len(known)

    def target(self, number: int, model: SparseModel, step: RoundPlan, members: int) -> float:
        """Return the planned share of the way to the sparsity of the rule."""
        known = self.entropies.get(number, {})
        entropy = sum(known.values()) / len(known) if known else 1.0
        return step.sparsity / ENTROPY_MOST * entropy_sparsity(entropy, members)

    def state(self) -> State:
        return {"entropies": self.entropies}

    def restore(self, state: State) -> None:
        self.entropies = {int(n): dict(known) for n, known in state["entropies"].items()}


def sparsity_of(pruning: "Pruning", plan: Sequence[RoundPlan], *, own: bool) -> Sparsity:
    """Return the rule that ``Pruning.sparsity`` names; `own` clients run our app."""
    if pruning.sparsity == "auto":
        last = max((step.round for step in plan if step.mask_update), default=0)
        return Tuned(pruning, last, own=own)
    return ByEntropy() if pruning.sparsity == "entropy" else Sparsity()


def _finite(value: object) -> float | None:
    if isinstance(value, int | float) and isfinite(value):
        return float(value)
    return None
