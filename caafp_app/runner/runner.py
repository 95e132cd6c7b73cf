"""The runner of one run: queries in, sums out; every message checked and counted on the way."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from logging import WARNING

from flwr.app import Message
from flwr.common.logger import log
from flwr.serverapp import Grid

from caafp_app.errors import ProtocolError
from caafp_app.protocol.budget import check_budget
from caafp_app.protocol.identity import Identities
from caafp_app.protocol.messages import HEADER, Action, ErrorCode
from caafp_app.pruning.influence import HOLD_BYTES, Influence
from caafp_app.pruning.schedule import Phase
from caafp_app.runner.exchange import NO_QUORUM, Exchange
from caafp_app.runner.health import note_failures
from caafp_app.runner.intake import Intake, Reply
from caafp_app.runner.opened import Asked, Opened
from caafp_app.runner.options import Options
from caafp_app.runner.query import Query
from caafp_app.runner.replies import (
    failure,
    read_answer,
    read_metrics,
    read_saliency,
    read_update,
    read_weight,
)
from caafp_app.runner.requests import KEPT_BYTES, RequestWriter
from caafp_app.runner.roster import Roster
from caafp_app.runner.summed import Summed
from caafp_app.runner.tally import Tally
from caafp_app.runs.ledger import Ledger
from caafp_app.runs.observer import Observer

WITHOUT_QUORUM = (Phase.DESCRIBE, Phase.PERSONALISE, Action.EVALUATE, Action.EVALUATE_PERSONAL)
"""Exchanges of which every single reply is worth having, and that move no model."""

READERS = {Action.TRAIN: read_update, Action.SALIENCY: read_saliency}
"""How the vectors of an answer are decoded, by what was asked; other answers have none."""


@dataclass(frozen=True)
class Answers:
    """What came of one exchange: a sum for each query, in their order, and who said what.

    `enough`: as many replies were taken as the exchange needs to move a model.
    """

    summed: tuple[Summed, ...]
    tally: Tally
    enough: bool


class Runner:
    """Holds the exchanges of one run with those of the `roster`, and tells the observer of each.

    Every message is recorded in the `ledger`; `influence` bounds how far one client may move a sum;
    `present` is the node of each client that can be reached, by label, as it was told last.
    """

    def __init__(
        self, grid: Grid, observer: Observer, options: Options, total_rounds: int = 0
    ) -> None:
        self.grid = grid
        self.observer = observer
        self.options = options
        self.total_rounds = total_rounds
        self.roster = Roster(Identities(options.known_devices))
        self.ledger = Ledger()
        # Without bounds the rule holds nothing, scales nothing and caps nothing.
        self.influence: Influence[Reply] = Influence() if options.robust else Influence(0.0, 0.0)
        self.writer = RequestWriter(options, total_rounds)
        self.keeps_models = not options.one_exchange  # ours is sent a model once in a round
        self.present: dict[str, int] = {}
        self._told_size = False
        self._exchange = Exchange(grid, self.ledger, stop=options.stop)

    def ask(
        self, queries: Sequence[Query], phase: str, round_: int, *, needed: bool = True
    ) -> Answers:
        """Hold one exchange: write the requests, check each reply as it comes, and add it.

        No client is in two queries. Clients and records know the exchange by `phase` and `round_`;
        if it is `needed`, it waits for `Options.quorum`.
        """
        opened = self.open(queries, phase, round_, needed=needed, own=True)
        return self.read(opened, self.send(opened.messages, opened))

    def open(
        self,
        queries: Sequence[Query],
        phase: str,
        round_: int,
        *,
        needed: bool = True,
        own: bool = False,
    ) -> Opened:
        """Write the messages of an exchange, for `ask` or a caller that sends them itself."""
        free = phase in WITHOUT_QUORUM or not needed
        quorum = NO_QUORUM if free else self.options.quorum
        summed = tuple(Summed(query, self.options.aggregation) for query in queries)
        asked = {client.label: Asked(client, one) for one in summed for client in one.query.clients}
        waiting = dict(sorted(asked.items()))
        tally = Tally(str(phase), round_, asked=list(waiting))
        deadline = time.time() + self.options.timeout
        self.observer.on_asked(tally.asked, tally.phase, round_, deadline)
        keep = KEPT_BYTES // max(1, len(self.roster.clients)) if self.keeps_models else 0
        self.writer.open(str(phase), round_, keep, own=own)
        messages = [self.writer.write(one.summed.query, one.client) for one in waiting.values()]
        return Opened(tally, summed, quorum, messages, waiting)

    def read(self, opened: Opened, replies: Iterable[Message]) -> Answers:
        """Check the replies of an exchange as they come, and add them; refuse bad ones."""
        tally, waiting = opened.tally, opened.waiting

        def refuse(label: str, error: ProtocolError) -> None:
            tally.refuse(label, str(error))
            if (client := self.roster.known(label)) is not None:
                client.held = client.model = ""
            self.observer.on_answer(label, ok=False, reason=tally.refusals[label])

        compares = self._compares(waiting)
        intake = Intake(self.influence, self.options.aggregation, refuse, compares=compares)
        for reply in replies:
            client = self.roster.at(reply.metadata.src_node_id)
            asked = waiting.get(client.label) if client else None
            if client is None or asked is None:
                log(WARNING, "ignored a reply of node %x: not asked", reply.metadata.src_node_id)
                continue
            del waiting[client.label]  # a second reply is nobody's
            try:
                if failed := failure(reply):
                    raise ProtocolError(failed[1])
                self._take(reply, asked, intake, tally)
                if client.label not in tally.refusals:
                    self.observer.on_answer(
                        client.label,
                        ok=True,
                        accuracy=tally.accuracy(client.label),
                        nbytes=self._exchange.bytes_by_node[client.node],
                    )
            except ProtocolError as error:
                refuse(client.label, error)
        intake.finish()
        tally.clipped, tally.opposed = intake.clipped, intake.opposed
        tally.missing = tuple(waiting)  # in alphabetic order
        note_failures(self.roster.clients.values(), tally, self.options.rest_after)
        return Answers(opened.summed, tally, len(tally.contents) >= opened.quorum.replies)

    def close(
        self,
        answers: Answers,
        density: Mapping[int, float],
        *,
        mask_updated: bool = False,
        layers: Mapping[int, Mapping[str, float]] | None = None,
        watched: Mapping[int, float] | None = None,
        elected: Mapping[int, Mapping[str, float]] | None = None,
    ) -> None:
        """Tell the observer of an exchange, when what follows from it is done.

        All mappings are by cluster: densities, those of `layers` by array; the figure that the
        method goes by; what was said of each score.
        """
        tally = answers.tally
        record = replace(
            tally.record(self.ledger, density),
            used=answers.enough,
            mask_updated=mask_updated,
            layer_density=layers or {},
            watched=watched or {},
            elected=elected or {},
        )
        self.observer.on_round(record, self.total_rounds)
        if tally.all_failed:
            log(WARNING, "%s, round %d: %s", tally.phase, tally.round, tally.why())

    def hold(
        self, queries: Sequence[Query], phase: str, round_: int, *, needed: bool = True
    ) -> Answers:
        """Hold an exchange from which no model moves, and tell the observer; see `ask`, `close`."""
        answers = self.ask(queries, phase, round_, needed=needed)
        density: dict[int, float] = {}
        for query in queries:  # of a model in parts, that of the widest
            density[query.group] = max(query.model.density, density.get(query.group, 0.0))
        self.close(answers, density)
        return answers

    def send(self, messages: Iterable[Message], opened: Opened) -> Iterator[Message]:
        """Send the messages of an exchange and yield replies as they come.

        A client that has lost its mask is sent it again, once, whoever goes through the replies.
        """
        tally = opened.tally
        for reply in self._exchange.run(
            messages,
            phase=tally.phase,
            round=tally.round,
            timeout=self.options.timeout,
            quorum=opened.quorum,
            taken=lambda: len(tally.contents),
        ):
            client = self.roster.at(reply.metadata.src_node_id)
            asked = opened.waiting.get(client.label) if client else None
            lost = reply.has_error() and reply.error.code == ErrorCode.MASK_UNKNOWN
            if client and asked and lost and not asked.retried:
                asked.retried = True
                self._exchange.send([self.writer.write(asked.summed.query, client, in_full=True)])
                continue
            yield reply
            del reply

    def _compares(self, waiting: Mapping[str, Asked]) -> bool:
        """Tell whether the updates of an exchange are held and compared.

        Decided by who was asked, not by who is first to answer.
        """
        if not self.options.robust:
            return False
        queries = [asked.summed.query for asked in waiting.values()]
        most = sum(4 * query.model.layout.parameter_count for query in queries)
        if most > HOLD_BYTES and not self._told_size:
            self._told_size = True
            log(
                WARNING,
                "updates are not compared by their direction: expected at most %d MB in a round, "
                "found up to %d; fewer clients-per-round would do",
                HOLD_BYTES >> 20,
                most >> 20,
            )
        return most <= HOLD_BYTES

    def _take(self, reply: Message, asked: Asked, intake: Intake, tally: Tally) -> None:
        """Check one reply and take it in; raise ProtocolError before anything of it is used."""
        client, summed, query = asked.client, asked.summed, asked.summed.query
        check_budget(reply.content)
        answer = read_answer(reply, query.action, tally.round, client.label)
        weight = read_weight(read_metrics(reply), self.options.weighted_by_key)
        update = None
        if weight and query.action in READERS:
            update = READERS[query.action](answer, query, self.options.wire)
        summed.outside[client.label] = answer.outside
        client.held = answer.mask_digest
        if not weight:
            tally.empty.add(client.label)
            if self.options.one_exchange:
                return  # our own app has nothing to say then; FedAvg's callbacks get it all
        if client.examples < 0 and weight and query.action in (Action.TRAIN, Action.PERSONALISE):
            client.examples = int(weight)  # an evaluation counts held-out ones
        # Whatever else an app returns: of each client metrics are kept, not arrays.
        for name in (HEADER, *reply.content.array_records):
            del reply.content[name]
        tally.keep(client.label, reply.content)
        if update is not None:
            scaled = weight * self.options.weight_scale
            intake.take(client.label, update, summed, scaled, self.options.uniform)
