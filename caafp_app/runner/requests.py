"""Building the messages of one exchange: the model once per query, the mask only where it lacks."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from numpy.typing import NDArray

from caafp_app.protocol.held import mask_difference
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import ARRAYS, HEADER, TRAINING, Action, Request
from caafp_app.protocol.packing import encoding_rng, pack_model, pack_trials
from caafp_app.runner.options import Options
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client

KEPT_MASKS = 64
KEPT_BYTES = 1 << 28
"""Models that the clients of a run keep are at most so many bytes together: a simulation has them
all in one memory."""


class RequestWriter:
    """Writes requests and shares what is equal in them.

    Clients of one query that hold the same mask get the same records, so the memory of an exchange
    is that of one message per query and not per client. `rounds` are those of the run, 0 if not
    known: no app is told a round beyond.
    """

    def __init__(self, options: Options, rounds: int = 0) -> None:
        self.options = options
        self.rounds = rounds
        # Packed bits by digest, a hundredth of what a mask takes once it has been worked with.
        self._masks: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._layouts: dict[str, str] = {}  # digests of layouts by those of masks sent
        self._records: dict[tuple[Query, str, bool], RecordDict] = {}
        self._digests: dict[Query, str] = {}
        self._phase, self._round, self._keep, self._own = "", 0, 0, False
        # What an override put into the last messages of a route: config and records, by node; 0:
        # those of all.
        self._changed: dict[str, dict[int, tuple[dict[str, Any], dict[str, Any]]]] = {}

    def open(self, phase: str, round_: int, keep: int = 0, *, own: bool = False) -> None:
        """Begin an exchange, and forget the records of the one before.

        A client that evaluates a packed model of at most `keep` bytes keeps it, and is not sent it
        again to train it. `own`: no override will see the messages, see `note`.
        """
        self._phase, self._round, self._keep, self._own = phase, round_, keep, own
        self._records.clear()
        self._digests.clear()

    def note(self, messages: Iterable[Message]) -> None:
        """Keep what an override has put into messages, for those that it will not see.

        A client that was not asked last is told what all were told.
        """
        queries, options = [query for query, *_ in self._records], self.options
        key = options.configrecord_key
        ours = {HEADER, ARRAYS, self._record(), key}.union(*(query.records for query in queries))
        asked = {"server-round"}.union(*(query.config for query in queries))
        changed: dict[str, dict[int, tuple[dict[str, Any], dict[str, Any]]]] = {}
        for message in messages:
            told, route = message.metadata, message.metadata.message_type.split(".")[0]
            user = options.train_config if route == MessageType.TRAIN else options.evaluate_config
            config = message.content.config_records.get(key, ConfigRecord()).items()
            changed.setdefault(route, {})[told.dst_node_id] = (
                {k: value for k, value in config if k not in asked and value != user.get(k)},
                {name: one for name, one in message.content.items() if name not in ours},
            )
        for by_node in changed.values():
            configs, records = zip(*by_node.values(), strict=True)
            by_node[0] = _common(configs), _common(records)
        self._changed |= changed

    def describe(self, node: int) -> Message:
        """Ask a node who it is."""
        options = self.options
        request = Request(
            Action.DESCRIBE, seed=options.seed, phase="describe", record=self._record()
        )
        config = self._config_record(options.train_config) if self._record() else {}
        return Message(_ordered(request, config), node, MessageType.TRAIN)

    def write(self, query: Query, client: Client, *, in_full: bool = False) -> Message:
        """Write the message of one client; `in_full`: with layout and mask, whatever it holds."""
        mask = query.model.mask
        layout = mask.layout.digest
        base = "" if in_full or self._layouts.get(client.held, layout) != layout else client.held
        self._layouts[mask.digest] = layout
        known = self._masks.get(base)
        if not mask.is_full:  # of which there is no difference to send
            self._masks[mask.digest] = mask.packed
            self._masks.move_to_end(mask.digest)
        while len(self._masks) > KEPT_MASKS:
            self._masks.popitem(last=False)
        model = self._digest(query)
        holds = bool(model) and client.model == model and base == mask.digest
        if in_full:
            client.model = ""
        if query.action is Action.EVALUATE:
            client.model = model
        if (query, base, holds) not in self._records:
            request = _with_mask(self._request(query), mask, base, known)
            if holds:
                request = replace(request, arrays={}, model=model)
            elif query.action is Action.EVALUATE:
                request = replace(request, model=model)
            records = _ordered(request, self._config(query))
            if not base:
                records.update(query.records)
            self._records[query, base, holds] = records
        route = MessageType.TRAIN if query.action in TRAINING else MessageType.EVALUATE
        records = self._records[query, base, holds]
        noted = self._changed.get(route, {})
        changed = noted.get(client.node, noted.get(0))
        if changed and (in_full or self._own):
            key, (config, own) = self.options.configrecord_key, changed
            told = ConfigRecord({**records.config_records.get(key, {}), **config})
            header = {HEADER: records[HEADER]}  # comes last
            others = {name: one for name, one in records.items() if name != HEADER}
            records = RecordDict({**others, key: told, **own, **header})
        return Message(records, client.node, route)

    def _digest(self, query: Query) -> str:
        """Name the packed model of a query; empty if no client is to keep it.

        Rounded at random it is another in each exchange.
        """
        if not self._keep or query.action is Action.EVALUATE_PERSONAL:
            return ""
        if query not in self._digests:
            request = self._request(query)
            size = sum(array.nbytes for array in request.arrays.values())
            named = hashlib.sha256(repr((request.mask_digest, request.down, request.rest)).encode())
            for name, array in request.arrays.items() if size <= self._keep else ():
                named.update(name.encode())
                named.update(np.ascontiguousarray(array).tobytes())
            self._digests[query] = named.hexdigest()[:16] if 0 < size <= self._keep else ""
        return self._digests[query]

    def _request(self, query: Query) -> Request:
        """Say what is asked, with the packed model."""
        options, model, action = self.options, query.model, query.action
        wire = options.wire
        arrays: dict[str, NDArray[np.generic]] = {}
        if action is not Action.EVALUATE_PERSONAL:
            rng = encoding_rng(options.seed, self._round, f"down/{action}/{query.group}", "")
            arrays = pack_model(model.flat, model.mask, wire.down, wire.rest, rng)
        return Request(
            action,
            round=self._round,
            seed=options.seed,
            phase=self._phase,
            cluster=query.group,
            mask_digest=model.mask.digest,
            down=wire.down,
            up=wire.up,
            rest=wire.rest,
            arrays=arrays,
            trials=None if query.trials is None else pack_trials(query.trials),
            gradient_counts=query.gradients,
            evaluate=action in TRAINING and options.one_exchange,
            arrays_key=options.arrayrecord_key,
            config_key="" if self._config(query) else options.configrecord_key,
            record=self._record(),
        )

    def _record(self) -> str:
        """Return where arrays travel: somebody else's app may have mods that look for them."""
        return "" if self.options.one_exchange else self.options.arrayrecord_key

    def _config(self, query: Query) -> dict[str, ArrayRecord | ConfigRecord]:
        """Return the user's config and the query's; of our own app the mod makes an empty one."""
        options = self.options
        own = options.train_config if query.action in TRAINING else options.evaluate_config
        told = {**own, **query.config}
        return self._config_record(told) if told or self._record() else {}

    def _config_record(self, told: Mapping[str, object]) -> dict[str, ArrayRecord | ConfigRecord]:
        # An app may look a learning rate up by the round: exchanges before the first round and
        # after the last one bear its number.
        shown = max(self._round, 1)
        shown = min(shown, self.rounds) if self.rounds else shown
        config = ConfigRecord({**told, "server-round": shown})  # type: ignore[dict-item]
        return {self.options.configrecord_key: config}


def _common(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what stands with the same value in all parts."""
    first, *others = parts
    return {name: one for name, one in first.items() if all(o.get(name) == one for o in others)}


def _ordered(request: Request, config: Mapping[str, ArrayRecord | ConfigRecord]) -> RecordDict:
    """Return the records in FedAvg's order: the arrays, the user's config, and then our header."""
    records = dict(request.to_records())
    header = records.pop(HEADER)
    return RecordDict({**records, **config, HEADER: header})


def _with_mask(request: Request, mask: Mask, held: str, known: NDArray[np.uint8] | None) -> Request:
    """Add layout and mask as far as the client lacks them, the shorter way."""
    if held == mask.digest:
        return request
    layout = b"" if held else mask.layout.to_json()
    if mask.is_full:  # named by its digest; the layout is all it takes
        return replace(request, layout=layout)
    if known is not None:
        difference = mask_difference(Mask.unpack(mask.layout, known), mask)
        if difference.size < mask.packed.size:
            return replace(request, mask=difference, mask_base=held)
    return replace(request, layout=layout, mask=mask.packed)
