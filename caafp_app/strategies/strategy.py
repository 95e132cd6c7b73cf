"""A Flower strategy whose rounds are a method's queries: the arguments that all of ours share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from logging import INFO
from typing import ClassVar, NoReturn

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from caafp_app.errors import RunError
from caafp_app.protocol.layout import PrunableRule
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runner.model import SparseModel
from caafp_app.runner.options import WireFormat
from caafp_app.runner.roster import Client, generator, sample
from caafp_app.runner.tally import Aggregate
from caafp_app.runs.checkpoint import Checkpoints, Saved
from caafp_app.runs.observer import LogObserver, Observer
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
        Which held-out part the clients score on, ``test`` or ``validation``; for the report.
    min_replies, grace
        A round needs so many replies to move the models, and waits so many seconds for them beyond
        the timeout: see `Quorum`.
    rest_after : int
        Failures in a row after which a client rests for some rounds; 0: never. See `health`.
    max_update_norm : float
        Longest update that is taken; 0: by the median of the cluster's last rounds, see `trust`.
    max_weight : float
        A client weighs at most so many times the median client; 0: no bound. With another
        `weighted_by_key` than FedAvg's there is none, since nobody knows the counts beforehand.
    aggregation : str
        A registered name: ``mean``, ``trimmed-mean`` or ``median`` of the updates in a cluster. The
        last two count every reply alike, and hold one round's replies of each cluster in memory.
    observer : Observer, optional
        Told of plan, rounds and end; by default they are logged.
    checkpoints : Checkpoints, optional
        Where the state is saved after each round; by default nowhere.
    stop : callable
        Asked often; once it returns true the run ends, by RunError, with what is saved.
    """

    fraction_train: float = 1.0
    fraction_evaluate: float = 1.0
    min_train_nodes: int = 2
    min_evaluate_nodes: int = 2
    min_available_nodes: int = 2
    weighted_by_key: str = "num-examples"
    arrayrecord_key: str = "arrays"
    configrecord_key: str = "config"
    train_metrics_aggr_fn: Aggregate | None = None
    evaluate_metrics_aggr_fn: Aggregate | None = None
    _: KW_ONLY
    clients_per_round: int | None = None
    cluster_floor: int = 0
    seed: int = 0
    uniform: bool = False
    prunable: PrunableRule = None
    spare_first: bool = False
    spare_last: bool = False
    wire: WireFormat = field(default_factory=WireFormat)
    one_exchange: bool = False
    evaluate_every: int = 0
    average_last: int = 0
    personalise: bool = True
    split: str = "test"
    min_replies: int = 0
    grace: float = 0.0
    rest_after: int = 3
    max_update_norm: float = 0.0
    max_weight: float = 10.0
    aggregation: str = "mean"
    observer: Observer = field(default_factory=LogObserver)
    checkpoints: Checkpoints | None = None
    stop: Callable[[], bool] = field(default=lambda: False)

    needs_own_app: ClassVar[str] = ""
    """The key of `protocol.objective` that a ClientApp has to follow; empty: any app will do."""

    @property
    def cuts_filters(self) -> bool:
        """Whether whole filters go, for which a network's layers have to form a chain."""
        return False

    @abstractmethod
    def plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Return the rounds, numbered from 1.

        Raises
        ------
        SettingsError
            If they do not add up to `num_rounds`.
        """

    @abstractmethod
    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        """Return what one run knows, at its beginning.

        Parameters
        ----------
        model : SparseModel
            The initial weights, dense.
        plan : sequence of RoundPlan
            What `plan` returned.
        """

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
        *,
        resume: Saved | None = None,
    ) -> ClusteredResult:
        """Run all phases.

        Parameters
        ----------
        grid, initial_arrays, num_rounds, timeout, train_config, evaluate_config, evaluate_fn
            See Flower's ``Strategy.start``; `timeout` is of one exchange, in seconds. `evaluate_fn`
            gets the mean of the clusters' models, weighted by examples.
        resume : Saved, optional
            Go on after the round of a checkpoint, see `Checkpoints.load`.

        Returns
        -------
        ClusteredResult

        Raises
        ------
        RunError
            If no client can be found, nobody sends a usable update for several rounds, or it was
            told to end.
        """
        train = train_config or ConfigRecord()
        evaluate = evaluate_config or ConfigRecord()
        run = Run(self, grid, initial_arrays, num_rounds, timeout, train, evaluate)
        return run.to_its_end(evaluate_fn, resume)

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
        """Not for this strategy: see `start`."""
        self._refuse("configure_train")

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Not for this strategy: see `start`."""
        self._refuse("aggregate_train")

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Not for this strategy: see `start`."""
        self._refuse("configure_evaluate")

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Not for this strategy: see `start`."""
        self._refuse("aggregate_evaluate")

    def _refuse(self, called: str) -> NoReturn:
        name = type(self).__name__
        raise RunError(
            f"{name}.{called}: {name} asks each cluster for something else, so it holds its rounds "
            f"itself: call {name}.start(...), and see docs/plugin.md for what can be overridden"
        )
