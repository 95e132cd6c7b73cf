"""What the server keeps of the clients' replies: sums, so that each reply is let go at once.

Per cluster and with A active of P prunable weights: 8 A bytes for a round's update, 24 A for the
statistics between two mask updates, 8 P for gradients, whatever the number of clients. All sums are
`ReproducibleSum`: the order of arrival does not show in them.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.pruning.means import GradientSums, RoundSums, State
from caafp_app.pruning.reproducible import (
    CHUNK,
    ReproducibleSum,
    chunks,
    largest_magnitude,
    rounded_weight,
)
from caafp_app.pruning.segments import MaskUpdateError

SQUARE_QUANTUM = -42  # steps of 2.3e-13, sums of w u^2 up to 1.0e6
SIGN_QUANTUM = -24  # that of the weights: signs are exact

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
        self.signs = ReproducibleSum(size, SIGN_QUANTUM)
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
            squared = sums.total.value
            squared *= squared
            squared /= weight
            self.between += squared
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
        if not self.replies:
            return np.zeros(self.size)
        variance = self.squares.value
        variance -= self.between
        variance /= self.weight
        return np.maximum(variance, 0.0, out=variance)

    def sign_agreement(self) -> NDArray[np.float64]:
        """Return ``|mean sign|`` in [0, 1], shape [size]; zeros without replies."""
        if not self.replies:
            return np.zeros(self.size)
        agreement = self.signs.value
        agreement /= self.weight
        return np.abs(agreement, out=agreement)

    def state_dict(self) -> State:
        """Return all there is to save, as arrays."""
        return {
            **_nested(squares=self.squares, signs=self.signs),
            "between": self.between.copy(),
            "counts": np.array([self.weight, self.replies, *self._folded]),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """Build the statistics that `state_dict` described."""
        restored = cls(state["between"].size)
        restored.squares, restored.signs = _part(state, "squares"), _part(state, "signs")
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

    Raises
    ------
    ProtocolError
        If the length is wrong, a value is not finite, the weight is not positive, or the values are
        absurdly large. Nothing has been added then.
    MaskUpdateError
        If sums and statistics are of different lengths.
    """
    if statistics is None:
        sums.add(update, weight)
        return
    weight = rounded_weight(weight)
    _add_to_both(update, weight, sums.total, statistics)
    statistics.weight += weight
    statistics.replies += 1
    sums.count(weight)


def _add_to_both(
    update: NDArray[np.floating],
    weight: float,
    total: ReproducibleSum,
    statistics: UpdateStatistics,
) -> None:
    """Feed the three sums chunk by chunk, once all of them can take the reply."""
    if statistics.size != total.size:
        raise MaskUpdateError(
            f"expected statistics of {total.size} weights, found {statistics.size}"
        )
    peak = largest_magnitude(update, total.size)
    targets = (total, statistics.squares, statistics.signs)
    peaks = (peak * weight, peak * weight * peak, weight)
    for target, largest in zip(targets, peaks, strict=True):
        target.check(largest)
    direct = [target.admit(largest) for target, largest in zip(targets, peaks, strict=True)]
    scratch = np.empty((3, min(CHUNK, total.size)), dtype=np.float64)
    signs = np.empty(scratch.shape[1], dtype=np.float32)  # float64 signs take ten times as long
    for part in chunks(total.size):
        values, weighted, terms = scratch[:, : part.stop - part.start]
        np.copyto(values, update[part])
        np.multiply(values, weight, out=weighted)
        np.multiply(weighted, values, out=terms)
        statistics.squares.put(part, terms, direct[1])
        np.sign(update[part], out=signs[: values.size], casting="same_kind")
        np.copyto(values, signs[: values.size])
        values *= weight
        statistics.signs.put(part, values, direct[2])
        total.put(part, weighted, direct[0])


def _nested(**sums: ReproducibleSum) -> State:
    """Return the states of several sums in one dict, as ``name.key``."""
    return {
        f"{name}.{key}": array
        for name, part in sums.items()
        for key, array in part.state_dict().items()
    }


def _part(state: Mapping[str, NDArray[Any]], name: str) -> ReproducibleSum:
    """Build one of the sums of `_nested`."""
    return ReproducibleSum.from_state({key: state[f"{name}.{key}"] for key in ("quanta", "scale")})
