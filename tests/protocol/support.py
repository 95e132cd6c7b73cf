"""Random models and masks, and a client made of a context, a mod and an app."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from caafp_app.protocol.arrays import from_record, to_record
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Answer, ErrorCode, Request
from caafp_app.protocol.mod import sparse_mod
from caafp_app.protocol.packing import pack_model, unpack_parts
from caafp_app.protocol.payload import attach, attached, detached

Arrays = dict[str, NDArray[Any]]
Record = ArrayRecord | ConfigRecord | MetricRecord

FLOATS = ["float16", "float32", "float64"]
CARRIED = ["bool", "int8", "int32", "int64", "uint8", "uint64", "complex64"]


def finite(dtype: str) -> st.SearchStrategy[Any]:
    """Elements of an array: finite ones, negative zeros and subnormal numbers among them."""
    kind = np.dtype(dtype).kind
    if kind == "f":
        numbers: st.SearchStrategy[Any] = hnp.from_dtype(
            np.dtype(dtype), allow_nan=False, allow_infinity=False
        )
        return numbers
    if kind == "c":
        return st.complex_numbers(allow_nan=False, allow_infinity=False, width=64)
    return hnp.from_dtype(np.dtype(dtype))


def arrays(dtypes: list[str], **shape: int) -> st.SearchStrategy[NDArray[Any]]:
    """Arrays of 0 to 4 axes, empty ones among them."""
    sizes = {"min_dims": 0, "max_dims": 4, "min_side": 0, "max_side": 3, **shape}
    return st.sampled_from(dtypes).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(**sizes), elements=finite(dtype))
    )


names = st.text(st.characters(codec="utf-8"), max_size=8)
"""Any text: none, blanks, quotes, slashes and glob characters."""

models = st.dictionaries(names, arrays(FLOATS + CARRIED), max_size=5)
"""Named arrays of any dtype and shape."""


def bits(size: int) -> st.SearchStrategy[NDArray[np.bool_]]:
    return hnp.arrays(np.bool_, size, elements=st.booleans())


def flat_layout(size: int, dtype: str = "float32") -> Layout:
    """One prunable array of `size` weights; none for a size of 0."""
    return Layout.of({"w": np.zeros((1, size), dtype)})


def random_mask(layout: Layout, density: float, seed: int = 0) -> Mask:
    return Mask(layout, np.random.default_rng(seed).random(layout.weight_count) < density)


def same(one: Mapping[str, NDArray[Any]], two: Mapping[str, NDArray[Any]]) -> bool:
    """Equal in names, order, dtypes, shapes and bits."""
    return list(one) == list(two) and all(
        one[name].dtype == two[name].dtype
        and one[name].shape == two[name].shape
        and one[name].tobytes() == two[name].tobytes()
        for name in one
    )


def equal(one: Mapping[str, NDArray[Any]], two: Mapping[str, NDArray[Any]]) -> bool:
    """Equal in names, dtypes, shapes and numbers: -0.0 is 0.0."""
    return one.keys() == two.keys() and all(
        one[name].dtype == two[name].dtype and np.array_equal(one[name], two[name]) for name in one
    )


def by_wire(records: RecordDict) -> RecordDict:
    """Records as they come out of Flower's wire format."""
    return recorddict_from_proto(recorddict_to_proto(records))


class Node:
    """A client: its state, and the mods around its app."""

    def __init__(self, app: ClientAppCallable, *mods: Mod, **node_config: Any) -> None:
        self.app = app
        self.mods = mods or (sparse_mod,)
        self.context = Context(1, 42, {"label": "c7", **node_config}, RecordDict(), {})

    def ask(self, records: RecordDict, route: str = "train") -> Message:
        """Send a message over the wire and return the reply, likewise."""
        call = self.app
        for mod in reversed(self.mods):
            call = _wrapped(mod, call)
        reply = call(Message(by_wire(records), 42, route), self.context)
        if reply.has_content():
            reply.content = by_wire(reply.content)
        self.context.state = by_wire(self.context.state)
        return reply


def _wrapped(mod: Mod, call: ClientAppCallable) -> ClientAppCallable:
    return lambda message, context: mod(message, context, call)


class Server:
    """One model and its mask, and what the strategies do with them."""

    def __init__(self, model: Arrays, mask: Mask | None = None) -> None:
        layout = mask.layout if mask else Layout.of(model)
        self.mask = mask or Mask.full(layout)
        self.model = layout.flatten(model)
        self.model.weights[~self.mask.bits] = 0
        self.round = 0

    @property
    def arrays(self) -> Arrays:
        return self.mask.layout.unflatten(self.model)

    def request(
        self, action: Action = Action.TRAIN, *, full: bool = True, **changes: Any
    ) -> Request:
        """A request with the model, and with layout and mask if `full`."""
        self.round += 1
        request = Request(action, round=self.round, seed=3, phase="prune", cluster=1, **changes)
        packed = pack_model(self.model, self.mask, request.down, request.rest)
        return replace(
            request,
            arrays={} if action is Action.EVALUATE_PERSONAL else packed,
            mask_digest=request.mask_digest or self.mask.digest,
            layout=self.mask.layout.to_json() if full else b"",
            mask=self.mask.packed if full and not self.mask.is_full else None,
        )

    def records(self, action: Action = Action.TRAIN, **changes: Any) -> RecordDict:
        """The records of a request, with a user's own config."""
        records = self.request(action, **changes).to_records()
        records["config"] = ConfigRecord({"lr": 0.1})
        return records

    def add(self, reply: Message, up: str = "float32") -> Answer:
        """Add the update of one client."""
        answer = Answer.from_records(reply.content)
        parts = unpack_parts(answer.arrays, self.mask, up, "float32")
        self.model.weights[self.mask.bits] += parts.values
        self.model.rest = self.model.rest + parts.rest
        self.model.other = parts.other
        return answer


Change = Callable[[str, NDArray[Any]], NDArray[Any]]


def training(
    change: Change, name: str = "arrays", extra: Mapping[str, Record] | None = None
) -> ClientAppCallable:
    """An app for FedAvg that knows nothing of masks: `change(name, array)` is its training."""

    def app(message: Message, context: Context) -> Message:
        given = from_record(message.content, name)
        trained = {key: change(key, array) for key, array in given.items()}
        metrics = MetricRecord({"num-examples": 10, "loss": 0.5})
        content = RecordDict({name: to_record(trained), "metrics": metrics, **(extra or {})})
        return Message(content, reply_to=message)

    return app


def repacked(records: RecordDict, change: Callable[[Arrays], Any]) -> None:
    """Change the arrays of a message in place, as somebody on its way would."""
    packed = attached(records)
    change(packed)
    clean = detached(records)
    attach(clean, packed)
    records.clear()
    records.update(clean)


def identity(name: str, array: NDArray[Any]) -> NDArray[Any]:
    return array


def contents(record: ArrayRecord) -> Arrays:
    return {name: array.numpy() for name, array in record.items()}


def model(seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "conv": rng.standard_normal((4, 3, 5)).astype(np.float32),
        "bias": rng.standard_normal(4).astype(np.float32),
        "head": rng.standard_normal((6, 8)).astype(np.float32),
        "steps": np.array(3),
    }


def sparse_server(density: float = 0.4) -> Server:
    return Server(model(), random_mask(Layout.of(model()), density))


def drift(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Dense training: every number moves, buffers count on."""
    if array.dtype.kind != "f":
        return np.asarray(array + 1)
    step = np.linspace(-0.5, 0.7, array.size, dtype=array.dtype).reshape(array.shape)
    return np.asarray(array + step)


def failed(reply: Message, code: ErrorCode, *words: str) -> bool:
    assert not reply.has_content()
    assert reply.error.code == code
    assert all(word in (reply.error.reason or "") for word in words), reply.error.reason
    return True
