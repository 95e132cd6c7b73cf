"""How the messages of a run are written, waited for and weighed."""

from collections.abc import Callable
from dataclasses import dataclass, field

from flwr.app import ConfigRecord

from caafp_app.runner.aggregation import Aggregation
from caafp_app.runner.exchange import NO_QUORUM, Quorum


@dataclass(frozen=True)
class WireFormat:
    """Codecs of the weights down, of the updates up, and of what is not prunable."""

    down: str = "float32"
    up: str = "float32"
    rest: str = "float32"

    def __str__(self) -> str:
        """Say it as the plan shows it."""
        return f"down {self.down}, up {self.up}, rest {self.rest}"


@dataclass(frozen=True)
class Options:
    """The strategy's arguments of the same names; `timeout` is of one exchange, in seconds."""

    seed: int = 0
    wire: WireFormat = field(default_factory=WireFormat)
    weighted_by_key: str = "num-examples"
    arrayrecord_key: str = "arrays"
    configrecord_key: str = "config"
    train_config: ConfigRecord = field(default_factory=ConfigRecord)
    evaluate_config: ConfigRecord = field(default_factory=ConfigRecord)
    uniform: bool = False
    one_exchange: bool = False
    timeout: float = 3600.0
    quorum: Quorum = NO_QUORUM
    rest_after: int = 3
    max_update_norm: float = 0.0
    max_weight: float = 10.0
    aggregation: Aggregation = field(default_factory=Aggregation)
    stop: Callable[[], bool] = lambda: False
