"""Filters are chosen by L1 norm, and the smaller network computes what the full one would."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.errors import SettingsError
from caafp_app.pruning.filters import Arrays, choose_filters, cut, strongest_filters, write_back
from tests.tolerance import close


def network(
    seed: int = 0, filters: int = 8, positions: int = 3, inputs: int = 2
) -> dict[str, np.ndarray]:
    """Two convolutions of one place each, so that they are matrices, then dense on `positions`."""
    rng = np.random.default_rng(seed)
    shapes = {
        "a.weight": (filters, inputs, 1),
        "a.bias": (filters,),
        "b.weight": (filters + 2, filters, 1),
        "norm.running_mean": (filters + 2,),
        "dense.weight": (5, (filters + 2) * positions),
        "dense.bias": (5,),
        "head.weight": (4, 5),
    }
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def forward(arrays: Arrays, x: np.ndarray) -> np.ndarray:
    """Logits of x [n, inputs, positions]."""
    for name in "ab":
        x = np.einsum("oi,nip->nop", arrays[f"{name}.weight"][:, :, 0], x)
        if name == "a":
            x = x + arrays["a.bias"][:, None]
        x = np.maximum(x, 0)
    x = x.reshape(len(x), -1) @ arrays["dense.weight"].T + arrays["dense.bias"]
    return np.maximum(x, 0) @ arrays["head.weight"].T


def weights_of(arrays: Arrays) -> list[str]:
    return [name for name in arrays if name.endswith("weight")]


def test_the_filters_of_largest_norm_stay_and_ties_go_to_the_first() -> None:
    weights = np.array([[1, -1], [3, 0], [0, 0], [-2, 1], [1, 1]], dtype=np.float32)[:, :, None]
    np.testing.assert_array_equal(strongest_filters(weights, 0.4), [1, 3])
    np.testing.assert_array_equal(strongest_filters(weights, 0.6), [0, 1, 3])
    np.testing.assert_array_equal(strongest_filters(weights, 0.01), [1])
    np.testing.assert_array_equal(strongest_filters(weights, 1.0), range(5))


@given(seed=st.integers(0, 99), density=st.floats(0.05, 1.0), positions=st.integers(1, 4))
def test_the_small_network_is_the_full_one_without_the_other_filters(
    seed: int, density: float, positions: int
) -> None:
    full = network(seed, positions=positions)
    places = choose_filters(full, density, weights_of(full))
    small = cut(full, places)
    count = max(int(density * 8 + 0.5), 1), max(int(density * 10 + 0.5), 1)
    assert small["a.weight"].shape == (count[0], 2, 1)
    assert small["b.weight"].shape == (count[1], count[0], 1)
    assert small["norm.running_mean"].shape == (count[1],)
    assert small["dense.weight"].shape == (5, count[1] * positions)
    # Truth: the full network with the other filters silenced.
    silent = {name: array.copy() for name, array in full.items()}
    for name, filters in (("a", 8), ("b", 10)):
        norms = np.abs(full[f"{name}.weight"]).sum((1, 2))
        gone = np.argsort(-norms, kind="stable")[count[name == "b"] :]
        assert gone.size == filters - count[name == "b"]
        silent[f"{name}.weight"][gone] = 0
        if name == "a":
            silent["a.bias"][gone] = 0
    x = np.random.default_rng(seed).normal(size=(6, 2, positions))
    close(forward(small, x), forward(silent, x))


@given(seed=st.integers(0, 99), density=st.floats(0.05, 1.0))
def test_what_was_trained_is_written_to_where_it_came_from(seed: int, density: float) -> None:
    full = network(seed)
    places = choose_filters(full, density, weights_of(full))
    small = {name: array + 100 for name, array in cut(full, places).items()}
    whole = write_back(full, small, places)
    for name, array in cut(whole, places).items():
        np.testing.assert_array_equal(array, small[name])
    for name, array in whole.items():
        changed = array != full[name]
        assert changed.sum() == small[name].size
        np.testing.assert_array_equal(array[~changed], full[name][~changed])
    assert (full["a.bias"] < 50).all()  # the arrays given are left alone


def test_a_layer_that_may_not_be_pruned_keeps_its_filters() -> None:
    full = network()
    small = cut(full, choose_filters(full, 0.5, ["b.weight"]))
    assert small["a.weight"].shape == full["a.weight"].shape
    assert small["b.weight"].shape == (5, 8, 1)
    assert small["dense.weight"].shape == (5, 15)


def test_scalars_and_counters_pass() -> None:
    full = {**network(), "steps": np.array(3)}
    places = choose_filters(full, 0.5, weights_of(full))
    small = cut(full, places)
    assert small["steps"] == 3
    assert write_back(full, {**small, "steps": np.array(4)}, places)["steps"] == 4


def test_networks_that_are_no_chain_are_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"expected a network with convolutions .* found .*head"
    ):
        choose_filters({"head.weight": np.ones((3, 4))}, 0.5, ["head.weight"])
    wide = {"a": np.ones((8, 2, 3)), "b": np.ones((4, 16, 3))}
    with pytest.raises(SettingsError, match=r"'b': expected the 8 filters .* found 16"):
        choose_filters(wide, 0.5, ["a", "b"])
    odd = {"a": np.ones((8, 2, 3)), "b": np.ones((4, 17))}
    with pytest.raises(SettingsError, match="plain chains"):
        choose_filters(odd, 0.5, ["a", "b"])
