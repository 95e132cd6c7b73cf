"""Users kept out of training, scored with the model that a new device would get, without labels.

The general model, the mean of the clusters' by their members' examples, stands in beside the
clusters at no byte more. A rule gives a user a cluster's model where evidence without labels speaks
for it, and the general model otherwise.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median_low

import numpy as np
from flwr.app import MetricRecord
from numpy.typing import NDArray

from caafp_app.clustering.unlabelled import GENERAL, informed
from caafp_app.errors import SettingsError
from caafp_app.protocol.messages import Action
from caafp_app.protocol.objective import INPUT_STATISTICS, UNLABELLED
from caafp_app.pruning.bounds import norm_of
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client, generator
from caafp_app.runner.runner import Runner
from caafp_app.runner.tally import pick
from caafp_app.runner.told import MOST_TIMES
from caafp_app.runs.records import UnseenRecord
from caafp_app.strategies.method import Method
from caafp_app.strategies.report import mean_of_clusters

NEARER = 0.7
"""How near a cluster's members have to be, as a share of the distance to everybody's middle."""

Evidence = Mapping[int, Mapping[str, float]]
"""What each model says of a user's windows, by its number: see `client.unlabelled`."""
Nearness = Mapping[int, float]
"""How far a user's windows are from those of each cluster's members; `GENERAL`: of everybody."""


def always_general(models: Evidence, distances: Nearness) -> int:
    """Give everybody the general model."""
    return GENERAL


def surest(models: Evidence, distances: Nearness) -> int:
    """Give the cluster's model that is most sure, as if that were knowledge."""
    clusters = [number for number in models if number != GENERAL]
    return max(clusters, key=lambda k: models[k].get("sure", 0.0), default=GENERAL)


def most_informed(models: Evidence, distances: Nearness) -> int:
    """Give a model that is sure and yet tells classes apart, where it is ahead by a margin."""
    return informed(
        {k: one.get("variety", 0.0) - one.get("entropy", 0.0) for k, one in models.items()}
    )


def nearest(models: Evidence, distances: Nearness) -> int:
    """Give the model of the cluster whose members' windows are like the user's, if they are."""
    clusters = [number for number in distances if number != GENERAL and number in models]
    best = min(clusters, key=lambda k: distances[k], default=GENERAL)
    near = best != GENERAL and distances[best] < NEARER * distances[GENERAL]
    return best if near else GENERAL


def agreed(models: Evidence, distances: Nearness) -> int:
    """Give a cluster's model where both kinds of evidence are for it."""
    found = most_informed(models, distances)
    return found if found == nearest(models, distances) else GENERAL


RULES: dict[str, Callable[[Evidence, Nearness], int]] = {
    "general": always_general,
    "surest": surest,
    "informed": most_informed,
    "nearest": nearest,
    "agreed": agreed,
}
DEFAULT_RULE = "informed"
"""The rule in use, and that of `devices.newcomer`: on validation data never behind another one by
more than 2 points (docs/results.md), and it needs no statistics of anybody's windows."""


def draw_unseen(asked: str, labels: list[str], seed: int) -> list[str]:
    """Return the users to keep out: so many, drawn by the seed, or those that are named.

    Raises
    ------
    SettingsError
        There are none of that name, or none would be left.
    """
    if asked.strip().isdecimal():
        count = min(int(asked), len(labels))
        drawn = generator(seed, 0, "unseen").permutation(len(labels))[:count]
        found = sorted(labels[place] for place in drawn)
    else:
        found = sorted({part.strip() for part in asked.split(",") if part.strip()})
        if unknown := [label for label in found if label not in labels]:
            raise SettingsError(
                f"unseen-users: expected a number, or labels of clients, found {unknown[0]!r}; "
                f"there are {', '.join(labels[:5])}, ..."
            )
    if len(found) >= len(labels):
        raise SettingsError(
            f"unseen-users: expected fewer than the {len(labels)} clients, found {asked}"
        )
    return found


def score_unseen(
    runner: Runner, method: Method, step: RoundPlan, statistics: Mapping[str, list[float]]
) -> tuple[UnseenRecord, ...]:
    """Let the users kept out score every model, and choose one for each by every rule.

    Parameters
    ----------
    runner : Runner
    method : Method
    step : RoundPlan
        The number of the exchanges is that after the last round.
    statistics : mapping of str to list of float
        `INPUT_STATISTICS` of the clients that took part, by label.
    """
    roster = runner.roster
    members = roster.clusters()
    clusters = {k: model for k, model in method.published().items() if k in members}
    candidates = {GENERAL: mean_of_clusters(clusters, members, robust=runner.options.robust)}
    if len(clusters) > 1:
        candidates |= clusters
    users = tuple(client for _, client in sorted(roster.kept_out.items()))
    found: dict[str, dict[int, MetricRecord]] = {client.label: {} for client in users}
    for number, model in candidates.items():
        query = Query(Action.EVALUATE, model, users, number, config={UNLABELLED: 1.0})
        answers = runner.hold([query], "unseen", step.round, needed=False)
        for label, metrics in answers.tally.metrics().items():
            found[label][number] = metrics
    rows = [_record(label, found[label], members, statistics) for label in sorted(found)]
    return tuple(row for row in rows if row is not None)


def _record(
    label: str,
    models: Mapping[int, MetricRecord],
    members: Mapping[int, list[Client]],
    statistics: Mapping[str, list[float]],
) -> UnseenRecord | None:
    accuracies = {number: pick(metrics, "accuracy") for number, metrics in models.items()}
    known = {k: value for k, value in accuracies.items() if value is not None and 0 <= value <= 1}
    if GENERAL not in known:
        return None
    evidence = {k: _numbers(models[k]) for k in known}
    own = statistics_of(models[GENERAL])
    distances = distances_to(own, members, statistics) if len(known) > 1 else {}
    chosen = {name: rule(evidence, distances) for name, rule in RULES.items()}
    return UnseenRecord(label=label, accuracies=known, chosen=chosen, rule=DEFAULT_RULE)


def _numbers(metrics: MetricRecord) -> dict[str, float]:
    found = {k: metrics.get(k) for k in ("sure", "entropy", "variety")}
    return {k: float(v) for k, v in found.items() if isinstance(v, int | float) and 0 <= v < 1e6}


def statistics_of(metrics: MetricRecord) -> list[float]:
    """Return the input statistics that a client sent; empty if they are none."""
    sent = metrics.get(INPUT_STATISTICS)
    if not isinstance(sent, list) or len(sent) > 10_000 or not np.isfinite(sent).all():
        return []
    return [float(value) for value in sent]


def distances_to(
    own: list[float],
    members: Mapping[int, list[Client]],
    statistics: Mapping[str, list[float]],
) -> dict[int, float]:
    """Return how far a user is from the middle of each cluster, and of everybody.

    Each statistic counts by its deviation over the clients. A client whose statistics are more than
    `MOST_TIMES` as long as the median client's has made them up, and is left out.
    """
    told = {label: np.array(row) for label, row in statistics.items() if len(row) == len(own) > 0}
    norms = {label: norm_of(row) for label, row in told.items()}
    longest = MOST_TIMES * median_low(norms.values()) if norms else 0.0
    rows: dict[int, list[NDArray[np.float64]]] = {}
    for number, clients in members.items():
        for client in clients:
            if norms.get(client.label, math.inf) <= longest < math.inf:
                rows.setdefault(number, []).append(told[client.label])
    if not rows or not math.isfinite(norm_of(np.array(own))):
        return {}
    everybody = np.stack([row for some in rows.values() for row in some])
    scale = everybody.std(axis=0)
    scale[scale == 0] = 1.0

    def distance(some: NDArray[np.float64]) -> float:
        return float(np.linalg.norm((np.array(own) - some.mean(axis=0)) / scale))

    return {GENERAL: distance(everybody), **{k: distance(np.stack(v)) for k, v in rows.items()}}


def asked_besides(queries: list[Query]) -> list[Query]:
    """Return the queries of the personal phase, with a question for what clusters are known by."""
    return [replace(one, config={**one.config, UNLABELLED: 1.0}) for one in queries]
