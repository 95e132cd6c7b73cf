"""A conversation with the clients of one run: messages out, checked replies in, all of it counted.

A session knows the protocol; it does not know what the exchanges are for.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from logging import WARNING

from flwr.app import ConfigRecord, Message
from flwr.common.logger import log
from flwr.serverapp import Grid

from caafp_app.errors import ProtocolError, RunError
from caafp_app.protocol.messages import HEADER, TRAINING, Action, Answer, ErrorCode
from caafp_app.pruning.schedule import Phase
from caafp_app.runs.ledger import Ledger
from caafp_app.runs.observer import Observer
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.exchange import NO_QUORUM, Exchange
from caafp_app.strategies.health import note_failures
from caafp_app.strategies.options import SessionOptions
from caafp_app.strategies.outbox import Instruct, Outbox, Supply
from caafp_app.strategies.replies import (
    MAX_REASON,
    Expected,
    failure,
    read_answer,
    read_metrics,
    read_weight,
)
from caafp_app.strategies.roster import Client, Roster
from caafp_app.strategies.tally import Tally
from caafp_app.strategies.trust import largest_weight

Accept = Callable[[Client, Answer, Expected, float], None]
"""Called with each valid reply: client, its answer, what was expected, its weight in a mean."""

FEDAVG_KEY = "num-examples"
"""The metric that FedAvg weighs by, which is what clients say of themselves beforehand."""

WITHOUT_QUORUM = (
    Phase.DESCRIBE,
    Phase.PERSONALISE,
    Action.EVALUATE,
    Action.EVALUATE_PERSONAL,
)
"""Exchanges of which every single reply is worth having, and that move no model."""


class Session:
    """Exchanges of one run.

    Parameters
    ----------
    grid : Grid
    ledger : Ledger
        Every message is recorded in it.
    observer : Observer
        Told of the end of each exchange.
    options : SessionOptions
    total_rounds : int
        For the observer.
    instruct, supply : callable
        What the strategy adds to requests.

    Attributes
    ----------
    roster : Roster
        Who takes part.
    tally : Tally
        What came of the exchange that is going on, or was the last.
    outbox : Outbox
        What it asks.
    """

    def __init__(
        self,
        grid: Grid,
        ledger: Ledger,
        observer: Observer,
        options: SessionOptions,
        total_rounds: int,
        instruct: Instruct = lambda client, action: {},
        supply: Supply = lambda client, action: {},
    ) -> None:
        self.grid = grid
        self.ledger = ledger
        self.observer = observer
        self.options = options
        self.total_rounds = total_rounds
        self.roster = Roster()
        self.tally = Tally("", 0)
        self.outbox = Outbox(options, instruct, supply)
        self._exchange = Exchange(grid, ledger, stop=options.stop)
        self._quorum = NO_QUORUM
        self._heaviest = math.inf

    def open(self, phase: str, round_: int, *, needed: bool = True) -> None:
        """Begin an exchange; what `message` writes belongs to it; `needed` as of `close`."""
        self.tally = Tally(phase, round_)
        free = phase in WITHOUT_QUORUM or not needed
        self._quorum = NO_QUORUM if free else self.options.quorum
        self._heaviest = math.inf
        if self.options.weighted_by_key == FEDAVG_KEY:
            examples = (client.examples for client in self.roster.clients.values())
            self._heaviest = largest_weight(examples, self.options.max_weight)
        self.outbox.open(phase, round_)

    def message(
        self,
        client: Client,
        model: ClusterModel,
        action: Action,
        config: ConfigRecord,
        gradient_counts: tuple[int, ...] = (),
    ) -> Message:
        """Write one client's request, and note what its reply must match."""
        self.tally.asked.append(client.label)
        return self.outbox.request(client, model, action, config, gradient_counts)

    def send(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Send the messages of the exchange and yield replies as they come."""
        return self._exchange.run(
            messages,
            phase=self.tally.phase,
            round=self.tally.round,
            timeout=self.options.timeout,
            quorum=self._quorum,
            taken=lambda: len(self.tally.contents),
        )

    def consume(self, replies: Iterable[Message], accept: Accept | None = None) -> None:
        """Read replies as they come; refuse bad ones with a reason; send lost masks again."""
        retried: set[str] = set()
        for reply in replies:
            client = self.roster.at(reply.metadata.src_node_id)
            expected = self.outbox.expected.get(client.label) if client else None
            if client is None or expected is None:
                log(WARNING, "ignored a reply of node %x: not asked", reply.metadata.src_node_id)
                continue
            failed = failure(reply)
            if failed and failed[0] == ErrorCode.MASK_UNKNOWN and client.label not in retried:
                retried.add(client.label)
                self._exchange.send([self.outbox.in_full(client.label)])
                continue
            del self.outbox.expected[client.label]  # a second reply is nobody's
            try:
                if failed:
                    raise ProtocolError(failed[1])
                self._accept(client, reply, expected, accept)
            except ProtocolError as error:
                self.tally.refusals[client.label] = str(error)[:MAX_REASON]
                client.held = ""
        absent = (self.roster.at(node) for node in self._exchange.missing)
        self.tally.missing = tuple(sorted(client.label for client in absent if client))
        note_failures(self.roster.clients.values(), self.tally, self.options.rest_after)

    def close(
        self,
        density: dict[int, float],
        *,
        mask_updated: bool = False,
        layers: Mapping[int, Mapping[str, float]] | None = None,
        needed: bool = True,
    ) -> None:
        """End the exchange and tell the observer; `layers` has densities by cluster and array.

        Raises
        ------
        RunError
            If every client that was asked failed, and the run cannot do without (`needed`); else
            that is logged.
        """
        tally = self.tally
        record = tally.record(
            self.ledger,
            density,
            mask_updated=mask_updated,
            layers=layers,
            used=self.enough(),
        )
        self.observer.on_round(record, self.total_rounds)
        if tally.all_failed:
            reasons = "; ".join(f"{why} ({n} clients)" for why, n in record.reasons.items())
            told = f"{tally.phase}, round {tally.round}: every client failed: {reasons}"
            if needed:
                raise RunError(told)
            log(WARNING, "%s; the run goes on without their answers", told)

    def enough(self) -> bool:
        """Tell whether as many replies were taken as the exchange needs."""
        return len(self.tally.contents) >= self._quorum.replies

    def ask(
        self,
        clients: Sequence[Client],
        model_of: Callable[[Client], ClusterModel],
        action: Action,
        phase: str,
        round_: int,
        config: ConfigRecord,
        accept: Accept | None = None,
        *,
        needed: bool = True,
    ) -> Tally:
        """Hold one whole exchange outside of the rounds; `needed` as of `close`."""
        self.open(phase, round_, needed=needed)
        messages = [self.message(client, model_of(client), action, config) for client in clients]
        self.consume(self.send(messages), accept)
        self.close({c.cluster: model_of(c).density for c in clients}, needed=needed)
        return self.tally

    def _accept(
        self, client: Client, reply: Message, expected: Expected, accept: Accept | None
    ) -> None:
        answer = read_answer(reply, expected)
        trained = expected.action in TRAINING
        # A client may well have nothing to evaluate on; it says so, and is in no mean.
        weight = read_weight(
            read_metrics(reply), self.options.weighted_by_key, none_allowed=not trained
        )
        if accept is not None:
            capped = 1.0 if self.options.uniform else min(weight, self._heaviest)
            accept(client, answer, expected, capped)
        client.held = answer.mask_digest
        if not weight:
            self.tally.empty.add(client.label)
            return
        trained = expected.action in (Action.TRAIN, Action.PERSONALISE)
        if client.examples < 0 and trained:  # an evaluation counts held-out ones
            client.examples = int(weight)
        # Whatever else an app returns: of each client metrics are kept, not arrays.
        for name in (HEADER, *reply.content.array_records):
            del reply.content[name]
        self.tally.keep(client.label, reply.content)
