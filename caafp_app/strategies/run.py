"""One run: discovery, rounds and the personalise phase, for every strategy."""

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from logging import INFO
from traceback import walk_stack
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
)
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from caafp_app.errors import RunError, SettingsError
from caafp_app.protocol.messages import Action, from_record, to_record
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runner.discovery import gather, tell_population, wait_for_nodes
from caafp_app.runner.health import available
from caafp_app.runner.model import SparseModel
from caafp_app.runner.opened import Opened, Replies
from caafp_app.runner.roster import Client
from caafp_app.runs.checkpoint import Saved, State
from caafp_app.strategies.averaging import LastModels
from caafp_app.strategies.ending import end
from caafp_app.strategies.evaluation import Evaluation
from caafp_app.strategies.handed import HandedOut
from caafp_app.strategies.opening import layout_of, runner_of
from caafp_app.strategies.progress import Progress
from caafp_app.strategies.report import ClusteredResult, ClusterRound, mean_of_clusters
from caafp_app.strategies.saving import Saving, restore, state_of
from caafp_app.strategies.unseen import draw_unseen

if TYPE_CHECKING:
    from caafp_app.strategies.strategy import MethodStrategy

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]


class Run:
    """All that there is of one run; a strategy's `start` makes it, and it is dropped at the end."""

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
        if not hasattr(num_rounds, "__index__") or num_rounds < 1:
            raise SettingsError(
                f"num_rounds: expected a whole number of at least 1, found {num_rounds!r}"
            )
        self.strategy = strategy
        self.plan = strategy.plan(num_rounds)
        arrays = from_record(RecordDict({"initial": initial_arrays}), "initial")
        self.layout = layout_of(strategy, arrays)
        first = SparseModel.dense(self.layout, self.layout.flatten(arrays))
        self.method = strategy.method(first, self.plan)
        self.result = ClusteredResult(arrays=initial_arrays)
        configs = train_config, evaluate_config
        self.runner = runner_of(strategy, grid, len(self.plan), timeout, configs)
        self.last_models = LastModels(strategy.average_last, len(self.plan))
        self.history: dict[int, list[ClusterRound]] = {}
        dense_bytes = sum(len(array.data) for array in initial_arrays.values())
        self.progress = Progress(self.plan, dense_bytes)
        self.saving = Saving(strategy.checkpoints, strategy.stop, len(self.plan))
        self.outside = False  # whether the loop is another's
        self.round = 0
        self.newcomers: list[Client] = []
        self.train_config = train_config
        self.handed = HandedOut(self.layout, initial_arrays)
        # Nobody looks at the mean model of each round but an override or another's loop.
        self._watched = strategy.sees_arrays
        self._training: Opened | None = None
        self.evaluation = Evaluation(self, evaluate_config)

    @classmethod
    def of_another_loop(
        cls, strategy: "MethodStrategy", grid: Grid, initial_arrays: ArrayRecord
    ) -> "Run":
        """Begin a run whose rounds are called for by a loop of somebody else's.

        Raises RunError if nothing says how many rounds there will be, or a wrapper of Flower's
        clips replies.
        """
        name = type(strategy).__name__
        clipping = (
            DifferentialPrivacyServerSideAdaptiveClipping,
            DifferentialPrivacyServerSideFixedClipping,
        )
        callers = (frame.f_locals.get("self") for frame, _ in walk_stack(sys._getframe()))
        wrapper = next((one for one in callers if isinstance(one, clipping)), None)
        if wrapper is not None:
            raise RunError(
                f"{type(wrapper).__name__} clips replies as models, but those of {name} are sparse "
                "updates: take its client-side counterpart, with mods=[sparse_mod, "
                "fixedclipping_mod]; see docs/plugin.md"
            )
        if not strategy.num_rounds:
            raise RunError(
                f"{name}.configure_train was called by another loop than {name}.start, which does "
                f"not say how many rounds to plan for: give {name}(num_rounds=...)"
            )
        config = ConfigRecord(), ConfigRecord()
        run = cls(strategy, grid, initial_arrays, strategy.num_rounds, 3600.0, *config)
        run.outside = run._watched = True
        run.runner.keeps_models = False  # what is not held cannot be sent again
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
        strategy = self.strategy
        if strategy.overrides("summary"):  # the plan says what ours does
            strategy.summary()
        ended, earlier = 0, 0.0
        if resume is not None:
            ended, saved = resume
            earlier = restore(self, saved)
            log(INFO, "resumed after round %d of %d", ended, len(self.plan))
            if self._watched:
                self.handed.put(self.mean_arrays())
        self._meet()
        startup = time.monotonic() - began
        first_reply = time.monotonic() - earlier

        def state() -> State:
            return state_of(self, time.monotonic() - first_reply)

        strategy.observer.on_plan(self.plan, self._facts())
        if resume is None:
            self._score(0, evaluate_fn)
            self.saving.after(0, state)
        for step in self.plan[ended:]:
            try:
                self._train(step)
                self.evaluation.hold(step.round)
            except RunError:
                self.saving.the_round_before()
                raise
            self._score(step.round, evaluate_fn)
            self.saving.after(step.round, state)
        return end(self, {"startup": startup, "rounds": time.monotonic() - first_reply})

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

    def available(self, round_: int) -> list[Client]:
        """Return who may be drawn in a round."""
        return available(self.runner.roster.reachable(), round_)

    def _train(self, step: RoundPlan) -> None:
        """Hold the training of a round, as Flower's loop does."""
        runner, strategy = self.runner, self.strategy
        before = ArrayRecord(dict(self.handed.arrays))
        messages = list(
            strategy.configure_train(step.round, self.handed.arrays, self.train_config, runner.grid)
        )
        opened = _opened(self._training)
        opened.keep(message.metadata.dst_node_id for message in messages)
        if strategy.overrides("configure_train"):
            runner.writer.note(messages)
        replies: Iterable[Message] = runner.send(messages, opened)
        if strategy.overrides("aggregate_train"):
            replies = Replies(replies)
        arrays, metrics = strategy.aggregate_train(step.round, replies)
        if arrays is not None or self._watched:
            # An override that returns none rejects the round: FedAvg goes on from the model before.
            self.adopt(before if arrays is None else arrays)
        if metrics is not None:
            self.result.train_metrics_clientapp[step.round] = metrics

    def configure_train(
        self, round_: int, arrays: ArrayRecord, config: ConfigRecord
    ) -> list[Message]:
        """Begin a round, and write the messages of its training."""
        runner, method, strategy = self.runner, self.method, self.strategy
        step = self.step(round_)
        self.adopt(arrays)
        self.round = round_
        runner.writer.options = replace(runner.writer.options, train_config=config)
        newcomers, self.newcomers = [*self.newcomers, *gather(runner)], []
        runner.roster.count_round()
        method.before(runner, step, newcomers)
        clients = strategy.draw(self.available(step.round), step.round)
        queries = method.ask(Action.TRAIN, step, clients)
        for query in queries:
            mask = query.model.mask
            for _ in query.clients:
                runner.ledger.add_formula(query.model.layout.parameter_count, mask.density, 2)
        self._training = runner.open(queries, step.phase, round_)
        self.progress.count_models(2 * len(clients))
        return self._training.messages

    def aggregate_train(
        self, round_: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Let the method move its models by the replies, and tell of the round."""
        runner, method, strategy = self.runner, self.method, self.strategy
        step = self.step(round_)
        opened, self._training = _opened(self._training), None
        answers = runner.read(opened, replies)
        watched = method.hear(answers)
        changed = method.apply(step, answers)
        others = any(change.what != "move" for change in answers.tally.changes)
        self.last_models.note(step.round, method.models, changed=changed or others)
        published = dict(sorted(method.published().items()))
        layers = None
        if changed or step.round == 1:
            layers = {number: _densities(model) for number, model in published.items()}
        density = {number: model.density for number, model in published.items()}
        runner.close(answers, density, mask_updated=changed, layers=layers, watched=watched)
        self.progress.require(step.round, answers)
        members = runner.roster.clusters()
        for number, share in density.items():
            row = ClusterRound.of(answers.tally, members.get(number, []), share)
            self.history.setdefault(number, []).append(row)
        aggregate = strategy.train_metrics_aggr_fn or aggregate_metricrecords
        metrics = answers.tally.aggregate(
            aggregate, strategy.weighted_by_key, robust=strategy.robust
        )
        if strategy.one_exchange:
            self.progress.note(round_, answers.tally)
        if self._watched:
            self.handed.put(self.mean_arrays())
        return (self.handed.arrays if answers.tally.contents else None), metrics

    def step(self, round_: int) -> RoundPlan:
        """Return what the plan says of a round; another's loop may go on after the last one."""
        step = self.plan[min(round_, len(self.plan)) - 1]
        if round_ > len(self.plan):
            step = replace(step, round=round_, mask_update=False, gradients=False)
        return step

    def adopt(self, arrays: ArrayRecord) -> None:
        """Move all models by what `arrays` differ from the mean model as it was handed out."""
        step = self.handed.change(arrays)
        if step is not None:
            for number, model in self.method.models.items():
                self.method.models[number] = model.moved(step)

    def _score(self, round_: int, evaluate_fn: EvaluateFn | None) -> None:
        """Let the caller score the mean of the clusters' models."""
        if evaluate_fn is None:
            return
        arrays = self.result.arrays if round_ == 0 else self.mean_arrays()
        metrics = evaluate_fn(round_, arrays)
        if metrics is not None:
            self.result.evaluate_metrics_serverapp[round_] = metrics

    def mean_arrays(self) -> ArrayRecord:
        """Return the mean of the clusters' models, weighted by their members' examples."""
        published, members = self.method.published(), self.runner.roster.clusters()
        return to_record(mean_of_clusters(published, members, robust=self.strategy.robust).arrays())


def _densities(model: SparseModel) -> dict[str, float]:
    return {name: float(bits.mean()) for name, bits in model.mask.by_layer().items()}


def _opened(opened: Opened | None) -> Opened:
    if opened is None:
        raise RunError(
            "expected configure_train to be called, and its messages answered, before "
            "aggregate_train; an override must call super()"
        )
    return opened
