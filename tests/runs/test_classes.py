"""What clients tell of single classes: only where the run asks for it, checked, summed, shown."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from caafp_app.api import load_run
from caafp_app.client_app import app
from caafp_app.errors import SettingsError
from caafp_app.protocol.budget import MAX_BYTES, MOST_CLASSES
from caafp_app.report.page import build_page
from caafp_app.runs.classes import ClassCounts
from caafp_app.runs.reading import read_run
from caafp_app.runs.records import RunReport
from caafp_app.runs.report_text import report_lines
from caafp_app.server_app import run, told_classes
from caafp_app.settings import Settings
from tests.local_grid import LocalGrid, Tamper
from tests.strategies.support import TINY, nodes


def start(folder: Path, tamper: Tamper | None = None, **changes: Any) -> Path:
    given_here = {key.replace("_", "-"): value for key, value in changes.items()}
    config = {**TINY, "prune-rounds": 1, "output-dir": str(folder), "run-name": "one"} | given_here
    run(LocalGrid(app, nodes(6), config, tamper=tamper), Settings.from_run_config(config))
    return folder / "runs" / "one"


def summary(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "summary.json").read_text())
    return found


def test_counts_leave_a_client_once_a_run_and_only_where_the_run_asks_for_them(
    tmp_path: Path,
) -> None:
    sent: list[tuple[str, str]] = []

    def look(_: Message, reply: Message) -> Message:
        (metrics,) = reply.content.metric_records.values() or ({},)
        action = str(reply.content.config_records["caafp"]["action"])
        sent.extend((action, name) for name in metrics if isinstance(metrics[name], list))
        return reply

    plain, shared = start(tmp_path / "plain", look), tmp_path / "shared"
    assert sent == []
    shared = start(shared, look, share_class_counts=True)
    both = ("personalise", "cluster-confusion"), ("personalise", "personal-confusion")
    assert sorted(sent) == sorted(both * 6)
    assert (shared / "clients.csv").read_bytes() == (plain / "clients.csv").read_bytes()

    found, before = summary(shared), summary(plain)
    told = found.pop("classes")
    differs = {key for key in found if found[key] != before[key]}
    assert differs <= {"bytes", "seconds"}
    # Of the clusters' models the same is worked out from data and models, without the clients.
    truth = load_run(plain).confusion()
    assert told["names"] == list(truth.index)
    assert told["cluster"]["confusion"] == truth.to_numpy().tolist()
    assert load_run(shared).confusion().equals(truth)
    clients = load_run(shared).clients
    right = (clients["personal_accuracy"] * clients["test_examples"]).sum()
    assert np.trace(told["personal"]["confusion"]) == pytest.approx(right, abs=1e-6)
    assert told["personal"]["clients"] == 6
    page = build_page([read_run(shared)])
    assert "<h3>Classes</h3>" in page
    assert f'<th scope="col">{told["names"][0]}</th>' in page


def test_what_cannot_be_counts_for_nothing(tmp_path: Path) -> None:
    lies = {"user-00": [-1], "user-01": [10**9, 0], "user-02": [0.5]}

    def lie(_: Message, reply: Message) -> Message:
        header = reply.content.config_records["caafp"]
        if header["action"] == "personalise" and header["label"] in lies:
            (metrics,) = reply.content.metric_records.values()
            told = metrics["personal-confusion"]
            assert isinstance(told, list)
            begin = lies[str(header["label"])]
            metrics["personal-confusion"] = [*begin, *map(type(begin[0]), told[len(begin) :])]
        return reply

    told = summary(start(tmp_path, lie, share_class_counts=True))["classes"]
    assert (told["cluster"]["clients"], told["personal"]["clients"]) == (6, 3)
    assert np.min(told["personal"]["confusion"]) >= 0


@given(
    counts=arrays(
        np.int64, st.tuples(st.integers(1, 6), st.just(4), st.just(4)), elements=st.integers(0, 9)
    )
)
def test_recall_is_the_mean_over_the_clients_that_have_the_class(counts: Any) -> None:
    told = ClassCounts(("a", "b", "c", "d"), {"personal": counts})
    assert (told.confusion("personal") == sum(counts)).all()
    for k, found in enumerate(told.recall("personal")):
        shares = [one[k, k] / one[k].sum() for one in counts if one[k].any()]
        assert found == (pytest.approx(np.mean(shares)) if shares else None)


def test_the_log_says_what_a_class_is_mostly_taken_for(report: RunReport) -> None:
    of = np.array([[[3, 1, 0], [0, 0, 0], [4, 0, 4]], [[0, 2, 0], [0, 2, 0], [0, 0, 0]]])
    told = ClassCounts(("walk", "sit", "[b]"), {"cluster": of[:, ::-1, ::-1], "personal": of})
    lines = report_lines(replace(report, classes=told))
    (head,) = [n for n, line in enumerate(lines) if line.startswith("classes;")]
    assert "2 clients that have the class" in lines[head]
    assert [line.split() for line in lines[head + 3 : head + 6]] == [
        ["walk", "6", "50.0", "37.5", "sit", "50.0"],
        ["sit", "2", "100.0", "100.0"],
        ["[b]", "8", "37.5", "50.0", "walk", "50.0"],
    ]
    assert not any(line.startswith("classes;") for line in report_lines(report))


def test_more_classes_than_a_reply_has_room_for_are_refused() -> None:
    assert 2 * 8 * MOST_CLASSES**2 < MAX_BYTES
    config = {"dataset": "folder", "input-shape": "8,3", "share-class-counts": True}
    names = told_classes(Settings.from_run_config({**config, "classes": str(MOST_CLASSES)}))
    assert len(names) == MOST_CLASSES
    with pytest.raises(SettingsError, match="expected a data set of at most 200 classes"):
        told_classes(Settings.from_run_config({**config, "classes": str(MOST_CLASSES + 1)}))
