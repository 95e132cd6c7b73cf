"""One run: discovery, rounds and the personalise phase, for every strategy."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from logging import INFO
from typing import TYPE_CHECKING, Any

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from caafp_app.errors import RunError, SettingsError
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.messages import Action, from_record, to_record
from caafp_app.pruning.schedule import Phase, RoundPlan
from caafp_app.registry import AGGREGATIONS
from caafp_app.runner.discovery import gather, tell_population, wait_for_nodes
from caafp_app.runner.exchange import Quorum
from caafp_app.runner.health import available
from caafp_app.runner.model import SparseModel
from caafp_app.runner.options import Options
from caafp_app.runner.roster import Client
from caafp_app.runner.runner import Answers, Runner
from caafp_app.runner.tally import Tally
from caafp_app.runs.checkpoint import Saved, State, damaged
from caafp_app.strategies.averaging import LastModels
from caafp_app.strategies.personal import Scores, personalise
from caafp_app.strategies.report import (
    ClusteredResult,
    ClusterResult,
    ClusterRound,
    build_report,
    mean_of_clusters,
)

if TYPE_CHECKING:
    from caafp_app.strategies.strategy import MethodStrategy

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]

PATIENCE = 3
"""Rounds in a row without a usable update after which a run ends."""

_METRICS = (
    "train_metrics_clientapp",
    "evaluate_metrics_clientapp",
    "evaluate_metrics_serverapp",
)


class Run:
    """All that there is of one run; a strategy's `start` makes it, and it is dropped at the end.

    Parameters
    ----------
    strategy : MethodStrategy
        The arguments.
    grid, initial_arrays, num_rounds, timeout, train_config, evaluate_config
        See `MethodStrategy.start`.
    """

    def __init__(
        self,
        strategy: "MethodStrategy",
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int,
        timeout: float,
        train_config: ConfigRecord,
        evaluate_config: ConfigRecord,
    ) -> None:
        self.strategy = strategy
        self.plan = strategy.plan(num_rounds)
        arrays = from_record(RecordDict({"initial": initial_arrays}), "initial")
        self.layout = Layout.of(
            arrays,
            strategy.prunable,
            spare_first=strategy.spare_first,
            spare_last=strategy.spare_last,
        )
        first = SparseModel.dense(self.layout, self.layout.flatten(arrays))
        self.method = strategy.method(first, self.plan)
        self.result = ClusteredResult(arrays=initial_arrays)
        self.runner = Runner(
            grid,
            strategy.observer,
            Options(
                seed=strategy.seed,
                wire=strategy.wire,
                weighted_by_key=strategy.weighted_by_key,
                arrayrecord_key=strategy.arrayrecord_key,
                configrecord_key=strategy.configrecord_key,
                train_config=train_config,
                evaluate_config=evaluate_config,
                uniform=strategy.uniform,
                one_exchange=strategy.one_exchange,
                timeout=timeout,
                quorum=Quorum(strategy.min_replies, strategy.grace),
                rest_after=strategy.rest_after,
                max_update_norm=strategy.max_update_norm,
                max_weight=strategy.max_weight,
                aggregation=AGGREGATIONS[strategy.aggregation],
                stop=strategy.stop,
            ),
            len(self.plan),
        )
        self.last_models = LastModels(strategy.average_last, len(self.plan))
        self.history: dict[int, list[ClusterRound]] = {}
        self.idle_rounds = 0  # in a row, without a usable update
        self.trained = False

    def to_its_end(self, evaluate_fn: EvaluateFn | None, resume: Saved | None) -> ClusteredResult:
        """Hold all rounds, and those alone that a run to be resumed has left."""
        began = time.monotonic()
        strategy, runner = self.strategy, self.runner
        ended, earlier = 0, 0.0
        if resume is not None:
            ended, state = resume
            earlier = self._restore(state)
            log(INFO, "resumed after round %d of %d", ended, len(self.plan))
        wait_for_nodes(runner, strategy.min_available_nodes)
        newcomers = gather(runner)
        tell_population(runner)
        self._check()
        startup = time.monotonic() - began
        first_reply = time.monotonic() - earlier
        strategy.observer.on_plan(self.plan, self._facts())
        if resume is None:
            self._score(0, evaluate_fn)
            self._save(0, first_reply)
        for step in self.plan[ended:]:
            newcomers += gather(runner)
            runner.roster.count_round()
            self.method.before(runner, step, newcomers)
            newcomers = []
            self._train(step)
            self._evaluate(step)
            self._score(step.round, evaluate_fn)
            self._save(step.round, first_reply)
        last = replace(self.plan[-1], round=len(self.plan) + 1, phase=Phase.PERSONALISE)
        if newcomers:  # of a run that was resumed after its last round
            self.method.before(runner, last, newcomers)
        self.method.models = self.last_models.put_on(self.method.models)
        rounds_ended = time.monotonic()
        scores: Scores = {}
        if strategy.personalise:
            scores = personalise(runner, self.method, last)
        seconds = {
            "total": startup + time.monotonic() - first_reply,
            "rounds": rounds_ended - first_reply,
            "startup": startup,
        }
        return self._finish(scores, seconds)

    def _check(self) -> None:
        """Refuse, before any client works, what these clients or their app cannot do."""
        strategy = self.strategy
        if strategy.needs_own_app and not strategy.one_exchange:
            raise SettingsError(
                f"{type(strategy).__name__}: expected a ClientApp that keeps a model of its own, "
                f"follows {strategy.needs_own_app!r} in its config and reports its scores with its "
                "training, as that of caafp_app does, which is said by one_exchange=True; found "
                "one_exchange=False: set it for such an app, or take FedAvg, FedSNIP or CAAFP"
            )
        self.method.check(self.runner.roster)

    def _facts(self) -> dict[str, object]:
        """Say what a reader of the plan should know of the run."""
        strategy, layout = self.strategy, self.layout
        return {
            "strategy": type(strategy).__name__,
            "clients": f"{len(self.runner.roster.clients)}, {strategy.sampled_share()} a round",
            "model": f"{layout.parameter_count} parameters, {layout.weight_count} prunable",
            **self.method.facts(),
            "wire": str(strategy.wire),
            "seed": strategy.seed,
        }

    def _available(self, round_: int) -> list[Client]:
        return available(self.runner.roster.reachable(), round_)

    def _train(self, step: RoundPlan) -> None:
        """Hold the training of a round and let the method move its models."""
        runner, method, strategy = self.runner, self.method, self.strategy
        clients = strategy.draw(self._available(step.round), step.round)
        queries = method.ask(Action.TRAIN, step, clients)
        for query in queries:
            mask = query.model.mask
            for _ in query.clients:
                runner.ledger.add_formula(query.model.layout.parameter_count, mask.density, 2)
        answers = runner.ask(queries, step.phase, step.round)
        changed = method.apply(step, answers)
        self.last_models.note(step.round, method.models, changed=changed)
        published = dict(sorted(method.published().items()))
        layers = None
        if changed or step.round == 1:
            layers = {number: _densities(model) for number, model in published.items()}
        density = {number: model.density for number, model in published.items()}
        runner.close(answers, density, mask_updated=changed, layers=layers)
        self._require_progress(step, answers.tally)
        members = runner.roster.clusters()
        for number, share in density.items():
            row = ClusterRound.of(answers.tally, members.get(number, []), share)
            self.history.setdefault(number, []).append(row)
        aggregate = strategy.train_metrics_aggr_fn or aggregate_metricrecords
        metrics = answers.tally.aggregate(aggregate, strategy.weighted_by_key)
        if metrics is not None:
            self.result.train_metrics_clientapp[step.round] = metrics

    def _require_progress(self, step: RoundPlan, tally: Tally) -> None:
        """End a run in which nothing works, with the reasons.

        One bad round is no reason to end; `PATIENCE` of them are, or none that has worked at all.
        """
        if tally.contents or not tally.asked:
            self.idle_rounds, self.trained = 0, self.trained or bool(tally.contents)
            return
        self.idle_rounds += 1
        ends = step.round == len(self.plan) and not self.trained
        if ends or self.idle_rounds >= PATIENCE:
            raise RunError(
                f"expected an update from somebody, found none in {self.idle_rounds} rounds in a "
                f"row; in round {step.round}: {tally.why()}"
            )

    def _evaluate(self, step: RoundPlan) -> None:
        """Let clients score their cluster's model, where that is due."""
        strategy = self.strategy
        clients = strategy.draw_to_evaluate(self._available(step.round), step.round)
        if not clients:
            return
        queries = self.method.ask(Action.EVALUATE, step, clients)
        answers: Answers = self.runner.ask(queries, Action.EVALUATE, step.round)
        published = sorted(self.method.published().items())
        self.runner.close(answers, {number: model.density for number, model in published})
        aggregate = strategy.evaluate_metrics_aggr_fn or aggregate_metricrecords
        metrics = answers.tally.aggregate(aggregate, strategy.weighted_by_key)
        if metrics is not None:
            self.result.evaluate_metrics_clientapp[step.round] = metrics

    def _score(self, round_: int, evaluate_fn: EvaluateFn | None) -> None:
        """Let the caller score the mean of the clusters' models."""
        if evaluate_fn is None:
            return
        arrays = self.result.arrays if round_ == 0 else self._mean_arrays()
        metrics = evaluate_fn(round_, arrays)
        if metrics is not None:
            self.result.evaluate_metrics_serverapp[round_] = metrics

    def _mean_arrays(self) -> ArrayRecord:
        published, members = self.method.published(), self.runner.roster.clusters()
        return to_record(mean_of_clusters(published, members).arrays())

    def _finish(self, scores: Scores, seconds: dict[str, float]) -> ClusteredResult:
        models, runner, result = self.method.published(), self.runner, self.result
        result.arrays = self._mean_arrays()
        result.report = build_report(
            models, runner.roster, scores, runner.ledger, seconds, self.strategy.split
        )
        result.clusters = {
            number: ClusterResult.of(
                cluster,
                models[number].mask,
                self.history.get(-1, []) * (number >= 0) + self.history.get(number, []),
            )
            for number, cluster in result.report.clusters.items()
        }
        self.strategy.observer.on_finish(result.report)
        if self.strategy.checkpoints is not None:
            self.strategy.checkpoints.clear()
        return result

    def _save(self, round_: int, first_reply: float) -> None:
        """Save the state after a round; end the run here if it was told to.

        Raises
        ------
        RunError
            If it was.
        """
        kept, stop, total = self.strategy.checkpoints, self.strategy.stop(), len(self.plan)
        if kept is not None and kept.every and (stop or kept.due(round_, total)):
            kept.save(round_, self._state(time.monotonic() - first_reply))
        if stop:
            raise RunError(f"told to end after round {round_} of {total}")

    def _state(self, seconds: float) -> State:
        """Return the run between two rounds; `seconds` is how long its rounds have taken so far.

        Generators need no state: each is made from the seed. What lives on clients is not in it.
        """
        state = State(
            {
                **self._identity(),
                "roster": self.runner.roster.state(),
                "ledger": self.runner.ledger.state(),
                "norms": self.runner.bound.state(),
                "metrics": {kind: _plain(getattr(self.result, kind)) for kind in _METRICS},
                "seconds": seconds,
                "trained": self.trained,
            }
        )
        state.put("method", self.method.state())
        state.put("last models", self.last_models.state())
        return state

    def _restore(self, state: State) -> float:
        """Take up what `_state` returned; return its seconds.

        Raises
        ------
        RunError
            If the state is of another strategy, model or plan.
        """
        for name, value in self._identity().items():
            if state.fact(name) != value:
                what = "another plan of rounds" if name == "plan" else repr(state.fact(name))
                raise damaged(f"{name}: expected that of this run, found {what}")
        try:
            self.runner.roster.restore(state.fact("roster"))
            self.runner.ledger.restore(state.fact("ledger"))
            self.runner.bound.restore(state.fact("norms"))
            for kind in _METRICS:
                for number, metrics in state.fact("metrics")[kind].items():
                    getattr(self.result, kind)[int(number)] = MetricRecord(metrics)
            self.trained = bool(state.fact("trained"))
            self.method.restore(state.part("method"))
            self.last_models.restore(self.method.layout, state.part("last models"))
            return float(state.fact("seconds"))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise damaged(repr(error)) from error

    def _identity(self) -> dict[str, Any]:
        """Return what a checkpoint must have in common with the run that takes it up."""
        return {
            "strategy": type(self.strategy).__name__,
            "layout": self.layout.digest,
            "plan": _plan(self.plan),
        }


def _densities(model: SparseModel) -> dict[str, float]:
    return {name: float(bits.mean()) for name, bits in model.mask.by_layer().items()}


def _plan(plan: Sequence[RoundPlan]) -> list[dict[str, Any]]:
    return [asdict(step) | {"phase": str(step.phase)} for step in plan]


def _plain(metrics: dict[int, MetricRecord]) -> dict[str, dict[str, Any]]:
    return {str(number): dict(record) for number, record in metrics.items()}
