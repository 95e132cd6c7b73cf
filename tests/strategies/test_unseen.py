"""Users kept out of training: who they are, what they are asked, and what a rule gives them."""

import numpy as np
import pytest

from caafp_app.errors import SettingsError
from caafp_app.protocol.unlabelled import said_of
from caafp_app.runs.summary import build_summary
from caafp_app.strategies.unseen import GENERAL, RULES, draw_unseen
from tests.strategies.support import run

LABELS = [f"user-{k:02d}" for k in range(6)]


@pytest.mark.parametrize("strategy", ["caafp", "fedavg", "fedchar", "clusterfl", "efficientfl"])
def test_users_kept_out_are_asked_at_the_end_alone(strategy: str) -> None:
    more = {"warmup-rounds": 3, "cluster-rounds": 1, "prune-rounds": 0, "sparsity": 0.0}
    ended = run({"strategy": strategy, "unseen-users": "2", "clients-per-round": 2, **more})
    report = ended.result.report
    unseen = [one.label for one in report.unseen]
    assert unseen == draw_unseen("2", LABELS, 5)
    assert not {client.label for client in report.clients} & set(unseen)
    for (_, phase), labels in ended.asked().items():
        assert (set(labels) == set(unseen)) if phase == "unseen" else not set(labels) & set(unseen)
    models = len(report.clusters)
    for one in report.unseen:
        assert len(one.accuracies) == (1 if models == 1 else models + 1)
        assert one.chosen["general"] == GENERAL
        assert one.given("oracle") >= one.given("general")
    found = build_summary(report, settings={"strategy": "", "dataset": "", "seed": 0}, rounds=4)
    assert found["accuracy"]["unseen"]["clients"] == 2
    assert set(found["accuracy"]["unseen_by_rule"]) == {*RULES, "oracle"}


def test_they_are_drawn_by_the_seed_or_named() -> None:
    assert draw_unseen("3", LABELS, 1) == draw_unseen("3", LABELS, 1)
    assert len({tuple(draw_unseen("3", LABELS, seed)) for seed in range(9)}) > 1
    assert draw_unseen("user-04, user-01", LABELS, 1) == ["user-01", "user-04"]
    with pytest.raises(SettingsError, match="labels of clients, found 'ann'"):
        draw_unseen("ann", LABELS, 1)
    with pytest.raises(SettingsError, match="fewer than the 6 clients, found 6"):
        draw_unseen("6", LABELS, 1)


SURE_AND_POOR = {"sure": 0.99, "entropy": 0.02, "variety": 0.1}
RICH = {"sure": 0.9, "entropy": 0.3, "variety": 1.6}
PLAIN = {"sure": 0.8, "entropy": 0.5, "variety": 1.5}


@pytest.mark.parametrize(("rule", "chosen"), [("general", GENERAL), ("surest", 0), ("informed", 1)])
def test_rules(rule: str, chosen: int) -> None:
    assert RULES[rule]({GENERAL: PLAIN, 0: SURE_AND_POOR, 1: RICH}) == chosen
    assert RULES[rule]({GENERAL: PLAIN}) == GENERAL


def test_what_clients_tell_without_labels() -> None:
    sure = said_of(np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert sure == pytest.approx({"sure": 1.0, "entropy": 0.0, "variety": np.log(2)})
    assert said_of(np.empty((0, 2))) == {}
