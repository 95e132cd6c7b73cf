"""What a run saves after a round, and how another process takes it up again.

Models, masks and sums between mask updates, clients by label, the ledger, metrics and seconds so
far, and what a strategy adds of its own. Generators need no state: each is made from the seed.
What lives on clients is not in it.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from flwr.app import MetricRecord
from flwr.serverapp.strategy import Result

from caafp_app.protocol.layout import Layout
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runs.checkpoint import State, damaged
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.hooks import StrategyHooks

_METRICS = (
    "train_metrics_clientapp",
    "evaluate_metrics_clientapp",
    "evaluate_metrics_serverapp",
)


def save_run(strategy: StrategyHooks, layout: Layout, result: Result, seconds: float) -> State:
    """Return the state of a run between two rounds.

    Parameters
    ----------
    strategy : StrategyHooks
    layout : Layout
        That of the start.
    result : Result
        The metrics so far.
    seconds : float
        How long its rounds have taken, those before it was resumed with them.
    """
    state = State(
        {
            "strategy": type(strategy).__name__,
            "layout": layout.digest,
            "plan": _plan(strategy.plan),
            "roster": strategy.roster.state(),
            "ledger": strategy.ledger.state(),
            "norms": strategy.update_bound.state(),
            "metrics": {kind: _plain(getattr(result, kind)) for kind in _METRICS},
            "seconds": seconds,
            "clusters": sorted(strategy.models),
        }
    )
    state.put("own", strategy.own_state())
    for number, model in strategy.models.items():
        state.put(f"model {number}", model.state())
    return state


def restore_run(strategy: StrategyHooks, layout: Layout, result: Result, state: State) -> float:
    """Take a run up from what `save_run` returned; return its seconds of before.

    Raises
    ------
    RunError
        If the state is that of another strategy, model or plan.
    """
    expected = {
        "strategy": type(strategy).__name__,
        "layout": layout.digest,
        "plan": _plan(strategy.plan),
    }
    for name, value in expected.items():
        if state.fact(name) != value:
            what = "another plan of rounds" if name == "plan" else repr(state.fact(name))
            raise damaged(f"{name}: expected that of this run, found {what}")
    try:
        strategy.roster.restore(state.fact("roster"))
        strategy.ledger.restore(state.fact("ledger"))
        strategy.update_bound.restore(state.fact("norms"))
        for kind in _METRICS:
            for number, metrics in state.fact("metrics")[kind].items():
                getattr(result, kind)[int(number)] = MetricRecord(metrics)
        strategy.restore_own(state.part("own"))
        inner = strategy.model_layout(layout)
        strategy.models = {
            int(number): ClusterModel.from_state(inner, state.part(f"model {number}"))
            for number in state.fact("clusters")
        }
        return float(state.fact("seconds"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(repr(error)) from error


def _plan(plan: Sequence[RoundPlan]) -> list[dict[str, Any]]:
    return [asdict(step) | {"phase": str(step.phase)} for step in plan]


def _plain(metrics: dict[int, MetricRecord]) -> dict[str, dict[str, Any]]:
    return {str(number): dict(record) for number, record in metrics.items()}
