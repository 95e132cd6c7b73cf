"""The end of a run: every client fine-tunes inside its cluster's mask and is scored; the report."""

import math
import time
from dataclasses import replace
from logging import WARNING
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from flwr.common.logger import log
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.messages import Action, to_record
from caafp_app.pruning.schedule import Phase, RoundPlan
from caafp_app.runner.roster import Client
from caafp_app.runner.runner import Answers, Runner
from caafp_app.runner.tally import Tally, pick
from caafp_app.runner.told import class_counts, usual
from caafp_app.runs.classes import ClassCounts
from caafp_app.runs.records import RunReport
from caafp_app.strategies.method import Method
from caafp_app.strategies.report import ClusteredResult, ClusterResult, record_of, reports_of
from caafp_app.strategies.unseen import score_unseen

if TYPE_CHECKING:
    from caafp_app.strategies.run import Run

MOST_EPOCHS = 1e6
"""No client trains longer; a larger number is made up."""

Scores = dict[str, dict[str, float]]
"""By label: scores of the cluster's and the personal model, sparsity, number of test examples, and
the epochs of fine-tuning where clients find them."""

Counts = dict[str, dict[str, NDArray[np.int64]]]
"""By model and label: how many windows of each class are taken for each."""


def end(run: "Run", seconds: dict[str, float]) -> ClusteredResult:
    """Hold what comes after the last round; `seconds` says what startup and rounds have taken."""
    began = time.monotonic()
    strategy, runner, method = run.strategy, run.runner, run.method
    last = replace(run.plan[-1], round=len(run.plan) + 1, phase=Phase.PERSONALISE)
    if run.newcomers:  # of a run that was resumed after its last round
        method.before(runner, last, run.newcomers)
    method.models = run.last_models.put_on(method.models)
    ends = strategy.ends_personal(len(run.plan))
    found = Personal({}, None)
    if ends:
        found = personalise(runner, method, last)
        run.progress.require_personal(found.scores)
    roster = runner.roster
    unseen = score_unseen(runner, method, last) if roster.kept_out else ()
    total = seconds["startup"] + seconds["rounds"] + time.monotonic() - began
    models, members, result = method.published(), roster.clusters(), run.result
    result.arrays = run.mean_arrays()
    result.report = RunReport(
        clients=tuple(
            record_of(client, found.scores.get(label, {}))
            for label, client in sorted(roster.clients.items())
        ),
        clusters=reports_of(models, members, method.parts()),
        ledger=runner.ledger,
        seconds={"total": total, **seconds},
        split=strategy.split,
        unseen=unseen,
        classes=found.classes,
    )
    result.clusters = {
        number: ClusterResult(
            to_record(cluster.arrays),
            models[number].mask.by_layer(),
            cluster.members,
            cluster.density,
            tuple(run.history.get(-1, []) * (number >= 0) + run.history.get(number, [])),
        )
        for number, cluster in result.report.clusters.items()
    }
    strategy.observer.on_finish(result.report)
    run.progress.tell(runner.ledger.total)
    run.saving.clear()
    return result


class Personal(NamedTuple):
    """Scores by label, and counts of classes; None where clients tell nothing of single ones."""

    scores: Scores
    classes: ClassCounts | None


def personalise(runner: Runner, method: Method, step: RoundPlan) -> Personal:
    """Fine-tune on every reachable client; score the cluster's and the personal model of each.

    Our own app reports both scores with the fine-tuning; a foreign one is asked to evaluate the
    cluster's model before and, through the mod that kept it, the personal model after. The run's
    models are made by then: an exchange in which every client fails costs its scores alone.
    """
    scores: Scores = {}
    counts: Counts = {}
    options = runner.options
    one_exchange, key, names = options.one_exchange, options.weighted_by_key, options.class_names

    def keep(tally: Tally, model: str) -> None:
        _keep_scores(scores, tally, model, key)
        counts[model] = _counts(tally, model, len(names), scores)

    def ask(action: Action, phase: str, clients: list[Client]) -> Answers:
        return runner.hold(method.ask(action, step, clients), phase, step.round, needed=False)

    clients = runner.roster.reachable()
    if not one_exchange:
        keep(ask(Action.EVALUATE, Action.EVALUATE, clients).tally, "cluster")
    answers = ask(Action.PERSONALISE, Phase.PERSONALISE, clients)
    for summed in answers.summed:
        model = summed.query.model
        for label, found in summed.outside.items():
            # A foreign app is scored on what the mod kept, our own on what it has trained.
            outside = max(found, 0) if one_exchange else 0
            active = model.mask.count + outside
            sparsity = 1.0 - active / model.whole_count if model.whole_count else 0.0
            scores.setdefault(label, {})["personal-sparsity"] = sparsity
    tally = answers.tally
    if one_exchange:
        keep(tally, "cluster")
    else:
        kept = [client for client in clients if client.label in tally.contents]
        action = Action.EVALUATE_PERSONAL
        tally = ask(action, action, kept).tally
    keep(tally, "personal")
    told = {model: np.stack(list(of.values())) for model, of in counts.items() if of}
    return Personal(scores, ClassCounts(names, told) if told else None)


def _counts(tally: Tally, model: str, classes: int, scores: Scores) -> dict[str, NDArray[np.int64]]:
    """Return what clients tell of a model's classes, by label; without `classes` nothing is read.

    What cannot be is left out, and so is who has many times more windows than most.
    """
    found: dict[str, NDArray[np.int64]] = {}
    for label, metrics in tally.metrics().items() if classes else ():
        try:
            told = class_counts(metrics, model, classes, scores[label].get("test-examples", 0.0))
        except ProtocolError as error:
            log(WARNING, "%s model: counts of classes of %s, left out: %s", model, label, error)
            continue
        if told is not None:
            found[label] = told
    kept = usual(found)
    if many := found.keys() - kept.keys():
        why = "far more windows than most, left out of the counts of classes"
        log(WARNING, "%s model: %s: %s", model, why, ", ".join(sorted(many)))
    return kept


def _keep_scores(scores: Scores, tally: Tally, model: str, weighted_by_key: str) -> None:
    odd = []
    for label, metrics in tally.metrics().items():
        found = scores.setdefault(label, {})
        for kind in ("accuracy", "loss", "f1"):
            value = pick(metrics, kind, model)
            if value is None:
                continue
            if kind == "accuracy" and (value < 0 or value > 1):  # NaN: nothing to be tested on
                odd.append(f"{label} ({value:g})")
            elif math.isfinite(value):
                found[f"{model}-{kind}"] = value
        examples = metrics.get("test-examples", metrics.get(weighted_by_key))
        if isinstance(examples, int | float) and 0 <= examples < math.inf:
            found["test-examples"] = float(examples)
        epochs = metrics.get("finetune-epochs")
        if isinstance(epochs, int | float) and 0 <= epochs <= MOST_EPOCHS:
            found["finetune-epochs"] = float(epochs)
    if odd:
        why = "accuracies outside of [0, 1], left out: expected the share of windows that are right"
        log(WARNING, "%s model: %s, found %s", model, why, ", ".join(odd))
