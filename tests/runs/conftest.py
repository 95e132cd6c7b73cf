from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Error, Message, Metadata, RecordDict
from flwr.app.message.message import make_message

from caafp_app.runs.ledger import Ledger
from caafp_app.runs.records import ClientRecord, ClusterReport, RunReport

MakeMessage = Callable[..., Message]


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
    clients = (
        ClientRecord(
            label="a",
            cluster=0,
            examples=10,
            test_examples=3,
            cluster_accuracy=0.5,
            personal_accuracy=0.75,
            personal_sparsity=0.7,
        ),
        ClientRecord(
            label="b",
            cluster=0,
            examples=20,
            test_examples=5,
            cluster_accuracy=1.0,
            personal_accuracy=1.0,
            personal_sparsity=0.72,
        ),
        ClientRecord(
            label="c",
            cluster=1,
            examples=30,
            test_examples=8,
            cluster_accuracy=0.875,
            personal_accuracy=0.875,
            personal_sparsity=0.8,
        ),
        ClientRecord(
            label="d",
            cluster=1,
            examples=5,
            cluster_accuracy=float("nan"),
            personal_accuracy=None,
        ),
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
