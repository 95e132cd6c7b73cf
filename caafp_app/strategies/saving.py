"""The state of a run between two rounds: what is saved, when, and how it is taken up again."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from logging import INFO
from typing import TYPE_CHECKING, Any

from flwr.app import MetricRecord
from flwr.common.logger import log

from caafp_app.errors import ProtocolError, RunError
from caafp_app.runs.checkpoint import Checkpoints, Saved, State, damaged

if TYPE_CHECKING:
    from caafp_app.strategies.run import Run

_METRICS = (
    "train_metrics_clientapp",
    "evaluate_metrics_clientapp",
    "evaluate_metrics_serverapp",
)


class Saving:
    """Saves the state after a round where that is due, and ends a run that was told to end."""

    def __init__(self, kept: Checkpoints | None, stop: Callable[[], bool], rounds: int) -> None:
        self.kept, self.stop, self.rounds = kept, stop, rounds
        self._unsaved: Saved | None = None

    def after(self, round_: int, state: Callable[[], State]) -> None:
        """Save what `state` returns, if it is due; end the run by RunError if it was told to."""
        stop, self._unsaved = self.stop(), None
        if self.kept is not None and self.kept.every:
            if stop or self.kept.due(round_, self.rounds):
                self.kept.save(round_, state())
            else:  # a run may be told to end in the middle of the next round
                self._unsaved = Saved(round_, deepcopy(state()))
        if stop:
            raise RunError(f"told to end after round {round_} of {self.rounds}")

    def the_round_before(self) -> None:
        """Save the state after the last whole round, if no checkpoint was due then."""
        if self.kept is not None and self._unsaved is not None:
            self.kept.save(*self._unsaved)
            log(INFO, "saved the state after round %d", self._unsaved.round)

    def clear(self) -> None:
        """Remove what was saved, of a run that has ended."""
        if self.kept is not None:
            self.kept.clear()


def state_of(run: "Run", seconds: float) -> State:
    """Return the run between two rounds; `seconds` is how long its rounds have taken so far.

    Generators need no state: each is made from the seed. What lives on clients is not in it.
    """
    return {
        **_identity(run),
        "roster": run.runner.roster.state(),
        "ledger": run.runner.ledger.state(),
        "influence": run.runner.influence.state(),
        "metrics": {
            kind: {number: dict(record) for number, record in getattr(run.result, kind).items()}
            for kind in _METRICS
        },
        "seconds": seconds,
        "progress": run.progress.state(),
        "method": run.method.state(),
        "last models": run.last_models.state(),
    }


def restore(run: "Run", state: State) -> float:
    """Take up what `state_of` returned; return its seconds.

    Raises RunError if it is of another strategy, model or plan.
    """
    for name, value in _identity(run).items():
        if state.get(name) != value:
            what = "another plan of rounds" if name == "plan" else repr(state.get(name))
            raise damaged(f"{name}: expected that of this run, found {what}")
    try:
        run.runner.roster.restore(state["roster"])
        run.runner.ledger.restore(state["ledger"])
        run.runner.influence.restore(state["influence"])
        for kind in _METRICS:
            for number, metrics in state["metrics"][kind].items():
                getattr(run.result, kind)[int(number)] = MetricRecord(metrics)
        run.progress.restore(state["progress"])
        run.method.restore(state["method"])
        run.last_models.restore(run.method.layout, state["last models"])
        return float(state["seconds"])
    except (AttributeError, KeyError, ProtocolError, TypeError, ValueError) as error:
        raise damaged(repr(error)) from error


def _identity(run: "Run") -> dict[str, Any]:
    """Return what a checkpoint must have in common with the run that takes it up."""
    return {
        "strategy": type(run.strategy).__name__,
        "layout": run.layout.digest,
        "plan": [asdict(step) | {"phase": str(step.phase)} for step in run.plan],
    }
