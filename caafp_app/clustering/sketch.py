"""Sketches: what the server keeps of a client's update to compare it with the others'."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError

COMPONENTS = 1024  # of a projection; cosines are then off by 1 / sqrt(1024), about 0.03
MOST_BUDGET = 2**17  # values per client: the paper's models are kept exactly


def sketch_budget(clients: int) -> int:
    """Return how many float32 values a sketch may have, so that all clients' fit into 256 MiB.

    At most `MOST_BUDGET`, and at least 64: with fewer, cosines mean little.
    """
    return min(MOST_BUDGET, max(64, 2**28 // (4 * max(clients, 1))))


class Sketcher:
    """Shortens updates so that the angles between them stay what they are.

    An update of up to ``budget`` values is kept as it is. A longer one is projected onto
    `COMPONENTS` values (or ``budget``, if that is less) by scikit-learn's seeded, very sparse
    random projection (Li, Hastie, Church, "Very Sparse Random Projections", KDD 2006): for 11
    million weights some seconds and 27 MB at the first sketch, and then 35 ms for each.

    The same size, seed, budget and release of scikit-learn give the same sketches: one that is
    built anew can place newcomers.
    """

    def __init__(self, size: int, seed: int, budget: int = MOST_BUDGET) -> None:
        self.size = size
        self.seed = seed
        self.budget = budget
        self.exact = size <= budget
        self.length = size if self.exact else min(budget, COMPONENTS)
        self._projection: Any = None

    def sketch(self, update: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the sketch [length] of one update [size], as a copy.

        Raises ProtocolError if the length is wrong, or a value is NaN, infinite or beyond float32.
        """
        if update.shape != (self.size,) or update.dtype.kind != "f":
            raise ProtocolError(
                f"expected an update of {self.size} floats to sketch, found {update.dtype} of "
                f"shape {update.shape}"
            )
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
            values = update.astype(np.float32)
        if not np.isfinite(values).all():
            raise ProtocolError("expected a finite update to sketch, found NaN or infinity")
        if self.exact:
            return values
        if self._projection is None:
            self._projection = self._draw()
        projected: NDArray[np.float32] = self._projection.transform(values[np.newaxis])[0]
        return projected

    def _draw(self) -> Any:
        """Draw the projection matrix; scikit-learn asks for data only to know their width."""
        from scipy.sparse import csr_matrix
        from sklearn.random_projection import SparseRandomProjection

        state = int(np.random.SeedSequence(self.seed).generate_state(1)[0])
        projection = SparseRandomProjection(self.length, random_state=state, dense_output=True)
        return projection.fit(csr_matrix((1, self.size), dtype=np.float32))
