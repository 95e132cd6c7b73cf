"""Scores of the personalise phase: what a client says of itself that cannot be is left out."""

import math

import pytest
from flwr.app import Message

from caafp_app.runs.summary import build_summary
from caafp_app.strategies.fedavg import FedAvg
from tests.strategies.trial import Trial

SAID = {"part-0000": math.inf, "part-0001": 93.0, "part-0002": -0.1, "part-0003": math.nan}

EPOCHS = {"part-0000": -1, "part-0001": 12, "part-0002": 1e9, "part-0003": math.nan}


def tamper(request: Message, reply: Message) -> Message:
    header = reply.content.config_records["caafp"]
    if header["action"] in ("evaluate", "evaluate-personal") and header["label"] in SAID:
        (metrics,) = reply.content.metric_records.values()
        metrics["eval_acc"] = SAID[str(header["label"])]
        metrics["finetune-epochs"] = EPOCHS[str(header["label"])]
    return reply


def test_no_client_spoils_the_summary(caplog: pytest.LogCaptureFixture) -> None:
    report = (
        Trial(tamper, kind=FedAvg, rounds=1, configs=6, seed=3, personalise=True).start().report
    )
    found = {client.label: client.personal_accuracy for client in report.clients}
    assert [found[label] for label in list(SAID)[:3]] == [None, None, None]
    epochs = {client.label: client.finetune_epochs for client in report.clients}
    assert [epochs[label] for label in EPOCHS] == [None, 12.0, None, None]
    unknown = found["part-0003"]
    assert unknown is None or math.isnan(unknown)
    told = {"strategy": "fedavg", "dataset": "x", "seed": 3}
    summary = build_summary(report, settings=told, rounds=1)
    for model in ("cluster", "personal"):
        said = summary["accuracy"][model]
        assert said["clients"] == 2
        assert 0.3 < said["mean"] < 1
        assert 0 <= said["std"] < 0.5
    assert "personal model: accuracies outside of [0, 1]" in caplog.text
    assert "part-0001 (93), part-0002 (-0.1)" in caplog.text
