"""One run: discovery, rounds and the personalise phase, for every strategy."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from logging import INFO
from typing import TYPE_CHECKING, Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from caafp_app.errors import ProtocolError, RunError, SettingsError
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import RESERVED, Action, from_record, to_record
from caafp_app.pruning.schedule import Phase, RoundPlan
from caafp_app.registry import AGGREGATIONS
from caafp_app.runner.discovery import gather, tell_population, wait_for_nodes
from caafp_app.runner.exchange import Quorum
from caafp_app.runner.health import available
from caafp_app.runner.model import MeanUpdate, SparseModel
from caafp_app.runner.options import Options
from caafp_app.runner.roster import Client
from caafp_app.runner.runner import Answers, Opened, Runner
from caafp_app.runner.tally import Tally
from caafp_app.runs.checkpoint import Saved, State, damaged
from caafp_app.runs.records import UnseenRecord
from caafp_app.strategies.averaging import LastModels
from caafp_app.strategies.personal import Scores, personalise
from caafp_app.strategies.report import (
    ClusteredResult,
    ClusterResult,
    ClusterRound,
    build_report,
    mean_of_clusters,
)
from caafp_app.strategies.unseen import draw_unseen, score_unseen

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
        keys = strategy.arrayrecord_key, strategy.configrecord_key
        if len({*keys, *RESERVED}) < len(keys) + len(RESERVED):
            raise SettingsError(
                "arrayrecord_key, configrecord_key: expected two names that differ, none of "
                f"{', '.join(RESERVED)}, found {keys}"
            )
        if num_rounds < 1:
            raise SettingsError(f"num_rounds: expected at least 1, found {num_rounds}")
        self.strategy = strategy
        self.plan = strategy.plan(num_rounds)
        arrays = from_record(RecordDict({"initial": initial_arrays}), "initial")
        self.layout = Layout.of(
            arrays,
            strategy.prunable,
            spare_first=strategy.spare_first,
            spare_last=strategy.spare_last,
            spare_below=0 if strategy.cuts_filters else strategy.spare_below,
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
                robust=strategy.robust,
                known_devices=strategy.known_devices,
                aggregation=AGGREGATIONS[strategy.aggregation],
                stop=strategy.stop,
            ),
            len(self.plan),
        )
        self.last_models = LastModels(strategy.average_last, len(self.plan))
        self.history: dict[int, list[ClusterRound]] = {}
        self.idle_rounds = 0  # in a row, without a usable update
        self.trained = False
        self.outside = False  # whether the loop is another's
        self.round = 0
        self.newcomers: list[Client] = []
        self.train_config, self.evaluate_config = train_config, evaluate_config
        self.arrays = initial_arrays  # the mean model, as handed out last
        self._handed = dict(initial_arrays)  # its arrays, whatever is made of the record
        # Nobody looks at the mean model of each round but an override or another's loop.
        self._watched = strategy.sees_arrays
        self._training: Opened | None = None
        self._evaluating: Opened | None = None
        self.unseen: tuple[UnseenRecord, ...] = ()
        self.figures: dict[int, tuple[str, float]] = {}
        self._unsaved: Saved | None = None
        self.fedavg_bytes = 0

    @classmethod
    def of_another_loop(
        cls, strategy: "MethodStrategy", grid: Grid, initial_arrays: ArrayRecord
    ) -> "Run":
        """Begin a run whose rounds are called for by a loop of somebody else's.

        Raises
        ------
        RunError
            If nothing says how many rounds there will be.
        """
        name = type(strategy).__name__
        if not strategy.num_rounds:
            raise RunError(
                f"{name}.configure_train was called by another loop than {name}.start, which does "
                f"not say how many rounds to plan for: give {name}(num_rounds=...). A wrapper that "
                "works on the replies, such as DifferentialPrivacyServerSideFixedClipping, cannot "
                "work here, because replies are sparse updates: take its client-side counterpart, "
                "with mods=[sparse_mod, fixedclipping_mod]; see docs/plugin.md"
            )
        config = ConfigRecord(), ConfigRecord()
        run = cls(strategy, grid, initial_arrays, strategy.num_rounds, 3600.0, *config)
        run.outside = run._watched = True
        run._meet()
        strategy.observer.on_plan(run.plan, run._facts())
        return run

    def _meet(self) -> None:
        wait_for_nodes(self.runner, self.strategy.min_available_nodes)
        self.newcomers = gather(self.runner)
        roster, asked = self.runner.roster, self.strategy.unseen_users
        if asked and not roster.kept_out:
            roster.keep_out(draw_unseen(asked, sorted(roster.clients), self.strategy.seed))
            self.newcomers = [one for one in self.newcomers if one.label in roster.clients]
        tell_population(self.runner)
        self._check()

    def to_its_end(self, evaluate_fn: EvaluateFn | None, resume: Saved | None) -> ClusteredResult:
        """Hold all rounds, and those alone that a run to be resumed has left."""
        began = time.monotonic()
        strategy, runner = self.strategy, self.runner
        ended, earlier = 0, 0.0
        if resume is not None:
            ended, state = resume
            earlier = self._restore(state)
            log(INFO, "resumed after round %d of %d", ended, len(self.plan))
            if self._watched:
                self._hand_out()
        self._meet()
        startup = time.monotonic() - began
        first_reply = time.monotonic() - earlier
        strategy.observer.on_plan(self.plan, self._facts())
        if resume is None:
            self._score(0, evaluate_fn)
            self._save(0, first_reply)
        for step in self.plan[ended:]:
            try:
                self._train(step)
                self._evaluate(step)
            except RunError:
                self._save_the_round_before()
                raise
            self._score(step.round, evaluate_fn)
            self._save(step.round, first_reply)
        last = replace(self.plan[-1], round=len(self.plan) + 1, phase=Phase.PERSONALISE)
        if self.newcomers:  # of a run that was resumed after its last round
            self.method.before(runner, last, self.newcomers)
        self.method.models = self.last_models.put_on(self.method.models)
        rounds_ended = time.monotonic()
        scores: Scores = {}
        statistics: dict[str, list[float]] = {}
        if strategy.ends_personal(len(self.plan)):
            scores = personalise(runner, self.method, last, statistics)
        if runner.roster.kept_out:
            self.unseen = score_unseen(runner, self.method, last, statistics)
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
        """Hold the training of a round, as Flower's loop does."""
        runner, strategy = self.runner, self.strategy
        messages = list(
            strategy.configure_train(step.round, self.arrays, self.train_config, runner.grid)
        )
        opened = self._opened(self._training)
        opened.keep(message.metadata.dst_node_id for message in messages)
        replies = runner.send(messages, opened.tally, opened.quorum)
        arrays, metrics = strategy.aggregate_train(step.round, replies)
        if arrays is not None:
            self._adopt(arrays)
        if metrics is not None:
            self.result.train_metrics_clientapp[step.round] = metrics

    def configure_train(
        self, round_: int, arrays: ArrayRecord, config: ConfigRecord
    ) -> list[Message]:
        """Begin a round, and write the messages of its training."""
        runner, method, strategy = self.runner, self.method, self.strategy
        step = self._step(round_)
        self._adopt(arrays)
        self.round = round_
        runner.writer.options = replace(runner.writer.options, train_config=config)
        newcomers, self.newcomers = [*self.newcomers, *gather(runner)], []
        runner.roster.count_round()
        method.before(runner, step, newcomers)
        clients = strategy.draw(self._available(step.round), step.round)
        queries = method.ask(Action.TRAIN, step, clients)
        for query in queries:
            mask = query.model.mask
            for _ in query.clients:
                runner.ledger.add_formula(query.model.layout.parameter_count, mask.density, 2)
        self._training = runner.open(queries, step.phase, round_)
        self.fedavg_bytes += 2 * len(clients) * self._dense_bytes
        return self._training.messages

    def aggregate_train(
        self, round_: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Let the method move its models by the replies, and tell of the round."""
        runner, method, strategy = self.runner, self.method, self.strategy
        step = self._step(round_)
        opened, self._training = self._opened(self._training), None
        answers = runner.read(opened, replies, resend=not self.outside)
        watched = method.hear(answers)
        changed = method.apply(step, answers)
        self.last_models.note(step.round, method.models, changed=changed)
        published = dict(sorted(method.published().items()))
        layers = None
        if changed or step.round == 1:
            layers = {number: _densities(model) for number, model in published.items()}
        density = {number: model.density for number, model in published.items()}
        runner.close(answers, density, mask_updated=changed, layers=layers, watched=watched)
        self._require_progress(step, answers)
        members = runner.roster.clusters()
        for number, share in density.items():
            row = ClusterRound.of(answers.tally, members.get(number, []), share)
            self.history.setdefault(number, []).append(row)
        aggregate = strategy.train_metrics_aggr_fn or aggregate_metricrecords
        metrics = answers.tally.aggregate(aggregate, strategy.weighted_by_key)
        if strategy.one_exchange:
            self._note_figure(round_, answers.tally)
        if self._watched:
            self._hand_out()
        return (self.arrays if answers.tally.contents else None), metrics

    def _step(self, round_: int) -> RoundPlan:
        """Return what the plan says of a round; another's loop may go on after the last one."""
        step = self.plan[min(round_, len(self.plan)) - 1]
        if round_ > len(self.plan):
            step = replace(step, round=round_, mask_update=False, gradients=False)
        return step

    @staticmethod
    def _opened(opened: Opened | None) -> Opened:
        if opened is None:
            raise RunError(
                "expected configure_train or configure_evaluate to be called, and its messages to "
                "be answered, before what aggregates the replies; an override calls super()"
            )
        return opened

    def _adopt(self, arrays: ArrayRecord) -> None:
        """Move all models by what `arrays` differ from the mean model as it was handed out.

        Raises
        ------
        RunError
            If they are not of this model.
        """
        if dict(arrays) == self._handed:
            return
        try:
            new, old = (
                self.layout.flatten(from_record(RecordDict({"arrays": record}), "arrays"))
                for record in (arrays, ArrayRecord(self._handed))
            )
        except ProtocolError as error:
            raise RunError(
                f"arrays of another model than the initial ones: {error}; replies bring packed "
                "updates, so let super().aggregate_train aggregate them, and change what it returns"
            ) from error
        full = Mask.full(self.layout)
        step = MeanUpdate(full, new.weights - old.weights, new.rest - old.rest, 1.0)
        for number, model in self.method.models.items():
            self.method.models[number] = model.moved(step)
        self.arrays, self._handed = arrays, dict(arrays)

    def _hand_out(self) -> None:
        """Take the mean model as the one that is handed out, in a record that may be changed."""
        self.arrays = self._mean_arrays()
        self._handed = dict(self.arrays)

    @property
    def _dense_bytes(self) -> int:
        return sum(len(array.data) for array in self.result.arrays.values())

    def _note_figure(self, round_: int, tally: Tally) -> None:
        """Keep the accuracy, or else the loss, that clients report of the models of a round."""
        for kind in ("accuracy", "loss"):
            value = tally.mean(kind)
            if value is not None:
                self.figures[round_] = kind, value
                return

    def _require_progress(self, step: RoundPlan, answers: Answers) -> None:
        """End a run in which nothing works, with the reasons.

        One bad round is no reason to end; `PATIENCE` of them are. A run ends as failed, too, where
        no round has moved a model: the initial weights are no result.
        """
        tally = answers.tally
        moved = answers.enough and any(summed.replies or summed.kept for summed in answers.summed)
        self.trained = self.trained or moved
        useless = bool(tally.asked) and not tally.contents
        self.idle_rounds = self.idle_rounds + 1 if useless else 0
        if self.idle_rounds >= PATIENCE or (useless and self._ends_untrained(step)):
            raise RunError(
                f"expected an update from somebody, found none in {self.idle_rounds} rounds in a "
                f"row; in round {step.round}: {tally.why()}"
            )
        if tally.asked and self._ends_untrained(step):  # a rate of 0 asks nobody, as FedAvg's does
            raise RunError(
                f"expected a round that trains the model, found none in {step.round} rounds: "
                f"{_why_unmoved(answers)}"
            )

    def _ends_untrained(self, step: RoundPlan) -> bool:
        return step.round == len(self.plan) and not self.trained

    def _evaluate(self, step: RoundPlan) -> None:
        """Let clients score their cluster's model, where that is due."""
        runner, strategy, round_ = self.runner, self.strategy, step.round
        messages = list(
            strategy.configure_evaluate(round_, self.arrays, self.evaluate_config, runner.grid)
        )
        if self._evaluating is None:
            return
        self._evaluating.keep(message.metadata.dst_node_id for message in messages)
        replies = runner.send(messages, self._evaluating.tally, self._evaluating.quorum)
        metrics = strategy.aggregate_evaluate(round_, replies)
        if metrics is not None:
            self.result.evaluate_metrics_clientapp[round_] = metrics

    def configure_evaluate(
        self, round_: int, arrays: ArrayRecord, config: ConfigRecord
    ) -> list[Message]:
        """Write the messages of a round's evaluation; none where none is due."""
        strategy, runner = self.strategy, self.runner
        self._evaluating = None
        self._adopt(arrays)
        clients = strategy.draw_to_evaluate(self._available(round_), round_)
        if not clients:
            return []
        runner.writer.options = replace(runner.writer.options, evaluate_config=config)
        queries = self.method.ask(Action.EVALUATE, self._step(round_), clients)
        self._evaluating = runner.open(queries, Action.EVALUATE, round_)
        self.fedavg_bytes += len(clients) * self._dense_bytes
        return self._evaluating.messages

    def aggregate_evaluate(self, round_: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Return the mean of what the clients report."""
        if self._evaluating is None:
            return None
        strategy = self.strategy
        opened, self._evaluating = self._evaluating, None
        answers = self.runner.read(opened, replies, resend=not self.outside)
        self._note_figure(round_, answers.tally)
        watched = self.method.hear(answers)
        published = sorted(self.method.published().items())
        density = {number: model.density for number, model in published}
        self.runner.close(answers, density, watched=watched)
        aggregate = strategy.evaluate_metrics_aggr_fn or aggregate_metricrecords
        return answers.tally.aggregate(aggregate, strategy.weighted_by_key)

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
        return to_record(mean_of_clusters(published, members, robust=self.strategy.robust).arrays())

    def _finish(self, scores: Scores, seconds: dict[str, float]) -> ClusteredResult:
        models, runner, result = self.method.published(), self.runner, self.result
        result.arrays = self._mean_arrays()
        result.report = build_report(
            models,
            runner.roster,
            scores,
            runner.ledger,
            seconds,
            self.strategy.split,
            self.method.parts(),
            self.unseen,
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
        self._tell_cost()
        if self.strategy.checkpoints is not None:
            self.strategy.checkpoints.clear()
        return result

    def _tell_cost(self) -> None:
        """Log what pruning has cost and saved."""
        sent = self.runner.ledger.total
        log(
            INFO,
            "sent %.3g MB in both directions; dense models, as often as FedAvg sends them, are "
            "%.3g MB",
            sent / 1e6,
            self.fedavg_bytes / 1e6,
        )
        first = next((step.round for step in self.plan if step.mask_update), 0)
        if first and self.figures:
            end = max(self.figures)
            # With pruning from round 1 on, none is known from before.
            start = max((n for n in self.figures if n < first), default=min(self.figures))
            (kind, earlier), (_, later) = self.figures[start], self.figures[end]
            what = "%s when pruning began, after round %d: %.4g; after round %d: %.4g"
            log(INFO, what, kind, start, earlier, end, later)

    def _save(self, round_: int, first_reply: float) -> None:
        """Save the state after a round; end the run here if it was told to.

        Raises
        ------
        RunError
            If it was.
        """
        kept, stop, total = self.strategy.checkpoints, self.strategy.stop(), len(self.plan)
        self._unsaved = None
        if kept is not None and kept.every:
            state = self._state(time.monotonic() - first_reply)
            if stop or kept.due(round_, total):
                kept.save(round_, state)
            else:  # a run may be told to end in the middle of the next round
                self._unsaved = Saved(round_, state.copy())
        if stop:
            raise RunError(f"told to end after round {round_} of {total}")

    def _save_the_round_before(self) -> None:
        """Save the state after the last whole round, if no checkpoint was due then."""
        kept = self.strategy.checkpoints
        if kept is not None and self._unsaved is not None:
            kept.save(*self._unsaved)
            log(INFO, "saved the state after round %d", self._unsaved.round)

    def _state(self, seconds: float) -> State:
        """Return the run between two rounds; `seconds` is how long its rounds have taken so far.

        Generators need no state: each is made from the seed. What lives on clients is not in it.
        """
        state = State(
            {
                **self._identity(),
                "roster": self.runner.roster.state(),
                "ledger": self.runner.ledger.state(),
                "influence": self.runner.influence.state(),
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
            self.runner.influence.restore(state.fact("influence"))
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


def _why_unmoved(answers: Answers) -> str:
    """Say why a round left the models as they were."""
    tally = answers.tally
    if len(tally.empty) == len(tally.contents.keys() | tally.empty):
        return f"each of the {len(tally.empty)} clients that answered has 0 examples to train on"
    return (
        f"in the last one {len(tally.contents)} of {len(tally.asked)} clients answered, fewer than "
        "min_replies; lower it, or ask more clients in a round"
    )


def _densities(model: SparseModel) -> dict[str, float]:
    return {name: float(bits.mean()) for name, bits in model.mask.by_layer().items()}


def _plan(plan: Sequence[RoundPlan]) -> list[dict[str, Any]]:
    return [asdict(step) | {"phase": str(step.phase)} for step in plan]


def _plain(metrics: dict[int, MetricRecord]) -> dict[str, dict[str, Any]]:
    return {str(number): dict(record) for number, record in metrics.items()}
