"""What clients told of single classes at the end of a run, where ``share-class-counts=true``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """How many held-out windows of each of C classes are taken for each, client by client.

    `counts` are int64 ``[clients, C, C]`` by model, ``cluster`` or ``personal``: windows by their
    class and the predicted one.
    """

    names: tuple[str, ...]
    counts: Mapping[str, NDArray[np.int64]]

    def confusion(self, model: str) -> NDArray[np.int64]:
        """Return the sum over clients [C, C]."""
        total: NDArray[np.int64] = self.counts[model].sum(axis=0)
        return total

    def recall(self, model: str) -> list[float | None]:
        """Return which share of each class's windows is known: the mean over clients that have any.

        Every client counts alike, as it does in accuracies. None where nobody has the class.
        """
        told = self.counts[model]
        windows, hits = told.sum(axis=2), np.diagonal(told, axis1=1, axis2=2)
        there = windows > 0
        shares = np.divide(hits, windows, out=np.zeros(hits.shape), where=there).sum(axis=0)
        pairs = zip(shares, there.sum(axis=0), strict=True)
        return [float(share / clients) if clients else None for share, clients in pairs]

    def to_json(self) -> dict[str, Any]:
        """Return what ``summary.json`` holds: sums and means, no client by itself."""
        return {
            "names": list(self.names),
            **{
                model: {
                    "clients": len(told),
                    "recall": self.recall(model),
                    "confusion": self.confusion(model).tolist(),
                }
                for model, told in self.counts.items()
            },
        }
