"""Masks of whole filters: as many weights as the density says, and found again from the mask."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.pruning.filters import choose_by_weight, choose_filters, filter_mask, places_of_mask

SHAPES = {"a": (12, 3, 5), "a.bias": (12,), "b": (8, 12, 3), "b.bias": (8,), "c": (6, 8 * 4)}
WEIGHTS = ("a", "b", "c")


def network(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: np.abs(rng.normal(size=shape)) for name, shape in SHAPES.items()}


@settings(max_examples=20)
@given(density=st.floats(0.02, 1.0), seed=st.integers(0, 20))
def test_no_more_weights_are_left_than_the_density_allows(density: float, seed: int) -> None:
    arrays = network(seed)
    scores = {name: arrays[name] for name in WEIGHTS}
    places = choose_by_weight(arrays, scores, density)
    mask = filter_mask(scores, places)
    left = sum(int(bits.sum()) for bits in mask.values())
    total = sum(array.size for array in scores.values())
    one_each = 3 * 5 + 3 + 6 * 4
    assert left <= max(density * total, one_each)
    # One filter more in each layer would have been too many.
    share = len(places["a"][0]) / 12
    more = choose_filters(arrays, min(share + 1 / 12 + 1e-6, 1.0), WEIGHTS)
    fuller = sum(int(bits.sum()) for bits in filter_mask(scores, more).values())
    assert share == 1 or fuller > density * total
    # And the places are those of the mask.
    again = places_of_mask(arrays, mask)
    assert again.keys() == places.keys()
    for name in places:
        for one, two in zip(places[name], again[name], strict=True):
            np.testing.assert_array_equal(one, two)
