"""What a run ends with, put together from the models, the roster and the scores."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Result
from numpy.typing import NDArray

from caafp_app.protocol.layout import FlatModel, Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import to_record
from caafp_app.runs.ledger import Ledger
from caafp_app.runs.records import ClientRecord, ClusterReport, RunReport
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.roster import Client, Roster, weights_by_examples
from caafp_app.strategies.tally import Tally


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
        Mean over these clients of what their train replies report, if they do: of our own app, the
        received model's on held-out data.
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

    @classmethod
    def of(
        cls, report: ClusterReport, mask: Mask, history: Iterable[ClusterRound] = ()
    ) -> "ClusterResult":
        """Wrap a report's arrays for the user."""
        arrays, layers = to_record(report.arrays), mask.by_layer()
        return cls(arrays, layers, report.members, report.density, tuple(history))


@dataclass
class ClusteredResult(Result):
    """Flower's result, and each cluster's model, mask and members.

    ``arrays`` is the mean of the clusters' models, weighted by training examples.
    """

    clusters: dict[int, ClusterResult] = field(default_factory=dict)


def build_report(
    models: Mapping[int, ClusterModel],
    roster: Roster,
    scores: Mapping[str, Mapping[str, float]],
    ledger: Ledger,
    seconds: Mapping[str, float],
    split: str,
) -> RunReport:
    """Put the report of a run together; a cluster nobody is in is left out."""
    members = roster.clusters()
    clusters = {
        number: ClusterReport(
            members=tuple(c.label for c in members[number]),
            examples=sum(max(c.examples, 0) for c in members[number]),
            density=model.mask.density,
            arrays=model.layout.unflatten(model.model),
            mask_bits=model.mask.packed,
            mask_digest=model.mask.digest,
        )
        for number, model in sorted(models.items())
        if number in members
    }
    clients = tuple(
        _client(client, scores.get(client.label, {}))
        for client in sorted(roster.clients.values(), key=lambda c: c.label)
    )
    return RunReport(
        clients=clients, clusters=clusters, ledger=ledger, seconds=dict(seconds), split=split
    )


def mean_model(
    layout: Layout, models: Mapping[int, ClusterModel], members: Mapping[int, Sequence[Client]]
) -> dict[str, NDArray[Any]]:
    """Mean of the clusters' models, weighted by the training examples of their members."""
    shares = weights_by_examples({k: members[k] for k in models if k in members})
    weights = np.zeros(layout.weight_count)
    rest = np.zeros(layout.rest_count)
    other: dict[str, NDArray[Any]] = {}
    for number, share in shares.items():
        model = models[number].model
        weights += share * model.weights
        rest += share * model.rest
        other = other or model.other
    if not shares:
        return layout.unflatten(next(iter(models.values())).model)
    return layout.unflatten(
        FlatModel(weights.astype(layout.dtype), rest.astype(layout.dtype), other)
    )


def _client(client: Client, scores: Mapping[str, float]) -> ClientRecord:
    return ClientRecord(
        label=client.label,
        cluster=client.cluster,
        examples=max(client.examples, 0),
        test_examples=int(scores.get("test-examples", 0)),
        cluster_accuracy=scores.get("cluster-accuracy"),
        cluster_loss=scores.get("cluster-loss"),
        personal_accuracy=scores.get("personal-accuracy"),
        personal_loss=scores.get("personal-loss"),
        personal_sparsity=scores.get("personal-sparsity"),
    )
