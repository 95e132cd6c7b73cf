"""What an exchange asks: each client's request, and what its reply must match."""

from collections.abc import Callable, Mapping

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType

from caafp_app.protocol.messages import TRAINING, Action, Request
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.options import SessionOptions
from caafp_app.strategies.replies import Expected
from caafp_app.strategies.requests import RequestWriter
from caafp_app.strategies.roster import Client

Instruct = Callable[[Client, Action], Mapping[str, float]]
"""What a strategy adds to the user's config in a request, e.g. a key of `protocol.objective`."""
Supply = Callable[[Client, Action], Mapping[str, ArrayRecord]]
"""Arrays that a strategy sends where a client may not hold what it once had."""


class Outbox:
    """Requests of one exchange after another.

    Parameters
    ----------
    options : SessionOptions
    instruct, supply : callable
        What the strategy adds.

    Attributes
    ----------
    writer : RequestWriter
    expected : dict of str to Expected
        What the reply of each client that was asked must match, by label.
    """

    def __init__(self, options: SessionOptions, instruct: Instruct, supply: Supply) -> None:
        self.options = options
        self.writer = RequestWriter(options.wire, options.seed, options.arrayrecord_key)
        self.instruct = instruct
        self.supply = supply
        self.expected: dict[str, Expected] = {}
        self._in_full: dict[str, Callable[[], Message]] = {}
        self._phase, self._round = "", 0

    def open(self, phase: str, round_: int) -> None:
        """Begin an exchange, and forget the one before."""
        self._phase, self._round = phase, round_
        self.expected.clear()
        self._in_full.clear()

    def request(
        self,
        client: Client,
        model: ClusterModel,
        action: Action,
        config: ConfigRecord,
        gradient_counts: tuple[int, ...],
    ) -> Message:
        """Write one client's request, and note what its reply must match."""
        options, round_ = self.options, self._round
        self.expected[client.label] = Expected(
            action,
            round_,
            client.label,
            model.mask,
            options.wire.up,
            options.wire.rest,
            sum(gradient_counts),
        )
        train = action in TRAINING
        told = {**config, **self.instruct(client, action)}
        request = Request(
            action,
            round=round_,
            phase=self._phase,
            gradient_counts=gradient_counts,
            evaluate=train and options.one_exchange,
            config_key="" if told else options.configrecord_key,
        )
        route = MessageType.TRAIN if train else MessageType.EVALUATE

        def write(*, in_full: bool = False) -> Message:
            extra: dict[str, ArrayRecord | ConfigRecord] = {}
            if told:
                sent = ConfigRecord({**told, "server-round": round_})
                extra[options.configrecord_key] = sent
            if in_full or not client.held:
                extra.update(self.supply(client, action))
            return self.writer.write(client, model, request, extra, in_full=in_full, route=route)

        self._in_full[client.label] = lambda: write(in_full=True)
        return write()

    def in_full(self, label: str) -> Message:
        """Write a client's request again, with layout and mask whatever it was thought to hold."""
        return self._in_full[label]()
