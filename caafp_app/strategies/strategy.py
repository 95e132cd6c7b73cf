"""A Flower strategy whose rounds are a method's queries: the arguments that all of ours share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from logging import INFO
from typing import ClassVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from caafp_app.errors import RunError
from caafp_app.protocol.layout import PrunableRule
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runner.model import SparseModel
from caafp_app.runner.options import WireFormat
from caafp_app.runner.roster import Client, generator, sample
from caafp_app.runner.tally import Aggregate
from caafp_app.runs.checkpoint import Checkpoints, Saved
from caafp_app.runs.observer import LogObserver, Observer
from caafp_app.strategies.arguments import check_arguments
from caafp_app.strategies.method import Method
from caafp_app.strategies.report import ClusteredResult
from caafp_app.strategies.run import Run


@dataclass(eq=False)
class MethodStrategy(Strategy, ABC):
    """Holds arguments and nothing else: `start` makes the run, and can be called again.

    A strategy of one's own is a dataclass that derives from this, or from one of ours, and says
    which rounds there are (`plan`) and what is asked in them (`method`). Its fields are its
    arguments.

    Parameters
    ----------
    fraction_train, fraction_evaluate, min_train_nodes, min_evaluate_nodes, min_available_nodes, \
weighted_by_key, arrayrecord_key, configrecord_key, train_metrics_aggr_fn, evaluate_metrics_aggr_fn
        See ``flwr.serverapp.strategy.FedAvg``.
    clients_per_round : int, optional
        Clients sampled for a round, in place of `fraction_train`.
    cluster_floor : int
        At least so many clients of each cluster in a round.
    seed : int
        Decides sampling, stochastic rounding and the numbers sent to clients.
    uniform : bool
        Weigh clients equally, in place of by `weighted_by_key`.
    prunable, spare_first, spare_last, spare_below
        Which arrays may be pruned: see `Layout.of`. Left to itself, an array of fewer than 1000
        numbers stays dense: there is nothing to save.
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
    personalise : bool, optional
        End with fine-tuning on every client inside its cluster's mask. Left out: as `ends_personal`
        says.
    class_names : tuple of str
        Clients tell at the end how many windows of each of these classes a model takes for each,
        as a metric ``confusion`` (see `runner.told.class_counts`); empty: nothing of it is read.
    split : str
        Which held-out part the clients score on, ``test`` or ``validation``; for the report.
    min_replies, grace, patience
        A round needs so many replies to move the models, and waits so many seconds for them beyond
        the timeout. Once they are there it waits for the others until `patience` times the median
        answering time: see `Quorum`.
    rest_after : int
        Failures in a row after which a client rests for some rounds; 0: never. See `health`.
    robust : bool
        Bound how far one client moves any sum, see `pruning.influence`: longer vectors than most
        are scaled down, larger weights than most are cut, and updates against most others' left
        out, for which a round's replies are held. Off, as here, a mean is FedAvg's; the app of this
        package turns it on.
    known_devices : mapping of str to str, optional
        Public key of each label, see `protocol.identity`: nobody else takes part.
    aggregation : str
        A registered name: ``mean``, ``trimmed-mean``, ``median``, ``multi-krum`` or
        ``geometric-median`` of the updates in a cluster. All but the first hold one round's
        replies of each cluster in memory; trimmed mean and median count every reply alike.
    observer : Observer, optional
        Told of plan, rounds and end; by default they are logged.
    checkpoints : Checkpoints, optional
        Where the state is saved after each round; by default nowhere.
    stop : callable
        Asked often; once it returns true the run ends, by RunError, with what is saved.
    unseen_users : str
        Clients that are kept out of training, how many or their labels with commas between, and
        score the models at the end: see `strategies.unseen`.
    num_rounds : int
        How many rounds there are in a loop that is not `start`'s, such as a wrapper's.
    """

    fraction_train: float = 1.0
    fraction_evaluate: float = 1.0
    min_train_nodes: int = 2
    min_evaluate_nodes: int = 2
    min_available_nodes: int = 2
    weighted_by_key: str = "num-examples"
    arrayrecord_key: str = "arrays"
    configrecord_key: str = "config"
    train_metrics_aggr_fn: Aggregate | None = aggregate_metricrecords
    evaluate_metrics_aggr_fn: Aggregate | None = aggregate_metricrecords
    _: KW_ONLY
    clients_per_round: int | None = None
    cluster_floor: int = 0
    seed: int = 0
    uniform: bool = False
    prunable: PrunableRule = None
    spare_first: bool = False
    spare_last: bool = False
    spare_below: int = 1000
    wire: WireFormat = field(default_factory=WireFormat)
    one_exchange: bool = False
    evaluate_every: int = 0
    average_last: int = 0
    personalise: bool | None = None
    num_rounds: int = 0
    class_names: tuple[str, ...] = ()
    split: str = "test"
    min_replies: int = 0
    grace: float = 0.0
    patience: float = 2.5
    rest_after: int = 3
    robust: bool = False
    known_devices: Mapping[str, str] | None = None
    aggregation: str = "mean"
    unseen_users: str = ""
    observer: Observer = field(default_factory=LogObserver)
    checkpoints: Checkpoints | None = None
    stop: Callable[[], bool] = field(default=lambda: False)
    _run: Run | None = field(default=None, init=False, repr=False)

    needs_own_app: ClassVar[str] = ""
    """The key of `protocol.objective` that a ClientApp has to follow; empty: any app will do."""

    def __post_init__(self) -> None:
        """Refuse arguments that are none; whoever overrides this should call it."""
        check_arguments(self, counts={one.name for one in fields(MethodStrategy)})

    @property
    def cuts_filters(self) -> bool:
        """Whether whole filters go, for which a network's layers have to form a chain."""
        return False

    @property
    def sees_arrays(self) -> bool:
        """Whether a subclass overrides what is handed the mean model in each round."""
        return self.overrides("configure_train", "aggregate_train", "configure_evaluate")

    def overrides(self, *names: str) -> bool:
        """Say whether a subclass has a method of its own in place of one of these."""
        return any(getattr(type(self), n) is not getattr(MethodStrategy, n) for n in names)

    @abstractmethod
    def plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Return the rounds, numbered from 1.

        Raises SettingsError if they do not add up to `num_rounds`.
        """

    @abstractmethod
    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        """Return what one run knows, at its beginning, of the initial dense model and the plan."""

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float | None = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
        *,
        resume: Saved | None = None,
    ) -> ClusteredResult:
        """Run all phases.

        Raises RunError if no client can be found, nobody sends a usable update for several rounds,
        or it was told to end.

        Parameters
        ----------
        grid, initial_arrays, num_rounds, timeout, train_config, evaluate_config, evaluate_fn
            See Flower's ``Strategy.start``; `timeout` is of one exchange, in seconds, None: without
            end. `evaluate_fn` gets the mean of the clusters' models, weighted by examples.
        resume : Saved, optional
            Go on after the round of a checkpoint, see `Checkpoints.load`.
        """
        train = train_config or ConfigRecord()
        evaluate = evaluate_config or ConfigRecord()
        limit = math.inf if timeout is None else timeout
        self._run = Run(self, grid, initial_arrays, num_rounds, limit, train, evaluate)
        try:
            return self._run.to_its_end(evaluate_fn, resume)
        finally:
            self._run = None

    def ends_personal(self, num_rounds: int) -> bool:
        """Say whether a run of so many rounds ends with fine-tuning on every client."""
        return self.personalise is not False

    def draw(self, clients: Sequence[Client], round_: int) -> list[Client]:
        """Draw the clients of a round from those that can be asked, sorted by label."""
        if self.fraction_train == 0.0:
            return []
        count = self.clients_per_round or max(
            int(len(clients) * self.fraction_train), self.min_train_nodes
        )
        return sample(clients, count, generator(self.seed, round_, "sample"), self.cluster_floor)

    def draw_to_evaluate(self, clients: Sequence[Client], round_: int) -> list[Client]:
        """Draw who evaluates after a round: all every so many rounds, or some at FedAvg's rate."""
        if self.one_exchange:
            due = self.evaluate_every and round_ % self.evaluate_every == 0
            return list(clients) if due else []
        if self.fraction_evaluate == 0.0:
            return []
        count = max(int(len(clients) * self.fraction_evaluate), self.min_evaluate_nodes)
        return sample(clients, count, generator(self.seed, round_, "evaluate"))

    def sampled_share(self) -> str:
        """Say how many clients a round has, or which share."""
        if self.clients_per_round:
            return str(self.clients_per_round)
        return f"{self.fraction_train:.0%}"

    def summary(self) -> None:
        """Log the settings, as Flower's strategies do."""
        log(INFO, "\t├──> Sampling: %s clients a round, seed %d", self.sampled_share(), self.seed)
        log(INFO, "\t├──> Wire: %s", self.wire)
        log(INFO, "\t└──> Keys: %s, %s", self.arrayrecord_key, self.configrecord_key)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the messages of a round of training, as Flower's strategies do.

        `start` calls this, so an override may change `config`. A loop of somebody else's may call
        it too, where `num_rounds` is given, else RunError: the first call then begins a run, and
        what `arrays` differ by from those that `aggregate_train` returned is added to each
        cluster's model.
        """
        if self._run is None or (self._run.outside and server_round <= self._run.round):
            self._run = Run.of_another_loop(self, grid, arrays)
        return self._run.configure_train(server_round, arrays, config)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Take in the replies; return the weighted mean model and the clients' mean metrics.

        An override may save the arrays, or return others: their difference from these is added to
        each cluster's model.
        """
        return self._run_of("aggregate_train").aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the messages that make clients score their cluster's model."""
        return self._run_of("configure_evaluate").evaluation.configure(server_round, arrays, config)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Return the clients' mean metrics."""
        return self._run_of("aggregate_evaluate").evaluation.aggregate(server_round, replies)

    def _run_of(self, called: str) -> Run:
        if self._run is None:
            raise RunError(
                f"{type(self).__name__}.{called}: expected configure_train to be called before"
            )
        return self._run
