"""One seed, one run: sampling, clusters, masks, models and every client's accuracy."""

import numpy as np
import pytest

from tests.strategies.support import Run, accuracies, bits_of, run

WATCHED = {"evaluate-every": 4}
LOSSY = {"up-dtype": "int8", "down-dtype": "float16", "rest-dtype": "float16"}


@pytest.fixture(scope="module")
def first() -> Run:
    return run(WATCHED)


def assert_same(one: Run, other: Run) -> None:
    assert set(one.grid.contexts).isdisjoint(other.grid.contexts)  # node ids tell nothing
    assert one.asked() == other.asked()
    assert one.seen.labels == other.seen.labels
    assert bits_of(one.result) == bits_of(other.result)
    assert accuracies(one.seen.report) == accuracies(other.seen.report)
    for a, b in zip(one.seen.rounds, other.seen.rounds, strict=True):
        assert (a.round, a.phase, a.accuracy, a.loss) == (b.round, b.phase, b.accuracy, b.loss)
        assert (a.asked, a.answered, a.density) == (b.asked, b.answered, b.density)
        assert (a.bytes_down, a.bytes_up) == (b.bytes_down, b.bytes_up)
    for kind in ("train_metrics_clientapp", "evaluate_metrics_clientapp"):
        assert dict(getattr(one.result, kind)) == dict(getattr(other.result, kind))


def test_the_same_seed_gives_the_same_run_whatever_the_order_of_replies(first: Run) -> None:
    assert len({tuple(labels) for labels in first.asked().values()}) > 3  # sampling happened
    assert any(values[1] for values in accuracies(first.seen.report).values())
    assert [r.round for r in first.seen.rounds if r.phase == "evaluate"] == [4, 8]
    assert_same(first, run(WATCHED, order=np.random.default_rng(1)))


def test_codecs_that_round_at_random_repeat_too() -> None:
    assert_same(run(LOSSY), run(LOSSY, order=np.random.default_rng(2)))


def test_another_seed_gives_another_run_of_the_same_data(first: Run) -> None:
    other = run({**WATCHED, "seed": 6})
    assert first.asked() != other.asked()
    for number, bits in bits_of(first.result).items():
        assert all(part != bits_of(other.result)[number][k] for k, part in enumerate(bits))
    assert accuracies(first.seen.report) != accuracies(other.seen.report)
    examples = []
    for done in (first, other):
        examples.append({c.label: c.examples for c in done.seen.report.clients})
    assert examples[0] == examples[1]
