"""What the updates of several rounds say of the active weights of one cluster."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import MaskUpdateError
from caafp_app.pruning.means import WeightedMean
from caafp_app.pruning.reproducible import ReproducibleSum
from caafp_app.pruning.sums import TermSum
from caafp_app.vectors.chunks import chunks

SQUARES, SIGNS, MOVES = "squares", "signs", "moves"


class Evidence:
    """Sums over the replies since the last mask update, from which scores of A weights are made.

    With u the updates at active positions, w the weights and r the rounds:

    - variance: ``(sum_r [sum w u^2 - (sum w u)^2 / sum w]) / sum_r sum w``. Each round has its own
      mean, so that the model's movement from round to round does not count as disagreement. A round
      with a single reply tells nothing, and counts as agreement.
    - sign agreement: ``|sum_r sum w sign(u)| / sum_r sum w``, in [0, 1].

    `freedom` is ``sum_r sum w (1 - 1 / n_r)``, n_r the replies of a round: see `PooledEvidence`.
    The sums belong to one mask and one group of clients: another mask or group starts anew.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.sums: dict[str, ReproducibleSum] = {}
        self.between: NDArray[np.float64] | None = None  # sum_r (sum w u)^2 / sum w, shape [A]
        self.weight = 0.0
        self.replies = 0
        self.freedom = 0.0

    def add_round(self, mean: WeightedMean, sums: Mapping[str, TermSum]) -> None:
        """Take in one round, whose sums, of the same replies, belong to the evidence afterwards.

        Raises MaskUpdateError if the sums are of another length, or other ones than before, and
        ProtocolError if a sum becomes too large.
        """
        if mean.size != self.size:
            raise MaskUpdateError(f"expected sums of {self.size} weights, found {mean.size}")
        if not mean.replies:
            return
        if not self.replies:
            self.sums = {name: one.total for name, one in sums.items()}
            self.between = np.zeros(self.size) if SQUARES in sums else None
        elif self.sums.keys() != sums.keys():
            raise MaskUpdateError(f"expected sums {sorted(self.sums)}, found {sorted(sums)}")
        else:
            for name, one in sums.items():
                self.sums[name].merge(one.total)
        if self.between is not None:
            for part in chunks(self.size):
                squared = mean.total.read(part)
                squared *= squared
                squared /= mean.weight
                self.between[part] += squared
        self.weight += mean.weight
        self.replies += mean.replies
        self.freedom += mean.weight * (1.0 - 1.0 / mean.replies)

    def variance(self, part: slice) -> NDArray[np.float64]:
        """Return the variance of the updates within rounds [part]; zeros without replies."""
        scatter = self._read(SQUARES, part)
        if self.between is not None:
            scatter -= self.between[part]
            scatter /= self.weight
            np.maximum(scatter, 0.0, out=scatter)
        return scatter

    def sign_agreement(self, part: slice) -> NDArray[np.float64]:
        """Return ``|mean sign|`` in [0, 1], shape [part]; zeros without replies."""
        signs = self._read(SIGNS, part)
        if self.replies:
            signs /= self.weight
        return np.abs(signs, out=signs)

    def mean_of(self, name: str, part: slice) -> NDArray[np.float64]:
        """Return a registered sum divided by the weight of all replies [part]; zeros without."""
        found = self._read(name, part)
        if self.replies:
            found /= self.weight
        return found

    def _read(self, name: str, part: slice) -> NDArray[np.float64]:
        if not self.replies:
            return np.zeros(part.stop - part.start)
        if name not in self.sums:
            raise MaskUpdateError(f"expected the sum {name!r}, found {sorted(self.sums)}")
        return self.sums[name].read(part)

    def state(self) -> dict[str, Any]:
        """Return all there is to save, for a checkpoint."""
        return {
            "size": self.size,
            "counts": [self.weight, self.replies, self.freedom],
            "between": self.between,
            "sums": {name: one.state_dict() for name, one in self.sums.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Build the evidence that `state` described."""
        restored = cls(int(state["size"]))
        restored.weight, restored.replies, restored.freedom = state["counts"]
        if state["between"] is not None:
            restored.between = np.array(state["between"])
        sums = state["sums"].items()
        restored.sums = {name: ReproducibleSum.from_state(one) for name, one in sums}
        return restored
