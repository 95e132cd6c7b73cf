import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from caafp_app.training import LocalTraining, Score, Stopped, Stopping, evaluate, how_long, train
from caafp_app.training.stopping import PATIENCE
from tests.training.support import Small, data, masks_of

Part = tuple[NDArray[np.float32], NDArray[np.int64]]
CURVES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=30).map(
    lambda pairs: [Score(right / 4, loss / 3, 4) for right, loss in pairs]
)


def parts() -> tuple[Part, Part]:
    """Return windows to train on, and others of the same rule."""
    x, y = data(160)
    return (x[:120], y[:120]), (x[120:], y[120:])


def followed(curve: list[Score], *, several: bool = True) -> tuple[Stopped, int]:
    """Return what is found, and after how many epochs it stopped."""
    stopping = Stopping(curve[0], several=several)
    for epoch, score in enumerate(curve[1:], start=1):
        stopping.add(epoch, score)
        if stopping.over:
            return stopping.best, epoch
    return stopping.best, len(curve) - 1


@given(CURVES)
def test_it_finds_the_best_epoch_it_has_seen_and_goes_on_for_no_longer_than_it_has_to(
    curve: list[Score],
) -> None:
    best, ended = followed(curve)
    order = [(score.accuracy, -score.loss) for score in curve[1 : ended + 1]]
    if order:
        assert best == Stopped(order.index(max(order)) + 1, curve[best.epochs])
    assert ended in (best.epochs + PATIENCE, len(curve) - 1)


@given(CURVES)
def test_with_one_class_only_more_windows_right_are_a_reason_to_train(curve: list[Score]) -> None:
    best, ended = followed(curve, several=False)
    accuracy = [score.accuracy for score in curve[: ended + 1]]
    assert best.epochs == accuracy.index(max(accuracy))


@pytest.mark.parametrize(("right", "epochs"), [(12, 1), (13, 1), (16, 1), (17, 0), (20, 0)])
def test_the_model_as_it_came_stays_where_it_is_clearly_better(right: int, epochs: int) -> None:
    curve = [Score(right / 20, 0.0, 20), Score(12 / 20, 1.0, 20), Score(11 / 20, 0.5, 20)]
    assert followed(curve)[0] == Stopped(epochs, curve[epochs])


def test_the_epochs_found_lead_to_the_score_found() -> None:
    (x, y), held = parts()
    how = LocalTraining(40, 16, 0.01, proximal=0.1, seed=3)
    mask = masks_of(Small())
    found = how_long(Small(), x, y, held, how, mask)
    assert 0 < found.epochs <= 40
    again = Small()
    train(again, x, y, LocalTraining(found.epochs, 16, 0.01, proximal=0.1, seed=3), mask)
    assert evaluate(again, *held) == found.score


def test_a_model_that_training_makes_worse_is_kept() -> None:
    (x, y), held = parts()
    model = Small()
    train(model, x, y, LocalTraining(30, 16, 0.01))
    right = evaluate(model, *held)
    found = how_long(model, x, (y + 1) % 3, held, LocalTraining(40, 16, 0.05))
    assert found == Stopped(0, right)
