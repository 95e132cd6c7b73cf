"""How the messages of a run are written, waited for and weighed."""

from collections.abc import Callable, Mapping
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
    robust: bool = False
    known_devices: Mapping[str, str] | None = None
    aggregation: Aggregation = field(default_factory=Aggregation)
    class_names: tuple[str, ...] = ()
    stop: Callable[[], bool] = lambda: False

    @property
    def weight_scale(self) -> float:
        """What weights are multiplied with: sums have steps, and only counts are known to be 1."""
        return 1.0 if self.weighted_by_key == "num-examples" else 2.0**20
