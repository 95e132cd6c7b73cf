"""What the clients of one query have answered, added up as the replies come.

Memory is a few vectors per query, whatever the number of clients: each reply is added and let go.
"""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from caafp_app.protocol.messages import Action
from caafp_app.pruning.means import GradientMean, WeightedMean
from caafp_app.pruning.reproducible import largest_magnitude
from caafp_app.pruning.robust import middle_buffers
from caafp_app.pruning.sums import TermSum, accumulate, make_sums
from caafp_app.runner.aggregation import Aggregation
from caafp_app.runner.model import MeanUpdate
from caafp_app.runner.query import Query, Update

SUMMED = (Action.TRAIN, Action.SALIENCY)
"""Actions whose answers are vectors that are added up."""

BUFFER_BYTES = 16 << 20
"""Bytes of integer buffers that are held of a query's clients, for their median."""

FEWEST = 3
"""The buffers of so many clients are held, however large they are: two have no median."""


class Summed:
    """The sums of one query.

    Attributes
    ----------
    query : Query
    update, rest : WeightedMean
        Of active weights [A] and of what is not prunable [R]. Of saliencies, `update` alone.
    sums : dict of str to TermSum
        Those that the query wants, over active weights [A].
    gradient : GradientMean or None
        At inactive weights, over all [P].
    kept : dict
        What `Query.each` returned, by label.
    outside : dict of str to int
        Nonzero weights that each client found outside the mask; -1 if it did not look.
    """

    def __init__(self, query: Query, aggregation: Aggregation) -> None:
        adds = query.action in SUMMED and query.adds
        mask = query.model.mask
        size, rest = (mask.count, query.model.layout.rest_count) if adds else (0, 0)
        self.query = query
        self.update, self.rest = WeightedMean(size), WeightedMean(rest)
        self.sums: Mapping[str, TermSum] = make_sums(query.wants, size)
        self.gradient = GradientMean(mask.bits.size) if query.gradients else None
        self.kept: dict[str, Any] = {}
        self.outside: dict[str, int] = {}
        self._aggregation = aggregation
        self._held: dict[str, tuple[NDArray[Any], NDArray[Any], float]] = {}
        self._other: dict[str, Mapping[str, NDArray[Any]]] = {}

    @property
    def replies(self) -> int:
        """How many updates were added."""
        return self.update.replies

    def add(self, label: str, update: Update, weight: float, peaks: tuple[float, ...]) -> None:
        """Add one client's update to all sums, or, with a ProtocolError, to none.

        `peaks` are ``max |.|`` of its values and of its rest, see `vectors.scan`.

        Integer buffers are held for a median over clients: of all, or of the first labels in
        alphabetic order if all are more than `BUFFER_BYTES`. The order of arrival decides nothing.
        """
        each = self.query.each
        seen = each(update) if each is not None else None
        if self.query.adds:
            self._add_to_sums(label, update, weight, peaks)
        if each is not None:
            self.kept[label] = seen

    def look(self, label: str, update: Update) -> None:
        """Show `Query.each` an update that enters no sum."""
        if self.query.each is not None:
            self.kept[label] = self.query.each(update)

    def _add_to_sums(
        self, label: str, update: Update, weight: float, peaks: tuple[float, ...]
    ) -> None:
        largest, largest_rest = peaks
        self.rest.total.check(largest_rest * weight)
        gradient = update.gradient if self.gradient is not None else None
        if self.gradient is not None and gradient is not None:
            peak = largest_magnitude(gradient.value, gradient.index.size)
            self.gradient.total.check(peak * weight)
        accumulate(update.values, weight, self.update, tuple(self.sums.values()), largest)
        self.rest.add(update.rest, weight, largest_rest)
        if self._aggregation.vector is not None:
            self._held[label] = update.values, update.rest, weight
        if update.other:
            self._other[label] = update.other
            each = sum(array.nbytes for array in update.other.values())
            if len(self._other) > max(FEWEST, BUFFER_BYTES // max(each, 1)):
                del self._other[max(self._other)]
        if self.gradient is not None and gradient is not None:
            self.gradient.add_at(gradient.index, gradient.value, weight)

    def mean(self) -> MeanUpdate | None:
        """Return the mean of the updates, by the run's aggregation; None without replies."""
        if not self.replies:
            return None
        if self._aggregation.vector is not None:
            held = [self._held[label] for label in sorted(self._held)]
            weights = [weight for *_, weight in held]
            values = self._aggregation.vector([values for values, *_ in held], weights)
            rest = self._aggregation.vector([rest for _, rest, _ in held], weights)
        else:
            values, rest = self.update.mean(), self.rest.mean()
        others = [self._other[label] for label in sorted(self._other)]
        names = others[0] if others else ()
        other = {name: middle_buffers([one[name] for one in others]) for name in names}
        return MeanUpdate(self.query.model.mask, values, rest, self.update.weight, other)
