"""How clients are grouped by the directions of their updates from the same weights.

Sattler, Mueller, Samek, IEEE TNNLS 32(8), 2021; FedCHAR, IMWUT 7(1):20, 2023.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.clustering.agglomerative import LEAST_SILHOUETTE, Grouping, cluster
from caafp_app.clustering.assign import centroids_of, cosine_distances
from caafp_app.clustering.effects import unit
from caafp_app.clustering.structure import find_structure
from caafp_app.errors import SettingsError
from caafp_app.runner.roster import Roster
from caafp_app.runs.observer import Observer
from caafp_app.strategies.arguments import check_arguments

_MOST_COMPARED = 500
"""Clients whose distances among each other are told to the observer: a tree to look at."""

GROUPINGS = ("exchange", "rounds")
LINKAGES = ("average", "complete")
AUTO = "auto"


@dataclass(frozen=True)
class Clustering:
    """How clients are grouped; see `clustering.agglomerative.cluster` for the other attributes.

    Attributes
    ----------
    clusters : int or "auto"
        Their number. 0: by silhouette. ``auto``: one unless a test finds groups, see
        `clustering.structure.find_structure`; no group is one client.
    grouping : str
        ``exchange``: by one training of every client after the warm-up, as published. ``rounds``:
        by what the rounds of the warm-up bring anyway. Empty: the second where `clusters` is auto.
    change : bool
        Whether clients move, and clusters split and merge, in later rounds: see
        `strategies.changing`. Only where `clusters` is auto and `grouping` is by rounds.
    """

    clusters: int | str = 0
    linkage: str = "average"
    min_cluster_size: int = 1
    min_silhouette: float = LEAST_SILHOUETTE
    grouping: str = ""
    change: bool = True

    def __deepcopy__(self, memo: object) -> Self:
        """Return the value itself: a copied strategy still knows what was left out."""
        return self

    def __post_init__(self) -> None:
        check_arguments(self, counts=("clusters",))
        if self.min_cluster_size < 1:
            found = self.min_cluster_size
            raise SettingsError(f"min_cluster_size: expected at least 1, found {found}")
        if isinstance(self.clusters, str) and self.clusters != AUTO:
            raise SettingsError(
                f"clusters: expected a whole number or {AUTO}, found {self.clusters!r}"
            )
        if self.grouping not in ("", *GROUPINGS):
            raise SettingsError(
                f"grouping: expected one of {', '.join(GROUPINGS)}, found {self.grouping!r}"
            )
        if self.linkage not in LINKAGES:
            raise SettingsError(
                f"linkage: expected one of {', '.join(LINKAGES)}, found {self.linkage!r}"
            )

    def __str__(self) -> str:
        """Say it as the plan shows it."""
        number = str(self.fixed or "1 to 6 by silhouette")
        if self.clusters == AUTO:
            number = "1 to 6 by a test"
        whence = ", by the rounds' updates" if self.by_rounds else ""
        change = ", may change" if self.changing else ""
        return f"{number}, {self.linkage} linkage{whence}{change}"

    @property
    def fixed(self) -> int:
        """The number asked for; 0 where it is to be found."""
        return self.clusters if isinstance(self.clusters, int) else 0

    @property
    def by_rounds(self) -> bool:
        """Whether groups come from the warm-up's own updates."""
        return (self.grouping or ("rounds" if self.clusters == AUTO else "exchange")) == "rounds"

    @property
    def changing(self) -> bool:
        """Whether groups change after they have been formed."""
        return self.change and self.clusters == AUTO and self.by_rounds

    def check(self, roster: Roster) -> None:
        """Refuse, by SettingsError, more clusters than clients."""
        if self.fixed > len(roster.clients):
            raise SettingsError(
                f"clusters: expected at most the {len(roster.clients)} clients that take part, "
                f"found {self.clusters}"
            )

    def group(
        self, sketches: Mapping[str, NDArray[Any]], *, seed: int, observer: Observer
    ) -> Grouping:
        """Cluster the clients that have a sketch, by label; raises as `cluster`.

        The labels of the result are in the alphabetic order of the clients'. The observer is told
        the distances, of up to 500 clients.
        """
        labels = sorted(sketches)
        rows = np.stack([sketches[label] for label in labels])
        if self.clusters == AUTO:
            size = max(self.min_cluster_size, 2)
            if not self.by_rounds:  # else they are directions already
                rows = np.stack([unit(row) for row in rows])
            structure = find_structure(rows, linkage=self.linkage, min_size=size, seed=seed)
            numbers, k = structure.labels, int(structure.labels.max()) + 1
            found = Grouping(numbers, centroids_of(rows, numbers, k), k, structure.note)
        else:
            found = cluster(
                rows,
                min(self.fixed, len(rows)) if self.by_rounds else self.fixed,
                linkage=self.linkage,
                min_size=self.min_cluster_size,
                min_silhouette=self.min_silhouette,
                seed=seed,
            )
        if len(labels) <= _MOST_COMPARED:
            observer.on_distances(labels, cosine_distances(rows))
        return found
