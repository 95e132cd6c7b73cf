"""The end of a run: personal models, the users kept out, the report."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from caafp_app.pruning.schedule import Phase
from caafp_app.runs.records import UnseenRecord
from caafp_app.strategies.personal import Personal, personalise
from caafp_app.strategies.report import ClusteredResult, ClusterResult, build_report
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
    unseen: tuple[UnseenRecord, ...] = ()
    if runner.roster.kept_out:
        unseen = score_unseen(runner, method, last)
    total = seconds["startup"] + seconds["rounds"] + time.monotonic() - began
    models, result = method.published(), run.result
    result.arrays = run.mean_arrays()
    result.report = build_report(
        models,
        runner.roster,
        found.scores,
        runner.ledger,
        {"total": total, **seconds},
        strategy.split,
        method.parts(),
        unseen,
        found.classes,
    )
    result.clusters = {
        number: ClusterResult.of(
            cluster,
            models[number].mask,
            run.history.get(-1, []) * (number >= 0) + run.history.get(number, []),
        )
        for number, cluster in result.report.clusters.items()
    }
    strategy.observer.on_finish(result.report)
    run.progress.tell(runner.ledger.total)
    run.saving.clear()
    return result
