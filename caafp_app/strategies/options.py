"""How a session writes its messages, waits for replies, and weighs them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from caafp_app.strategies.exchange import NO_QUORUM, Quorum
from caafp_app.strategies.requests import WireFormat


@dataclass(frozen=True)
class SessionOptions:
    """The arguments of the strategy of the same names; `timeout` of an exchange, in seconds."""

    seed: int = 0
    wire: WireFormat = field(default_factory=WireFormat)
    weighted_by_key: str = "num-examples"
    arrayrecord_key: str = "arrays"
    configrecord_key: str = "config"
    uniform: bool = False
    one_exchange: bool = False
    timeout: float = 3600.0
    quorum: Quorum = NO_QUORUM
    rest_after: int = 3
    max_weight: float = 10.0
    stop: Callable[[], bool] = lambda: False
