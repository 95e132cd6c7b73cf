"""Users kept out of training, scored with the model that a new device would get, without labels.

The general model, the mean of the clusters' by their members' examples, stands in beside the
clusters at no byte more. A rule gives a user a cluster's model where evidence without labels speaks
for it, and the general model otherwise.
"""

from collections.abc import Callable, Mapping

from flwr.app import MetricRecord

from caafp_app.errors import SettingsError
from caafp_app.protocol.messages import Action
from caafp_app.protocol.objective import UNLABELLED
from caafp_app.protocol.unlabelled import GENERAL, information, informed
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runner.query import Query
from caafp_app.runner.roster import generator
from caafp_app.runner.runner import Runner
from caafp_app.runner.tally import pick
from caafp_app.runs.records import UnseenRecord
from caafp_app.strategies.method import Method
from caafp_app.strategies.report import mean_of_clusters

Evidence = Mapping[int, Mapping[str, float]]
"""What each model says of a user's windows, by its number: see `protocol.unlabelled`."""


def surest(models: Evidence) -> int:
    """Give the cluster's model that is most sure, as if that were knowledge."""
    clusters = [number for number in models if number != GENERAL]
    return max(clusters, key=lambda k: models[k].get("sure", 0.0), default=GENERAL)


RULES: dict[str, Callable[[Evidence], int]] = {
    "general": lambda models: GENERAL,
    "surest": surest,
    "informed": lambda models: informed({k: information(one) for k, one in models.items()}),
}
DEFAULT_RULE = "informed"
"""The rule in use, and that of `devices.newcomer`. Rules that also compare means and deviations of
windows were no better (docs/results.md), and every client had to send these."""


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


def score_unseen(runner: Runner, method: Method, step: RoundPlan) -> tuple[UnseenRecord, ...]:
    """Let the users kept out score every model, and choose one for each by every rule."""
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
    rows = [_record(label, found[label]) for label in sorted(found)]
    return tuple(row for row in rows if row is not None)


def _record(label: str, models: Mapping[int, MetricRecord]) -> UnseenRecord | None:
    accuracies = {number: pick(metrics, "accuracy") for number, metrics in models.items()}
    known = {k: value for k, value in accuracies.items() if value is not None and 0 <= value <= 1}
    if GENERAL not in known:
        return None
    evidence = {k: _numbers(models[k]) for k in known}
    chosen = {name: rule(evidence) for name, rule in RULES.items()}
    return UnseenRecord(label=label, accuracies=known, chosen=chosen, rule=DEFAULT_RULE)


def _numbers(metrics: MetricRecord) -> dict[str, float]:
    found = {k: metrics.get(k) for k in ("sure", "entropy", "variety")}
    return {k: float(v) for k, v in found.items() if isinstance(v, int | float) and 0 <= v < 1e6}
