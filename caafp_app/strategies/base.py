"""What every strategy is told: the arguments that all share, and their defaults."""

from collections.abc import Callable, Sequence
from logging import INFO

from flwr.app import ConfigRecord
from flwr.common.logger import log
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from caafp_app.errors import RunError
from caafp_app.protocol.layout import PrunableRule
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runs.checkpoint import Checkpoints, Saved
from caafp_app.runs.ledger import Ledger
from caafp_app.runs.observer import LogObserver, Observer
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.exchange import Quorum
from caafp_app.strategies.report import ClusterRound
from caafp_app.strategies.requests import WireFormat
from caafp_app.strategies.robust import MEAN
from caafp_app.strategies.roster import Roster
from caafp_app.strategies.session import Session
from caafp_app.strategies.tally import Aggregate
from caafp_app.strategies.trust import NormBound


class BaseStrategy(Strategy):
    """FedAvg's arguments, and those that all of ours share; what each decides is in `hooks`.

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
    min_replies, grace
        See `Quorum`: so many replies a round needs to move the models, and so many seconds are
        they waited for beyond the timeout.
    rest_after : int
        Failures in a row after which a client rests for some rounds; 0: never. See `health`.
    max_update_norm : float
        Longest update that is taken; 0: by the median of the cluster's last rounds, see `trust`.
    max_weight : float
        A client weighs at most so many times the median client; 0: no bound. With another
        `weighted_by_key` than FedAvg's there is none, since nobody knows the counts beforehand.
    aggregation : {"mean", "trimmed-mean", "median"}
        Of the updates inside a cluster. The last two count every reply alike, and hold one round's
        replies of each cluster in memory.
    observer : Observer, optional
        Told of plan, rounds and end; by default they are logged.
    checkpoints : Checkpoints, optional
        Where the state is saved after each round; by default nowhere. See `resume`.
    stop : callable
        Asked often; once it returns true the run ends, by RunError, with what is saved.
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
        min_replies: int = 0,
        grace: float = 0.0,
        rest_after: int = 3,
        max_update_norm: float = 0.0,
        max_weight: float = 10.0,
        aggregation: str = MEAN,
        observer: Observer | None = None,
        checkpoints: Checkpoints | None = None,
        stop: Callable[[], bool] = lambda: False,
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
        self.quorum = Quorum(min_replies, grace)
        self.rest_after = rest_after
        self.max_weight = max_weight
        self.aggregation = aggregation
        self.update_bound = NormBound(max_update_norm)
        self.observer = observer or LogObserver()
        self.checkpoints = checkpoints
        self.stop = stop
        self.ledger = Ledger()
        self.models: dict[int, ClusterModel] = {}
        self.history: dict[int, list[ClusterRound]] = {}
        self.plan: Sequence[RoundPlan] = ()
        self.train_config = ConfigRecord()
        self._session: Session | None = None
        self._saved: Saved | None = None

    def resume(self, saved: Saved) -> None:
        """Let the next `start` go on after the round of a checkpoint, see `Checkpoints.load`."""
        self._saved = saved

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

    def summary(self) -> None:
        """Log the settings, as Flower's strategies do."""
        log(INFO, "\t├──> Sampling: %s clients a round, seed %d", self.sampled_share(), self.seed)
        log(INFO, "\t├──> Wire: %s", self.wire)
        log(INFO, "\t└──> Keys: %s, %s", self.arrayrecord_key, self.configrecord_key)

    def sampled_share(self) -> str:
        """Say how many clients a round has, or which share."""
        if self.clients_per_round:
            return str(self.clients_per_round)
        return f"{self.fraction_train:.0%}"
