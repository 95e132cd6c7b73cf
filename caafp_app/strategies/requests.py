"""Building the messages of one round: the model once per cluster, the mask only where it lacks."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from numpy.typing import NDArray

from caafp_app.protocol.held import mask_difference
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Request
from caafp_app.protocol.packing import encoding_rng, pack_model
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.roster import Client

KEPT_MASKS = 64


@dataclass(frozen=True)
class WireFormat:
    """Codecs of the weights down, of the updates up, and of what is not prunable."""

    down: str = "float32"
    up: str = "float32"
    rest: str = "float32"


class RequestWriter:
    """Writes requests and shares what is equal in them.

    Clients of one cluster that hold the same mask get the same records, so a round's memory is
    that of one message per cluster and not per client.

    Parameters
    ----------
    wire : WireFormat
        Codecs.
    seed : int
        Seed of the run; decides stochastic rounding.
    arrays_key : str
        Name under which the client's app expects the model.
    """

    def __init__(self, wire: WireFormat, seed: int, arrays_key: str = "arrays") -> None:
        self.wire = wire
        self.seed = seed
        self.arrays_key = arrays_key
        # Packed bits by digest, a hundredth of what a mask takes once it has been worked with.
        self._masks: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._round: dict[tuple[object, ...], RecordDict] = {}
        self._key: tuple[object, ...] = ()

    def describe(self, node: int) -> Message:
        """Ask a node who it is."""
        request = Request(Action.DESCRIBE, seed=self.seed, phase="describe")
        return Message(request.to_records(), node, MessageType.TRAIN)

    def write(
        self,
        client: Client,
        model: ClusterModel,
        request: Request,
        extra: Mapping[str, ArrayRecord | ConfigRecord],
        *,
        in_full: bool = False,
        route: str = MessageType.TRAIN,
    ) -> Message:
        """Write one message with the model of the client's cluster.

        Parameters
        ----------
        request : Request
            Action, round and phase; the rest is filled in here.
        extra : mapping of str to ArrayRecord or ConfigRecord
            The user's own records, and the strategy's; equal for equal clients.
        in_full : bool
            Send layout and mask whatever the client is thought to hold.
        route : str
            Flower's message type.
        """
        mask = model.mask
        base = "" if in_full else client.held
        known = self._masks.get(base)
        self._remember(mask)
        key = (model, client.cluster, mask.digest, base)
        generation = (request.action, request.round, request.phase)
        if generation != self._key:
            self._key, self._round = generation, {}
        if key not in self._round:
            filled = self._fill(request, client, model)
            filled = _with_mask(filled, mask, base, known)
            self._round[key] = RecordDict({**filled.to_records(), **extra})
        return Message(self._round[key], client.node, route)

    def _fill(self, request: Request, client: Client, model: ClusterModel) -> Request:
        """Add the packed model; encoded once per cluster and round."""
        direction = f"down/{request.action}/{client.cluster}"
        personal = request.action is Action.EVALUATE_PERSONAL
        rng = encoding_rng(self.seed, request.round, direction, "")
        arrays = (
            {}
            if personal
            else pack_model(model.model, model.mask, self.wire.down, self.wire.rest, rng)
        )
        return replace(
            request,
            seed=self.seed,
            cluster=client.cluster,
            mask_digest=model.mask.digest,
            down=self.wire.down,
            up=self.wire.up,
            rest=self.wire.rest,
            arrays=arrays,
            arrays_key=self.arrays_key,
        )

    def _remember(self, mask: Mask) -> None:
        if mask.is_full:  # of which there is no difference to send
            return
        self._masks[mask.digest] = mask.packed
        self._masks.move_to_end(mask.digest)
        while len(self._masks) > KEPT_MASKS:
            self._masks.popitem(last=False)


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
