import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.personal import stopped
from caafp_app.training import Score, Stopping
from caafp_app.training.stopping import CLEARLY, PATIENCE


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), min_size=2, max_size=40))
def test_the_rule_taken_is_the_clients_own(curve: list[tuple[int, int]]) -> None:
    right, loss = np.array(curve).T / [[20], [1]]
    client = {"held": {"right": right.tolist(), "loss": loss.tolist()}, "windows": 20}
    stopping = Stopping(Score(right[0], loss[0], 20), several=True)
    for epoch in range(1, len(curve)):
        stopping.add(epoch, Score(right[epoch], loss[epoch], 20))
        if stopping.over:
            break
    assert stopped(client, PATIENCE, margin=CLEARLY) == stopping.best.epochs
