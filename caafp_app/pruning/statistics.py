"""What the server keeps of the clients' replies: sums, so that each reply is let go at once.

Per cluster and with A active of P prunable weights: 8 A bytes for a round's update, 20 A for the
statistics between two mask updates, 8 P for gradients, whatever the number of clients. All sums are
`ReproducibleSum` or as exact: the order of arrival does not show in them.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import MaskUpdateError
from caafp_app.pruning.means import Arrays, GradientSums, RoundSums
from caafp_app.pruning.reproducible import ReproducibleSum, largest_magnitude, rounded_weight
from caafp_app.pruning.signs import SignSum
from caafp_app.vectors.chunks import CHUNK, chunks

SQUARE_QUANTUM = -42  # steps of 2.3e-13, sums of w u^2 up to 1.0e6

__all__ = ["GradientSums", "ReproducibleSum", "RoundSums", "UpdateStatistics", "accumulate"]


class UpdateStatistics:
    """How the clients' updates agree, over the rounds since the last mask update.

    With u the updates at active positions, w the weights and r the rounds:

    - variance: ``(sum_r [sum w u^2 - (sum w u)^2 / sum w]) / sum_r sum w``. Each round has its own
      mean, so that the movement of the model from round to round does not count as disagreement. A
      round with a single reply tells nothing, and counts as agreement.
    - sign agreement: ``|sum_r sum w sign(u)| / sum_r sum w``, in [0, 1].

    Parameters
    ----------
    size : int
        Number A of active weights; a new mask needs new statistics.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.squares = ReproducibleSum(size, SQUARE_QUANTUM)
        self.signs = SignSum(size)
        self.between = np.zeros(size, dtype=np.float64)
        self.weight = 0.0
        self.replies = 0
        self._folded = (0.0, 0)  # weight and replies of the rounds that ended

    def end_round(self, sums: RoundSums) -> None:
        """Take in the mean of the round that ends; a round without replies changes nothing.

        Parameters
        ----------
        sums : RoundSums
            The sums that got the same replies through `accumulate`.

        Raises
        ------
        MaskUpdateError
            If they got other replies than these statistics.
        """
        weight, replies = self.weight - self._folded[0], self.replies - self._folded[1]
        if (sums.size, sums.weight, sums.replies) != (self.size, weight, replies):
            raise MaskUpdateError(
                f"expected the sums of a round with {replies} replies of {self.size} weights, "
                f"found {sums.replies} of {sums.size}: accumulate each reply into both"
            )
        if replies:
            for part in chunks(self.size):
                squared = sums.total.read(part)
                squared *= squared
                squared /= weight
                self.between[part] += squared
        self._folded = (self.weight, self.replies)

    def variance(self) -> NDArray[np.float64]:
        """Return the variance of the updates within rounds, shape [size]; zeros without replies.

        Raises
        ------
        MaskUpdateError
            If a round has not been ended.
        """
        if self._folded != (self.weight, self.replies):
            raise MaskUpdateError("expected `end_round` after the last reply, before `variance`")
        variance = np.zeros(self.size)
        if self.replies:
            for part in chunks(self.size):
                scatter = self.squares.read(part)
                scatter -= self.between[part]
                scatter /= self.weight
                np.maximum(scatter, 0.0, out=variance[part])
        return variance

    def sign_agreement(self) -> NDArray[np.float64]:
        """Return ``|mean sign|`` in [0, 1], shape [size]; zeros without replies."""
        agreement = np.zeros(self.size)
        if self.replies:
            for part in chunks(self.size):
                np.abs(self.signs.read(part) / self.weight, out=agreement[part])
        return agreement

    def state_dict(self) -> Arrays:
        """Return all there is to save, as arrays."""
        return {
            **_nested("squares", self.squares.state_dict()),
            **_nested("signs", self.signs.state_dict()),
            "between": self.between.copy(),
            "counts": np.array([self.weight, self.replies, *self._folded]),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """Build the statistics that `state_dict` described."""
        restored = cls(state["between"].size)
        restored.squares = ReproducibleSum.from_state(_part(state, "squares"))
        restored.signs = SignSum.from_state(_part(state, "signs"))
        restored.between[:] = state["between"]
        counts = [float(count) for count in state["counts"]]
        restored.weight, restored.replies = counts[0], int(counts[1])
        restored._folded = (counts[2], int(counts[3]))
        return restored


def accumulate(
    update: NDArray[np.floating],
    weight: float,
    sums: RoundSums,
    statistics: UpdateStatistics | None = None,
    peak: float | None = None,
) -> None:
    """Add one reply to a round's sums and, if given, to the statistics, in one pass.

    Parameters
    ----------
    update : NDArray[np.floating]
        The client's update at active positions, shape [A].
    weight : float
        Its example count, or 1.
    sums : RoundSums
        Sums of the round.
    statistics : UpdateStatistics or None
        Statistics since the last mask update.
    peak : float, optional
        ``max |update|``, if `scan` has told it: the update is not looked at before it is added.

    Raises
    ------
    ProtocolError
        If the length is wrong, a value is not finite, the weight is not positive, or the values are
        absurdly large. Nothing has been added then.
    MaskUpdateError
        If sums and statistics are of different lengths.
    """
    if statistics is None:
        sums.add(update, weight, peak)
        return
    weight = rounded_weight(weight)
    _add_to_both(update, weight, sums.total, statistics, peak)
    statistics.weight += weight
    statistics.replies += 1
    sums.count(weight)


def _add_to_both(
    update: NDArray[np.floating],
    weight: float,
    total: ReproducibleSum,
    statistics: UpdateStatistics,
    peak: float | None,
) -> None:
    """Feed the three sums chunk by chunk, once all of them can take the reply."""
    if statistics.size != total.size:
        raise MaskUpdateError(
            f"expected statistics of {total.size} weights, found {statistics.size}"
        )
    peak = largest_magnitude(update, total.size, peak)
    squares, signs = statistics.squares, statistics.signs
    total.check(peak * weight)
    squares.check(peak * weight * peak)
    signs.check(weight)
    direct = total.admit(peak * weight)
    direct_squares = squares.admit(peak * weight * peak)
    direct_signs = signs.admit(weight)
    scratch = np.empty((2, min(CHUNK, total.size)), dtype=np.float64)
    for part in chunks(total.size):
        values, weighted = scratch[:, : part.stop - part.start]
        np.copyto(values, update[part])
        np.multiply(values, weight, out=weighted)
        values *= weighted
        squares.put(part, values, direct_squares)
        total.put(part, weighted, direct)
        signs.put(part, update[part], weight, direct_signs)


def _nested(name: str, state: Arrays) -> Arrays:
    """Prefix the keys of a state by the name of the part that it is of."""
    return {f"{name}.{key}": array for key, array in state.items()}


def _part(state: Mapping[str, NDArray[Any]], name: str) -> Arrays:
    """Return the state of one part of `_nested` ones."""
    return {key: state[f"{name}.{key}"] for key in ("quanta", "scale")}
