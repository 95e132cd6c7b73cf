"""What strategies are told of clustering and pruning, and how rounds are divided among phases."""

from dataclasses import dataclass, field

from caafp_app.clustering.agglomerative import LEAST_SILHOUETTE
from caafp_app.errors import SettingsError
from caafp_app.strategies.base import BaseStrategy
from caafp_app.strategies.evolution import ScoreRule
from caafp_app.strategies.roster import Roster


@dataclass(frozen=True)
class Clustering:
    """How clients are grouped: see `clustering.agglomerative.cluster`."""

    clusters: int = 0
    linkage: str = "average"
    min_size: int = 1
    min_silhouette: float = LEAST_SILHOUETTE

    def __str__(self) -> str:
        """Say it as the plan shows it."""
        number = str(self.clusters) if self.clusters else "1 to 6 by silhouette"
        return f"{number}, {self.linkage} linkage"


@dataclass(frozen=True)
class Pruning:
    """How much is pruned, when, and which weights.

    Attributes
    ----------
    sparsity, initial_sparsity : float
        Pruned share of the prunable weights at the end and at the start.
    schedule : {"cubic", "linear", "one-shot"}
    every : int
        Rounds between mask updates.
    initial_mask : {"magnitude", "random", "snip"}
        What decides the first mask of a model that is sparse from the start.
    allocation : {"uniform", "erk", "global"}
    regrow : float
        Share of a layer's active weights exchanged in an update.
    granularity : {"weight", "filter"}
        What is pruned. Whole filters (of plain chains of convolutions and dense layers) do not grow
        back, and go evenly over layers; `regrow` and `allocation` are of single weights.
    score : ScoreRule
    """

    sparsity: float = 0.7
    initial_sparsity: float = 0.0
    schedule: str = "cubic"
    every: int = 5
    initial_mask: str = "magnitude"
    allocation: str = "uniform"
    regrow: float = 0.05
    granularity: str = "weight"
    score: ScoreRule = field(default_factory=ScoreRule)


def check_clusters(rule: Clustering, roster: Roster) -> None:
    """Refuse more clusters than clients.

    Raises
    ------
    SettingsError
    """
    if rule.clusters > len(roster.clients):
        raise SettingsError(
            f"clusters: expected at most the {len(roster.clients)} clients that take part, "
            f"found {rule.clusters}"
        )


def check_own_app(strategy: BaseStrategy, key: str) -> None:
    """Refuse a ClientApp that is not said to be one like ours, which keeps a model of its own.

    Raises
    ------
    SettingsError
    """
    if not strategy.one_exchange:
        raise SettingsError(
            f"{type(strategy).__name__}: expected a ClientApp that keeps a model of its own, "
            f"follows {key!r} in its config and reports its scores with its training, as that of "
            "caafp_app does, which is said by one_exchange=True; found one_exchange=False: set it "
            "for such an app, or take FedAvg, FedSNIP or CAAFP"
        )


def check_room(total: int, parts: tuple[int, int, int]) -> None:
    """Refuse a division of `total` rounds that has no room for a mask update.

    Raises
    ------
    SettingsError
    """
    _, within, prune = parts
    if prune == 0 or within + prune < 2:
        raise SettingsError(
            "num_rounds: expected a round inside the clusters and another to prune in, found "
            f"{total}, divided into {' + '.join(map(str, parts))} (warm-up, inside, prune): take "
            "3 or more, give prune_rounds, or Pruning(sparsity=0.0)"
        )


def divide_rounds(
    total: int, warmup: int | None, within: int | None, prune: int | None
) -> tuple[int, int, int]:
    """Divide `total` rounds among the three phases.

    Raises
    ------
    SettingsError
        If the given ones do not add up to `total`.
    """
    given = (warmup, within, prune)
    if all(part is not None for part in given):
        if sum(part or 0 for part in given) != total:
            raise SettingsError(
                f"warmup, cluster and prune rounds: expected {total} together (num_rounds), "
                f"found {warmup} + {within} + {prune}"
            )
        return warmup or 0, within or 0, prune or 0
    left = total - sum(part or 0 for part in given)
    shares = [0.3 if part is None else 0.0 for part in given]
    if prune is None:
        shares[2] = 0.4
    open_ = [i for i, part in enumerate(given) if part is None]
    if left < 0:
        raise SettingsError(f"the phases have more rounds than num_rounds ({total})")
    parts = [part or 0 for part in given]
    for i in open_[:-1]:
        parts[i] = int(left * shares[i] / sum(shares) + 0.5)
    parts[open_[-1]] = total - sum(parts)
    return parts[0], parts[1], parts[2]
