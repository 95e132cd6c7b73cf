"""What every strategy here shares: discovery, rounds, evaluation and the personalise phase.

A strategy says which rounds there are, which model a client gets, and what happens between rounds.
"""

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from logging import INFO

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from caafp_app.errors import RunError
from caafp_app.protocol.layout import FlatModel, Layout, PrunableRule
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Answer, from_record, to_record
from caafp_app.pruning.schedule import Phase, RoundPlan
from caafp_app.runs.ledger import Ledger
from caafp_app.runs.observer import LogObserver, Observer
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.discovery import discover, tell_population, wait_for_nodes
from caafp_app.strategies.replies import Expected, read_update
from caafp_app.strategies.report import ClusterResult, build_report, mean_model
from caafp_app.strategies.requests import WireFormat
from caafp_app.strategies.roster import Client, Roster, generator, sample
from caafp_app.strategies.session import Session, SessionOptions
from caafp_app.strategies.tally import Aggregate, Tally, pick


@dataclass
class ClusteredResult(Result):
    """Flower's result, and each cluster's model, mask and members.

    ``arrays`` is the mean of the clusters' models, weighted by training examples.
    """

    clusters: dict[int, ClusterResult] = field(default_factory=dict)


class PhasedStrategy(Strategy):
    """Base of the strategies: FedAvg's arguments, and those that all of ours share.

    Parameters
    ----------
    fraction_train, fraction_evaluate, min_train_nodes, min_evaluate_nodes, min_available_nodes, \
weighted_by_key, arrayrecord_key, configrecord_key, train_metrics_aggr_fn, evaluate_metrics_aggr_fn
        As in ``flwr.serverapp.strategy.FedAvg``.
    clients_per_round : int, optional
        Clients sampled for a round, in place of `fraction_train`.
    cluster_floor : int
        At least so many clients of each cluster in a round.
    seed : int
        Decides sampling, stochastic rounding and the numbers sent to clients.
    uniform : bool
        Weigh clients equally, in place of by `weighted_by_key`.
    prunable, spare_first, spare_last
        Which arrays may be pruned: see `Layout.of`.
    wire : WireFormat
        Number formats of the messages.
    one_exchange : bool
        The ClientApp evaluates the received model in its train call and reports both in one
        reply, as ours does; else evaluate messages are sent at FedAvg's rate.
    evaluate_every : int
        With `one_exchange`: rounds between evaluations of all clients; 0: none but the last.
    average_last : int
        Give clients the mean of the models after the last so many rounds to fine-tune; at most
        those since the last mask update.
    personalise : bool
        End with fine-tuning on every client inside its cluster's mask.
    split : str
        Which held-out part the clients score on: ``test`` or ``validation``; for the report.
    observer : Observer, optional
        Told of plan, rounds and end; by default they are logged.
    """

    def __init__(
        self,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_train_nodes: int = 2,
        min_evaluate_nodes: int = 2,
        min_available_nodes: int = 2,
        weighted_by_key: str = "num-examples",
        arrayrecord_key: str = "arrays",
        configrecord_key: str = "config",
        train_metrics_aggr_fn: Aggregate | None = None,
        evaluate_metrics_aggr_fn: Aggregate | None = None,
        *,
        clients_per_round: int | None = None,
        cluster_floor: int = 0,
        seed: int = 0,
        uniform: bool = False,
        prunable: PrunableRule = None,
        spare_first: bool = False,
        spare_last: bool = False,
        wire: WireFormat | None = None,
        one_exchange: bool = False,
        evaluate_every: int = 0,
        average_last: int = 0,
        personalise: bool = True,
        split: str = "test",
        observer: Observer | None = None,
    ) -> None:
        self.fraction_train = fraction_train
        self.fraction_evaluate = fraction_evaluate
        self.min_train_nodes = min_train_nodes
        self.min_evaluate_nodes = min_evaluate_nodes
        self.min_available_nodes = min_available_nodes
        self.weighted_by_key = weighted_by_key
        self.arrayrecord_key = arrayrecord_key
        self.configrecord_key = configrecord_key
        self.train_metrics_aggr_fn = train_metrics_aggr_fn or aggregate_metricrecords
        self.evaluate_metrics_aggr_fn = evaluate_metrics_aggr_fn or aggregate_metricrecords
        self.clients_per_round = clients_per_round
        self.cluster_floor = cluster_floor
        self.seed = seed
        self.uniform = uniform
        self.prunable = prunable
        self.spare_first = spare_first
        self.spare_last = spare_last
        self.wire = wire or WireFormat()
        self.one_exchange = one_exchange
        self.evaluate_every = evaluate_every
        self.average_last = average_last
        self.personalise = personalise
        self.split = split
        self.observer = observer or LogObserver()
        self.ledger = Ledger()
        self.models: dict[int, ClusterModel] = {}
        self.plan: Sequence[RoundPlan] = ()
        self.train_config = ConfigRecord()
        self._session: Session | None = None
        self._scores: dict[str, dict[str, float]] = {}

    # -- what a strategy decides ------------------------------------------------------------

    @abstractmethod
    def make_plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Return the rounds, numbered from 1.

        Raises
        ------
        SettingsError
            If they do not add up to `num_rounds`.
        """

    def begin(self, layout: Layout, model: FlatModel) -> None:
        """Make the first models; by default one dense model for all (cluster -1)."""
        self.models = {-1: ClusterModel(model, Mask.full(layout))}

    def check(self, roster: Roster) -> None:
        """Refuse a run that these clients cannot make, before any of them works.

        Raises
        ------
        SettingsError
        """

    def prepare(self) -> None:
        """Do what comes before the first round, with exchanges of its own if need be."""

    def before_round(self, step: RoundPlan) -> None:
        """Do what comes between two rounds, with exchanges of its own if need be."""

    def after_round(self, step: RoundPlan) -> bool:
        """Change the models after a round; return whether the masks changed."""
        return False

    def gradient_counts(self, model: ClusterModel, step: RoundPlan) -> tuple[int, ...]:
        """How many gradients at inactive weights this round asks for, by layer."""
        return ()

    def welcome(self, newcomers: Sequence[Client], step: RoundPlan) -> None:
        """Place clients that appeared after the start."""

    def model_of(self, client: Client) -> ClusterModel:
        """Return the model of the client's cluster."""
        return self.models[client.cluster]

    def sampled(self, round_: int) -> list[Client]:
        """Draw the clients of a round."""
        clients = self.roster.reachable()
        count = self.clients_per_round or max(
            int(len(clients) * self.fraction_train), self.min_train_nodes
        )
        return sample(clients, count, generator(self.seed, round_, "sample"), self.cluster_floor)

    @property
    def session(self) -> Session:
        """The conversation of the run that `start` has begun.

        Raises
        ------
        RunError
            Before `start`.
        """
        if self._session is None:
            raise RunError("there is no run yet: call start() first")
        return self._session

    @property
    def roster(self) -> Roster:
        """Who takes part."""
        return self.session.roster

    # -- the run ----------------------------------------------------------------------------

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
            If no client can be found, or every client of a round fails.
        """
        began = time.monotonic()
        train_config = self.train_config = train_config or ConfigRecord()
        self.plan = self.make_plan(num_rounds)
        session = self._open(grid, timeout)
        layout = self._begin(initial_arrays)
        wait_for_nodes(session, self.min_available_nodes)
        discover(session)
        tell_population(session)
        self.check(self.roster)
        self.prepare()
        self.observer.on_plan(self.plan, self._facts(layout))
        first_reply = time.monotonic()
        evaluate_config = evaluate_config or ConfigRecord()
        result = ClusteredResult(arrays=initial_arrays)
        if evaluate_fn and (metrics := evaluate_fn(0, initial_arrays)) is not None:
            result.evaluate_metrics_serverapp[0] = metrics
        for step in self.plan:
            self._run_round(step, result, train_config, evaluate_config)
            if evaluate_fn:
                mean = mean_model(layout, self.models, self.roster.clusters())
                if (metrics := evaluate_fn(step.round, to_record(mean))) is not None:
                    result.evaluate_metrics_serverapp[step.round] = metrics
        for model in self.models.values():
            model.average()
        rounds_ended = time.monotonic()
        if self.personalise:
            self._personalise(train_config, evaluate_config)
        seconds = {
            "total": time.monotonic() - began,
            "rounds": rounds_ended - first_reply,
            "startup": first_reply - began,
        }
        self._finish(layout, result, seconds)
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sample clients and write their requests; `arrays` is not looked at after the start."""
        step, session = self.plan[server_round - 1], self.session
        session.open(str(step.phase), server_round)
        if self.fraction_train == 0.0:
            return []
        chosen = self.sampled(server_round)
        for number, model in self.models.items():
            model.collect(statistics=step.statistics, gradients=step.gradients)
            asked = sum(client.cluster == number for client in chosen)
            self.ledger.add_formula(model.layout.parameter_count, model.mask.density, 2 * asked)
        counts = {k: self.gradient_counts(model, step) for k, model in self.models.items()}
        return [
            session.message(
                client, self.model_of(client), Action.TRAIN, config, counts[client.cluster]
            )
            for client in chosen
        ]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Add each reply to its cluster's sums as it arrives, then move the models."""
        session = self.session

        def accept(client: Client, answer: Answer, expected: Expected, weight: float) -> None:
            self.model_of(client).add(client.label, read_update(answer, expected), weight)

        session.consume(replies, accept)
        for model in self.models.values():
            model.end_round()
        updated = self.after_round(self.plan[server_round - 1])
        if server_round > len(self.plan) - self.average_last:
            for model in self.models.values():
                model.remember()
        session.close(self._densities(), mask_updated=updated)
        return None, session.tally.aggregate(self.train_metrics_aggr_fn, self.weighted_by_key)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Write evaluate requests: for all clients every so many rounds, or at FedAvg's rate."""
        session = self.session
        clients = self.roster.reachable()
        if self.one_exchange:
            due = self.evaluate_every and server_round % self.evaluate_every == 0
            chosen = clients if due else []
        elif self.fraction_evaluate > 0:
            count = max(int(len(clients) * self.fraction_evaluate), self.min_evaluate_nodes)
            chosen = sample(clients, count, generator(self.seed, server_round, "evaluate"))
        else:
            chosen = []
        session.open("evaluate", server_round)
        return [
            session.message(client, self.model_of(client), Action.EVALUATE, config)
            for client in chosen
        ]

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Aggregate the metrics of evaluate replies, weighted as FedAvg weighs them."""
        session = self.session
        if not session.tally.asked:
            return None
        session.consume(replies)
        session.close(self._densities())
        return session.tally.aggregate(self.evaluate_metrics_aggr_fn, self.weighted_by_key)

    def summary(self) -> None:
        """Log the settings, as Flower's strategies do."""
        log(INFO, "\t├──> Sampling: %s clients a round, seed %d", self._sampled(), self.seed)
        log(INFO, "\t├──> Wire: %s", self.wire)
        log(INFO, "\t└──> Keys: %s, %s", self.arrayrecord_key, self.configrecord_key)

    # -- parts of the run -------------------------------------------------------------------

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
        )
        self._session = Session(grid, self.ledger, self.observer, options, len(self.plan))
        return self._session

    def _begin(self, initial_arrays: ArrayRecord) -> Layout:
        arrays = from_record(RecordDict({"initial": initial_arrays}), "initial")
        layout = Layout.of(
            arrays, self.prunable, spare_first=self.spare_first, spare_last=self.spare_last
        )
        self.begin(layout, layout.flatten(arrays))
        return layout

    def _run_round(
        self,
        step: RoundPlan,
        result: ClusteredResult,
        train_config: ConfigRecord,
        evaluate_config: ConfigRecord,
    ) -> None:
        session, grid = self.session, self.session.grid
        if newcomers := discover(session):
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

    def _personalise(self, train_config: ConfigRecord, evaluate_config: ConfigRecord) -> None:
        """Fine-tune on every client; score the cluster's and the personal model of each."""
        session, clients, last = self.session, self.roster.reachable(), len(self.plan) + 1

        def accept(client: Client, answer: Answer, expected: Expected, weight: float) -> None:
            model = self.model_of(client)
            # A foreign app is scored on what the mod kept, our own on what it has trained.
            outside = max(answer.outside, 0) if self.one_exchange else 0
            active = model.mask.count + outside
            sparsity = 1.0 - active / max(model.layout.weight_count, 1)
            self._scores.setdefault(client.label, {})["personal-sparsity"] = sparsity

        if not self.one_exchange:
            tally = session.ask(
                clients, self.model_of, Action.EVALUATE, "evaluate", last, evaluate_config
            )
            self._keep_scores(tally, "cluster")
        tally = session.ask(
            clients,
            self.model_of,
            Action.PERSONALISE,
            Phase.PERSONALISE,
            last,
            train_config,
            accept,
        )
        if self.one_exchange:
            self._keep_scores(tally, "cluster")
        else:
            kept = [client for client in clients if client.label in tally.contents]
            action = Action.EVALUATE_PERSONAL
            tally = session.ask(kept, self.model_of, action, str(action), last, evaluate_config)
        self._keep_scores(tally, "personal")

    def _keep_scores(self, tally: Tally, model: str) -> None:
        for label, metrics in tally.metrics().items():
            scores = self._scores.setdefault(label, {})
            for kind in ("accuracy", "loss"):
                value = pick(metrics, kind, model)
                if value is not None:
                    scores[f"{model}-{kind}"] = value
            examples = metrics.get("test-examples", metrics.get(self.weighted_by_key))
            if isinstance(examples, int | float) and 0 <= examples < math.inf:
                scores["test-examples"] = float(examples)

    def _finish(self, layout: Layout, result: ClusteredResult, seconds: dict[str, float]) -> None:
        members = self.roster.clusters()
        result.arrays = to_record(mean_model(layout, self.models, members))
        report = build_report(
            self.models, self.roster, self._scores, self.ledger, seconds, self.split
        )
        result.clusters = {
            number: ClusterResult.of(cluster, self.models[number].mask)
            for number, cluster in report.clusters.items()
        }
        self.observer.on_finish(report)

    def _densities(self) -> dict[int, float]:
        return {number: model.mask.density for number, model in sorted(self.models.items())}

    def facts(self) -> dict[str, object]:
        """Say what the plan should tell of the strategy's own settings."""
        return {}

    def _facts(self, layout: Layout) -> dict[str, object]:
        return {
            "strategy": type(self).__name__,
            "clients": f"{len(self.roster.clients)}, {self._sampled()} a round",
            "model": f"{layout.parameter_count} parameters, {layout.weight_count} prunable",
            **self.facts(),
            "wire": f"down {self.wire.down}, up {self.wire.up}, rest {self.wire.rest}",
            "seed": self.seed,
        }

    def _sampled(self) -> str:
        if self.clients_per_round:
            return str(self.clients_per_round)
        return f"{self.fraction_train:.0%}"
