from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Error, Message, Metadata, RecordDict
from flwr.app.message.message import make_message

from caafp_app.runs.ledger import Ledger
from caafp_app.runs.records import ClientRecord, ClusterReport, RoundRecord, RunReport

MakeMessage = Callable[..., Message]


def a_round(number: int = 1, phase: str = "prune", **changes: object) -> RoundRecord:
    """A round of two clients."""
    values: dict[str, object] = {"seconds": 1.0, "asked": 2, "answered": 2}
    return RoundRecord(round=number, phase=phase, **{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def message() -> MakeMessage:
    """Build a message as a grid would hold it, with no running SuperLink."""

    def make(content: RecordDict | None = None, error: Error | None = None) -> Message:
        metadata = Metadata(
            run_id=1234567890123456789,
            message_id="an id that only the SuperLink gives",
            src_node_id=1,
            dst_node_id=9876543210987654321,
            reply_to_message_id="f" * 64,
            group_id="17",
            created_at=1767225600.25,
            ttl=600.0,
            message_type="train",
        )
        return make_message(metadata, content=content, error=error)

    return make


@pytest.fixture
def report(message: MakeMessage) -> RunReport:
    """A run of five clients in two clusters; one client did not answer in the end."""
    ledger = Ledger()
    ledger.record("down", "warm-up", message(RecordDict()), round=1)
    ledger.record("up", "warm-up", message(RecordDict()), round=1)
    ledger.add_formula(1000, 0.5, messages=2)
    columns = ("label", "cluster", "examples", "test_examples")
    columns += ("cluster_accuracy", "personal_accuracy", "personal_sparsity")
    rows: list[tuple[object, ...]] = [
        ("a", 0, 10, 3, 0.5, 0.75, 0.7),
        ("b", 0, 20, 5, 1.0, 1.0, 0.72),
        ("c", 1, 30, 8, 0.875, 0.875, 0.8),
    ]
    clients = (
        *(ClientRecord(**dict(zip(columns, row, strict=True))) for row in rows),  # type: ignore[arg-type]
        ClientRecord(label="d", cluster=1, examples=5, cluster_accuracy=float("nan")),
        ClientRecord(label="e", cluster=1, examples=7),
    )
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    clusters = {
        0: ClusterReport(
            members=("a", "b"),
            examples=30,
            density=0.3,
            arrays={"weight": weights, "steps": np.array(3, dtype=np.int64)},
            mask_bits=np.array([0b10100000], dtype=np.uint8),
            mask_digest="0123456789abcdef",
        ),
        1: ClusterReport(members=("c", "d", "e"), examples=42, density=0.2),
    }
    return RunReport(
        clients=clients,
        clusters=clusters,
        ledger=ledger,
        seconds={"total": 130.0, "rounds": 121.0, "startup": 9.0},
    )
