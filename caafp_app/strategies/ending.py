"""The end of a run: personal models, the users kept out, the report."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from caafp_app.protocol.messages import to_record
from caafp_app.pruning.schedule import Phase
from caafp_app.runs.records import RunReport
from caafp_app.strategies.personal import Personal, personalise
from caafp_app.strategies.report import ClusteredResult, ClusterResult, record_of, reports_of
from caafp_app.strategies.unseen import score_unseen

if TYPE_CHECKING:
    from caafp_app.strategies.run import Run


def end(run: "Run", seconds: dict[str, float]) -> ClusteredResult:
    """Hold what comes after the last round; `seconds` says what startup and rounds have taken."""
    began = time.monotonic()
    strategy, runner, method = run.strategy, run.runner, run.method
    last = replace(run.plan[-1], round=len(run.plan) + 1, phase=Phase.PERSONALISE)
    if run.newcomers:  # of a run that was resumed after its last round
        method.before(runner, last, run.newcomers)
    method.models = run.last_models.put_on(method.models)
    ends = strategy.ends_personal(len(run.plan))
    found = personalise(runner, method, last) if ends else Personal({}, None)
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
