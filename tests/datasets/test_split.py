import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.datasets.base import ClientData
from caafp_app.datasets.split import held_out_count, hold_out, split_by_class

labels_of = st.lists(st.integers(0, 4), max_size=120).map(lambda y: np.array(y, np.int64))


def test_the_published_rule_at_a_fifth() -> None:
    published = [0 if n < 2 else int(0.2 * n) or int(n > 5) for n in range(500)]
    for fifth in (0.2, 1.0 - 0.8):
        assert [held_out_count(n, fifth) for n in range(500)] == published
    others = [(1, 0.9), (2, 0.5), (5, 0.1), (6, 0.1), (9, 0.1), (20, 0.1), (50, 0.0)]
    assert [held_out_count(n, fraction) for n, fraction in others] == [0, 1, 0, 1, 1, 2, 0]


@given(labels_of, st.sampled_from([0.5, 0.7, 0.8, 0.9]))
def test_every_window_is_in_one_part_and_the_last_of_each_class_are_held_out(
    labels: np.ndarray, train_fraction: float
) -> None:
    split = split_by_class(labels, train_fraction=train_fraction)

    assert sorted([*split.train, *split.held_out]) == list(range(len(labels)))
    assert np.all(np.diff(split.train) > 0)
    assert np.all(np.diff(split.held_out) > 0)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = held_out_count(len(rows), 1 - train_fraction)
        assert (
            split.held_out[labels[split.held_out] == label].tolist()
            == rows[len(rows) - count :].tolist()
        )


@given(labels_of, st.integers(0, 2**32 - 1))
def test_time_goes_before_the_order_of_the_rows(labels: np.ndarray, seed: int) -> None:
    time = np.random.default_rng(seed).permutation(len(labels)).astype(np.float64)
    split = split_by_class(labels, time=time)

    assert len(split.train) + len(split.held_out) == len(labels)
    for label in np.unique(labels[split.held_out]):
        before = time[split.train[labels[split.train] == label]]
        after = time[split.held_out[labels[split.held_out] == label]]
        assert before.max() < after.min()


@given(labels_of, st.integers(1, 4))
def test_a_gap_takes_from_train_what_is_nearest_to_the_border(labels: np.ndarray, gap: int) -> None:
    plain, gapped = split_by_class(labels), split_by_class(labels, window_gap=gap)

    assert gapped.held_out.tolist() == plain.held_out.tolist()
    for label in np.unique(labels):
        before = plain.train[labels[plain.train] == label]
        has_border = np.any(labels[plain.held_out] == label)
        kept = before[: max(len(before) - gap, 0)] if has_border else before
        assert gapped.train[labels[gapped.train] == label].tolist() == kept.tolist()


@given(labels_of, st.sampled_from([0.1, 0.2, 0.5]), st.integers(0, 2))
def test_validation_is_the_end_of_train_and_never_test(
    labels: np.ndarray, fraction: float, gap: int
) -> None:
    plain = split_by_class(labels, window_gap=gap)
    chosen = split_by_class(labels, window_gap=gap, validation_fraction=fraction)

    both = [*chosen.train, *chosen.held_out]
    assert len(set(both)) == len(both)
    assert set(both) <= set(plain.train)
    assert not set(both) & set(plain.held_out)
    if gap == 0:
        assert len(both) == len(plain.train)
    for label in np.unique(labels[chosen.held_out]):
        before = chosen.train[labels[chosen.train] == label]
        after = chosen.held_out[labels[chosen.held_out] == label]
        assert not len(before) or before.max() < after.min()


def client(labels: list[int], time: list[float] | None = None) -> ClientData:
    x, y = np.zeros((len(labels), 4, 1), np.float32), np.array(labels, np.int64)
    told = None if time is None else np.array(time)
    return ClientData("me", x, y, x[:0], y[:0], ("a", "b"), train_time=told)


@pytest.mark.parametrize(
    ("labels", "held_out"),
    [
        ([0] * 6 + [1] * 10, [5, 14, 15]),
        ([0, 1, 1, 0], []),  # too few of each class to spare any
        ([1] * 10, [8, 9]),
        ([0], []),
    ],
)
def test_the_last_train_windows_of_each_class_are_held_out(
    labels: list[int], held_out: list[int]
) -> None:
    found = hold_out(client(labels), 0.2)
    assert found.held_out.tolist() == held_out
    assert sorted([*found.train, *found.held_out]) == list(range(len(labels)))
    # By the time where it is known; what would leave nothing to train on is not held out.
    data = client([0] * 6, [0.9, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert hold_out(data, 0.2).held_out.tolist() == [0]
    found = hold_out(client([0, 0]), 0.5, window_gap=1)
    assert (found.train.tolist(), found.held_out.tolist()) == ([0, 1], [])
    assert hold_out(client([0] * 9), 0.2, window_gap=2).train.tolist() == [0, 1, 2, 3, 4, 5]
