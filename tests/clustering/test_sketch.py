"""Sketches keep angles; long updates are projected."""

import numpy as np
import pytest

from caafp_app.clustering.assign import cosine_distances
from caafp_app.clustering.sketch import COMPONENTS, Sketcher, sketch_budget
from caafp_app.errors import ProtocolError


def test_short_updates_are_kept_exactly_and_copied():
    sketcher = Sketcher(5, seed=1)
    update = np.arange(5, dtype=np.float32)
    sketch = sketcher.sketch(update)
    update[:] = 0
    assert sketcher.exact
    assert sketch.dtype == np.float32
    assert sketch.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_long_updates_keep_their_angles():
    rng = np.random.default_rng(0)
    size = 20_000
    groups = rng.standard_normal((2, size))
    updates = (groups[[0, 0, 1, 1]] + 0.7 * rng.standard_normal((4, size))).astype(np.float32)
    sketcher = Sketcher(size, seed=3, budget=5_000)
    sketches = np.stack([sketcher.sketch(update) for update in updates])
    assert not sketcher.exact
    assert sketches.shape == (4, COMPONENTS)
    assert sketches.dtype == np.float32
    # Three standard deviations of a projection on 1024 values.
    np.testing.assert_allclose(cosine_distances(sketches), cosine_distances(updates), atol=0.1)


def test_a_sketcher_built_anew_gives_the_same_sketches():
    update = np.random.default_rng(1).standard_normal(3_000).astype(np.float32)
    first, again, other = (Sketcher(3_000, seed, 100).sketch(update) for seed in (7, 7, 8))
    assert first.shape == (100,)
    assert first.tobytes() == again.tobytes()
    assert (first != other).any()


@pytest.mark.parametrize(
    "update",
    [
        np.zeros(4, np.float32),
        np.zeros((3, 1), np.float32),
        np.zeros(3, np.int64),
        np.array([0, np.nan, 0], np.float32),
        np.array([0, np.inf, 0], np.float32),
        np.array([0, 1e300, 0]),
    ],
)
def test_bad_updates_are_refused(update):
    with pytest.raises(ProtocolError, match="expected"):
        Sketcher(3, 0).sketch(update)


def test_budget_shares_the_memory_among_clients():
    assert sketch_budget(36) * 36 * 4 <= 2**28
    assert Sketcher(89_254, 0, sketch_budget(36)).exact
    assert not Sketcher(89_254, 0, sketch_budget(10_000)).exact
    assert sketch_budget(10**9) == 64
    assert sketch_budget(0) == sketch_budget(36) == 2**17
