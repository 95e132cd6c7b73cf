"""How a client's windows are scaled: by what its training part says of each channel."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Scaling:
    """Each channel's mean and deviation (1 where it never changes), float64 ``[channels]``."""

    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]

    @classmethod
    def of(cls, windows: npt.NDArray[np.float32]) -> Self:
        """Measure windows ``[n, ..., channels]``, of which there is at least one."""
        axes = tuple(range(windows.ndim - 1))
        mean = windows.mean(axis=axes, dtype=np.float64)
        deviation = windows.std(axis=axes, dtype=np.float64)
        # A constant channel's deviation may be a rounding error instead of 0; dividing by it is
        # noise. Relative to the mean, because values may be small in their unit.
        steady = deviation <= 1e-6 * np.abs(mean)
        return cls(mean, np.where(steady, 1.0, deviation))

    def apply(self, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return windows scaled, float32, of the same shape."""
        return ((windows - self.mean) / self.deviation).astype(np.float32)
