"""How a run goes: discovery, rounds and the personalise phase, for every strategy."""

import time
from collections.abc import Callable
from dataclasses import replace
from logging import INFO

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from caafp_app.errors import RunError
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.messages import from_record, to_record
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.strategies.discovery import gather, tell_population, wait_for_nodes
from caafp_app.strategies.options import SessionOptions
from caafp_app.strategies.personal import Scores, personalise
from caafp_app.strategies.report import ClusteredResult, ClusterResult, build_report, mean_model
from caafp_app.strategies.roster import Client
from caafp_app.strategies.rounds import RoundStrategy
from caafp_app.strategies.session import Session
from caafp_app.strategies.state import restore_run, save_run


class PhasedStrategy(RoundStrategy):
    """The loop that all strategies share; each is one by what it decides: see `StrategyHooks`."""

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> ClusteredResult:
        """Run all phases.

        Parameters
        ----------
        grid, initial_arrays, num_rounds, timeout, train_config, evaluate_config, evaluate_fn
            As of Flower's ``Strategy.start``; `timeout` is that of one exchange in seconds.
            `evaluate_fn` gets the mean of the clusters' models, weighted by examples.

        Returns
        -------
        ClusteredResult

        Raises
        ------
        RunError
            If no client can be found, every client of a round fails, or it was told to end; or if
            this strategy has made a run before: it keeps that one's models, clusters and counts.
        """
        if self._session is not None:
            name = type(self).__name__
            raise RunError(f"this strategy has begun a run before: make a new {name} for another")
        began = time.monotonic()
        train_config = self.train_config = train_config or ConfigRecord()
        evaluate_config = evaluate_config or ConfigRecord()
        self.plan = self.make_plan(num_rounds)
        session = self._open(grid, timeout)
        layout = self._begin(initial_arrays)
        result = ClusteredResult(arrays=initial_arrays)
        ended, earlier = 0, 0.0
        if self._saved is not None:
            ended, state = self._saved
            earlier = restore_run(self, layout, result, state)
            log(INFO, "resumed after round %d of %d", ended, len(self.plan))
        wait_for_nodes(session, self.min_available_nodes)
        newcomers = gather(session)
        tell_population(session)
        self.check(self.roster)
        startup = time.monotonic() - began
        first_reply = time.monotonic() - earlier
        self.observer.on_plan(self.plan, self.plan_facts(layout))
        if self._saved is None:
            self.prepare()
            if evaluate_fn and (metrics := evaluate_fn(0, initial_arrays)) is not None:
                result.evaluate_metrics_serverapp[0] = metrics
            self._save(0, layout, result, first_reply)
            newcomers = []
        for step in self.plan[ended:]:
            self._run_round(step, newcomers, result, train_config, evaluate_config)
            newcomers = []
            if evaluate_fn:
                mean = mean_model(layout, self.published(), self.roster.clusters())
                if (metrics := evaluate_fn(step.round, to_record(mean))) is not None:
                    result.evaluate_metrics_serverapp[step.round] = metrics
            self._save(step.round, layout, result, first_reply)
        last = len(self.plan) + 1
        if newcomers:  # of a run that was resumed after its last round
            self.welcome(newcomers, replace(self.plan[-1], round=last))
        for model in self.models.values():
            model.average()
        rounds_ended = time.monotonic()
        scores: Scores = {}
        if self.personalise:
            scores = personalise(session, self.model_of, last, train_config, evaluate_config)
        seconds = {
            "total": startup + time.monotonic() - first_reply,
            "rounds": rounds_ended - first_reply,
            "startup": startup,
        }
        self._finish(layout, result, scores, seconds)
        if self.checkpoints is not None:
            self.checkpoints.clear()
        return result

    def _open(self, grid: Grid, timeout: float) -> Session:
        options = SessionOptions(
            seed=self.seed,
            wire=self.wire,
            weighted_by_key=self.weighted_by_key,
            arrayrecord_key=self.arrayrecord_key,
            configrecord_key=self.configrecord_key,
            uniform=self.uniform,
            one_exchange=self.one_exchange,
            timeout=timeout,
            quorum=self.quorum,
            rest_after=self.rest_after,
            max_weight=self.max_weight,
            stop=self.stop,
        )
        total, instruct, supply = len(self.plan), self.instructions, self.supplies
        self._session = Session(grid, self.ledger, self.observer, options, total, instruct, supply)
        return self._session

    def _begin(self, initial_arrays: ArrayRecord) -> Layout:
        arrays = from_record(RecordDict({"initial": initial_arrays}), "initial")
        layout = Layout.of(
            arrays, self.prunable, spare_first=self.spare_first, spare_last=self.spare_last
        )
        self.begin(layout, layout.flatten(arrays))
        return layout

    def _save(
        self, round_: int, layout: Layout, result: ClusteredResult, first_reply: float
    ) -> None:
        """Save the state after a round; end the run here if it was told to.

        Raises
        ------
        RunError
            If it was.
        """
        kept, stop = self.checkpoints, self.stop()
        if kept is not None and kept.every and (stop or kept.due(round_, len(self.plan))):
            kept.save(round_, save_run(self, layout, result, time.monotonic() - first_reply))
        if stop:
            raise RunError(f"told to end after round {round_} of {len(self.plan)}")

    def _run_round(
        self,
        step: RoundPlan,
        newcomers: list[Client],
        result: ClusteredResult,
        train_config: ConfigRecord,
        evaluate_config: ConfigRecord,
    ) -> None:
        session, grid = self.session, self.session.grid
        newcomers = newcomers + gather(session)
        self.roster.count_round()
        if newcomers:
            self.welcome(newcomers, step)
        self.before_round(step)
        number = step.round
        messages = self.configure_train(number, result.arrays, train_config, grid)
        _, metrics = self.aggregate_train(number, session.send(messages))
        if metrics is not None:
            result.train_metrics_clientapp[number] = metrics
        messages = self.configure_evaluate(number, result.arrays, evaluate_config, grid)
        scored = self.aggregate_evaluate(number, session.send(messages))
        if scored is not None:
            result.evaluate_metrics_clientapp[number] = scored

    def _finish(
        self, layout: Layout, result: ClusteredResult, scores: Scores, seconds: dict[str, float]
    ) -> None:
        members = self.roster.clusters()
        models = self.published()
        result.arrays = to_record(mean_model(layout, models, members))
        report = build_report(models, self.roster, scores, self.ledger, seconds, self.split)
        result.clusters = {
            number: ClusterResult.of(
                cluster,
                models[number].mask,
                self.history.get(-1, []) * (number >= 0) + self.history.get(number, []),
            )
            for number, cluster in report.clusters.items()
        }
        self.observer.on_finish(report)
