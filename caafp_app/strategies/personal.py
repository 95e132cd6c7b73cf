"""The personalise phase: every client fine-tunes inside its cluster's mask and is scored."""

import math
from collections.abc import Callable
from logging import WARNING

from flwr.app import ConfigRecord
from flwr.common.logger import log

from caafp_app.protocol.messages import Action, Answer
from caafp_app.pruning.schedule import Phase
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.replies import Expected
from caafp_app.strategies.roster import Client
from caafp_app.strategies.session import Accept, Session
from caafp_app.strategies.tally import Tally, pick

Scores = dict[str, dict[str, float]]
"""By label: accuracy and loss of the cluster's and the personal model, sparsity, test examples."""


def personalise(
    session: Session,
    model_of: Callable[[Client], ClusterModel],
    round_: int,
    train_config: ConfigRecord,
    evaluate_config: ConfigRecord,
) -> Scores:
    """Fine-tune on every reachable client; score the cluster's and the personal model of each.

    Our own app reports both scores with the fine-tuning; a foreign one is asked to evaluate the
    cluster's model before and, through the mod that kept it, the personal model after. The run's
    models are made by then: an exchange that every client fails in costs its scores alone.

    Parameters
    ----------
    session : Session
    model_of : callable
        The model of a client's cluster.
    round_ : int
        Number of the exchange, the one after the last round.
    train_config, evaluate_config : ConfigRecord
        The user's own.
    """
    scores: Scores = {}
    clients = session.roster.reachable()
    one_exchange = session.options.one_exchange

    def ask(
        asked: list[Client],
        action: Action,
        phase: str,
        config: ConfigRecord,
        accept: Accept | None = None,
    ) -> Tally:
        return session.ask(
            asked, model_of, action, str(phase), round_, config, accept, needed=False
        )

    def accept(client: Client, answer: Answer, expected: Expected, weight: float) -> None:
        model = model_of(client)
        # A foreign app is scored on what the mod kept, our own on what it has trained.
        outside = max(answer.outside, 0) if one_exchange else 0
        active = model.mask.count + outside
        sparsity = 1.0 - active / max(model.whole, 1)
        scores.setdefault(client.label, {})["personal-sparsity"] = sparsity

    def keep(tally: Tally, model: str) -> None:
        _keep_scores(scores, tally, model, session.options.weighted_by_key)

    if not one_exchange:
        tally = ask(clients, Action.EVALUATE, Action.EVALUATE, evaluate_config)
        keep(tally, "cluster")
    tally = ask(clients, Action.PERSONALISE, Phase.PERSONALISE, train_config, accept)
    if one_exchange:
        keep(tally, "cluster")
    else:
        kept = [client for client in clients if client.label in tally.contents]
        tally = ask(kept, Action.EVALUATE_PERSONAL, Action.EVALUATE_PERSONAL, evaluate_config)
    keep(tally, "personal")
    return scores


def _keep_scores(scores: Scores, tally: Tally, model: str, weighted_by_key: str) -> None:
    odd = []
    for label, metrics in tally.metrics().items():
        found = scores.setdefault(label, {})
        for kind in ("accuracy", "loss"):
            value = pick(metrics, kind, model)
            if value is None:
                continue
            if kind == "accuracy" and (value < 0 or value > 1):  # NaN: nothing to be tested on
                odd.append(f"{label} ({value:g})")
            else:
                found[f"{model}-{kind}"] = value
        examples = metrics.get("test-examples", metrics.get(weighted_by_key))
        if isinstance(examples, int | float) and 0 <= examples < math.inf:
            found["test-examples"] = float(examples)
    if odd:
        why = "accuracies outside of [0, 1], left out: expected the share of windows that are right"
        log(WARNING, "%s model: %s, found %s", model, why, ", ".join(odd))
