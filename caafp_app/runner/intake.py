"""From checked replies to sums: the rule of influence first, then the run's aggregation.

One exchange has one `Intake`. Every vector that a client sends passes it: updates, what is not
prunable, gradients, saliencies, and the updates that clients are compared by.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.messages import Action
from caafp_app.pruning.bounds import norm_of, scaled
from caafp_app.pruning.influence import Admitted, Influence
from caafp_app.pruning.opposed import opposed
from caafp_app.runner.aggregation import Aggregation
from caafp_app.runner.query import Update
from caafp_app.runner.summed import Summed
from caafp_app.vectors.scan import peak_of

LEAST_WEIGHT = 2.0**-24
"""Weights below this count as none: sums are exact down to it."""

_ROUNDING = 1.0 + 2.0**-20
"""Scaled values may be rounded up; what bounds them may not be below them."""


@dataclass(frozen=True, eq=False)
class Reply:
    """One client's decoded answer on its way to a sum.

    `peaks` are ``max |.|`` of its values and of its rest; if `uniform`, it weighs 1.
    """

    update: Update
    peaks: tuple[float, ...]
    summed: Summed
    uniform: bool


class Intake:
    """What one exchange takes in.

    `rule`, the run's, may hold replies until `finish`; so does the aggregation, and `compares`,
    with which updates that most others oppose are left out. `refuse` is called with label and error
    if a reply turns out not to fit into a sum. `clipped` and `opposed` are the labels of those of
    whom a vector was scaled down, and whose update was left out.
    """

    def __init__(
        self,
        rule: Influence[Reply],
        aggregation: Aggregation,
        refuse: Callable[[str, ProtocolError], None],
        *,
        compares: bool = False,
    ) -> None:
        self.clipped: set[str] = set()
        self.opposed: set[str] = set()
        self._compares = compares
        self._rule = rule
        self._shares = aggregation.shares
        self._refuse = refuse
        self._held: dict[int, list[tuple[str, Reply, float]]] = {}

    def take(self, label: str, update: Update, summed: Summed, weight: float, alike: bool) -> None:
        """Take a client's update, of `weight` examples, or 1 if `alike`; add it now or hold it.

        Raises ProtocolError if a value is NaN or infinite, or the weight is not a positive number.
        """
        peaks = peak_of(update.values), peak_of(update.rest)
        reply = Reply(update, peaks, summed, alike or summed.query.uniform)
        query = summed.query
        norms = {}
        if self._rule.norm_factor:  # a pass over all values, which is for nothing without a bound
            # A part of a model has shorter updates: they are vectors of another kind.
            norms = {
                _kind(name, query.level): norm for name, norm in _norms(update, summed).items()
            }
        ready = self._rule.offer(query.group, label, norms, weight, reply, update.nbytes)
        for one in ready:
            self._pass(one)

    def finish(self) -> None:
        """Add what is still held; no more replies come."""
        for one in self._rule.release():
            self._pass(one)
        for held in self._held.values():
            self._weigh(sorted(held, key=lambda one: one[0]))
        self._held = {}
        self._rule.end_round()

    def _pass(self, one: Admitted[Reply]) -> None:
        """Scale an admitted reply, and add it, or hold it to be compared with the others."""
        if one.clipped:
            self.clipped.add(one.label)
        reply = _scaled(one)
        query = reply.summed.query
        weight = 1.0 if reply.uniform else one.weight
        compared = self._compares and query.action is Action.TRAIN
        if query.adds and (compared or self._shares is not None):
            self._held.setdefault(id(reply.summed), []).append((one.label, reply, weight))
        else:
            self._add(one.label, reply, weight)

    def _weigh(self, held: list[tuple[str, Reply, float]]) -> None:
        """Add the replies of one query, each with the weight that the others leave it."""
        weights = [weight for *_, weight in held]
        if self._shares is not None:
            vectors = [np.concatenate([r.update.values, r.update.rest]) for _, r, _ in held]
            weights = [float(s) * sum(weights) for s in self._shares(vectors, weights)]
            del vectors
        else:
            against = opposed([reply.update.values for _, reply, _ in held])
            against |= opposed([reply.update.rest for _, reply, _ in held])
            self.opposed.update(label for (label, *_), no in zip(held, against, strict=True) if no)
            weights = [0.0 if no else w for w, no in zip(weights, against, strict=True)]
        for (label, reply, _), weight in zip(held, weights, strict=True):
            if weight >= LEAST_WEIGHT:
                self._add(label, reply, weight)
            else:
                reply.summed.look(label, reply.update)

    def _add(self, label: str, reply: Reply, weight: float) -> None:
        try:
            reply.summed.add(label, reply.update, weight, reply.peaks)
        except ProtocolError as error:
            self.clipped.discard(label)
            self._refuse(label, error)


def _kind(name: str, level: int) -> str:
    return f"{name} {level}" if level else name


def _norms(update: Update, summed: Summed) -> dict[str, float]:
    """Return the norm of each vector that is clipped by itself, by the kind of vector."""
    if summed.query.action is Action.SALIENCY:
        return {"saliency": norm_of(update.values)}
    if summed.query.each is not None:  # compared by direction, which one factor leaves as it is
        norms = {"compared": norm_of(update.values, update.rest)}
    else:
        norms = {"values": norm_of(update.values)}
        if update.rest.size:
            norms["rest"] = norm_of(update.rest)
    if update.gradient is not None:
        norms["gradient"] = norm_of(update.gradient.value)
    return norms


def _scaled(one: Admitted[Reply]) -> Reply:
    """Return the reply with each vector multiplied by its factor."""
    if not one.clipped:
        return one.item
    reply, update = one.item, one.item.update
    factors = {name.partition(" ")[0]: factor for name, factor in one.factors.items()}
    whole = factors.get("compared", factors.get("saliency", 1.0))
    by_values, by_rest = factors.get("values", whole), factors.get("rest", whole)
    gradient = update.gradient
    if gradient is not None:
        value: NDArray[Any] = scaled(gradient.value, factors.get("gradient", 1.0))
        gradient = replace(gradient, value=value)
    shorter = replace(
        update,
        values=scaled(update.values, by_values),
        rest=scaled(update.rest, by_rest),
        gradient=gradient,
    )
    pairs = zip(reply.peaks, (by_values, by_rest), strict=True)
    peaks = tuple(peak if by == 1 else peak * by * _ROUNDING for peak, by in pairs)
    return replace(reply, update=shorter, peaks=peaks)
