"""What a run ends with, put together from the models, the roster and the scores."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Result
from numpy.typing import NDArray

from caafp_app.protocol.mask import Mask
from caafp_app.pruning.bounds import capped, norm_of, shrink
from caafp_app.runner.model import SparseModel, mean_model
from caafp_app.runner.roster import Client
from caafp_app.runner.tally import Tally
from caafp_app.runs.records import MOST_EXAMPLES, ClientRecord, ClusterReport, RunReport
from caafp_app.runs.text import some

MODEL_FACTOR = 1.5
"""In the mean of the clusters' models one is at most so many times as long as the median client's:
models, unlike updates, are not compared by their direction."""


@dataclass(frozen=True)
class ClusterRound:
    """One round of training of one cluster.

    Attributes
    ----------
    round : int
    replies : int
        Clients of the cluster whose updates entered the mean.
    density : float
        Active share of the prunable weights as the round ended.
    accuracy, loss : float or None
        Mean of what these clients' train replies report: of our own app, the received model's on
        held-out data.
    """

    round: int
    replies: int
    density: float
    accuracy: float | None
    loss: float | None

    @classmethod
    def of(cls, tally: Tally, members: Sequence[Client], density: float) -> "ClusterRound":
        """Take the cluster's part of what came of an exchange."""
        labels = {client.label for client in members} & tally.contents.keys()
        accuracy, loss = (tally.mean(kind, labels) for kind in ("accuracy", "loss"))
        return cls(tally.round, len(labels), density, accuracy, loss)


@dataclass(frozen=True)
class ClusterResult:
    """One cluster as the caller of ``start`` gets it.

    Attributes
    ----------
    arrays : ArrayRecord
        The dense model, zero at pruned weights.
    mask : dict of ndarray of bool
        Active weights, by name and shape of each prunable array.
    members : tuple of str
        Labels of its clients.
    density : float
        Active share of the prunable weights.
    history : tuple of ClusterRound
        Its rounds, from the one that all clients shared on; after a resumption those since then.
    """

    arrays: ArrayRecord
    mask: dict[str, NDArray[np.bool_]]
    members: tuple[str, ...]
    density: float
    history: tuple[ClusterRound, ...] = ()


@dataclass(repr=False)
class ClusteredResult(Result):
    """Flower's result, and each cluster's model, mask and members.

    ``arrays`` is the mean of the clusters' models, weighted by training examples; ``report`` is
    what observers are told at the end: clients, bytes and seconds.
    """

    clusters: dict[int, ClusterResult] = field(default_factory=dict)
    report: RunReport | None = None

    def __repr__(self) -> str:
        """Say what Flower's result says, and who is in which cluster."""
        told = (
            f"\t{number}: {some(one.members)}; density {one.density:.3g}\n"
            for number, one in self.clusters.items()
        )
        return f"{super().__repr__()}\nClusters:\n{''.join(told)}"


def reports_of(
    models: Mapping[int, SparseModel],
    members: Mapping[int, Sequence[Client]],
    parts: Mapping[int, Mapping[str, Mask]],
) -> dict[int, ClusterReport]:
    """Return what there is to say of each cluster; one that nobody is in is left out."""
    return {
        number: ClusterReport(
            members=tuple(c.label for c in members[number]),
            examples=sum(min(max(c.examples, 0), MOST_EXAMPLES) for c in members[number]),
            density=model.mask.density,
            arrays=model.arrays(),
            mask_bits=model.mask.packed,
            mask_digest=model.mask.digest,
            parts={share: mask.packed for share, mask in parts.get(number, {}).items()},
        )
        for number, model in sorted(models.items())
        if number in members
    }


def record_of(client: Client, scores: Mapping[str, float]) -> ClientRecord:
    """Return the record of a client, whose scores have the names of its fields."""
    found: dict[str, Any] = {name.replace("-", "_"): value for name, value in scores.items()}
    examples = max(client.examples, 0)
    return ClientRecord(label=client.label, cluster=client.cluster, examples=examples, **found)


def mean_of_clusters(
    models: Mapping[int, SparseModel],
    members: Mapping[int, Sequence[Client]],
    *,
    robust: bool = False,
) -> SparseModel:
    """Return the mean of the clusters' models, weighted by their members' training examples.

    A client of which nothing is known counts as one example. If `robust`, one of many counts as
    the median one, and a model longer than most clients' is scaled down: liars in a cluster of
    their own may have driven it anywhere. Without members: the first model.
    """
    everybody = [client for clients in members.values() for client in clients]
    weights = [float(max(client.examples, 1)) for client in everybody]
    weights = capped(weights) if robust else weights
    weigh = {client.label: weight for client, weight in zip(everybody, weights, strict=True)}
    weighted = [
        (models[number], sum(weigh[client.label] for client in clients))
        for number, clients in sorted(members.items())
        if number in models
    ]
    if robust:
        counts = [len(clients) for number, clients in sorted(members.items()) if number in models]
        weighted = _no_longer(weighted, counts)
    if len(weighted) == 1:  # to the bit, and of any magnitude
        return weighted[0][0]
    return mean_model(weighted) if weighted else next(iter(models.values()))


def _no_longer(
    weighted: Sequence[tuple[SparseModel, float]], counts: Sequence[int]
) -> list[tuple[SparseModel, float]]:
    """Scale down models whose norm is above `MODEL_FACTOR` times the median client's.

    One that has diverged to infinity is left out.
    """
    norms = [norm_of(model.flat.weights, model.flat.rest) for model, _ in weighted]
    usual = [norm for norm, count in zip(norms, counts, strict=True) for _ in range(count)]
    longest = MODEL_FACTOR * statistics.median_low(usual) if usual else math.inf
    return [
        (model.scaled(shrink(norm, longest)), weight)
        for (model, weight), norm in zip(weighted, norms, strict=True)
        if math.isfinite(norm)
    ]
