"""One seed, one run: sampling, clusters, masks, models and every client's accuracy."""

from typing import Any

import numpy as np
import pytest

from tests.strategies.support import Run, accuracies, bits_of, run

LOSSY = {"up-dtype": "int8", "down-dtype": "float16", "rest-dtype": "float16"}


def assert_same(one: Run, other: Run) -> None:
    assert one.asked() == other.asked()
    assert one.seen.labels == other.seen.labels
    assert bits_of(one.strategy) == bits_of(other.strategy)
    assert accuracies(one.seen.report) == accuracies(other.seen.report)


@pytest.mark.e2e
@pytest.mark.parametrize("codecs", [{}, LOSSY], ids=["exact", "lossy"])
def test_order_of_replies_and_node_ids_change_nothing(codecs: dict[str, Any]) -> None:
    first = run(codecs)
    assert len({tuple(labels) for labels in first.asked().values()}) > 3  # sampling happened
    assert any(values[1] for values in accuracies(first.seen.report).values())
    for k in range(2):
        shuffled = run(codecs, order=np.random.default_rng(k))
        assert set(shuffled.grid.contexts).isdisjoint(first.grid.contexts)
        assert_same(first, shuffled)


@pytest.mark.e2e
def test_the_same_seed_twice_and_another_seed() -> None:
    first, again, other = run(), run(), run({"seed": 6})
    assert_same(first, again)
    assert first.asked() != other.asked()
    for number, bits in bits_of(first.strategy).items():
        assert all(part != bits_of(other.strategy)[number][k] for k, part in enumerate(bits))
    assert accuracies(first.seen.report) != accuracies(other.seen.report)
    # The data has a seed of its own.
    examples = [{c.label: c.examples for c in r.seen.report.clients} for r in (first, other)]
    assert examples[0] == examples[1]


@pytest.mark.e2e
def test_metrics_of_rounds_do_not_depend_on_the_order_either() -> None:
    first = run({"evaluate-every": 3})
    other = run({"evaluate-every": 3}, order=np.random.default_rng(3))
    for one, two in zip(first.seen.rounds, other.seen.rounds, strict=True):
        assert (one.round, one.phase, one.accuracy, one.loss) == (
            two.round,
            two.phase,
            two.accuracy,
            two.loss,
        )
        assert (one.bytes_down, one.asked, one.answered) == (
            two.bytes_down,
            two.asked,
            two.answered,
        )
    assert [r.round for r in first.seen.rounds if r.phase == "evaluate"] == [3, 6]
    assert dict(first.result.train_metrics_clientapp) == dict(other.result.train_metrics_clientapp)
