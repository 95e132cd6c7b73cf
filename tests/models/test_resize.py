"""A network of a registered kind takes arrays of fewer filters, and computes with them."""

import numpy as np
import pytest
import torch
from torch import nn

from caafp_app.errors import ProtocolError
from caafp_app.models import build_model
from caafp_app.models.resize import resize
from caafp_app.pruning.filters import choose_filters, cut, write_back
from caafp_app.training import dump_arrays, load_arrays
from tests.tolerance import close


@pytest.mark.parametrize(("name", "shape"), [("har-cnn", (32, 3)), ("digits-cnn", (8, 8, 1))])
@torch.no_grad()
def test_the_small_network_computes_what_the_full_one_does_with_the_others_silenced(
    name: str, shape: tuple[int, ...]
) -> None:
    full = build_model(name, shape, 4, seed=1)
    for parameter in full.parameters():
        if parameter.ndim == 1:
            parameter.uniform_(-0.2, 0.2)
    arrays = dump_arrays(full)
    places = choose_filters(arrays, 0.3, [n for n, a in arrays.items() if a.ndim >= 2])
    small_arrays = cut(arrays, places)
    assert sum(a.size for a in small_arrays.values()) < 0.6 * sum(a.size for a in arrays.values())
    small = build_model(name, shape, 4, seed=2)
    resize(small, small_arrays)
    load_arrays(small, small_arrays)
    zeros = {key: np.zeros_like(array) for key, array in arrays.items()}
    load_arrays(full, write_back(zeros, small_arrays, places))
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32))
    close(small.eval()(x), full.eval()(x))
    assert {k: a.shape for k, a in dump_arrays(small).items()} == {
        k: a.shape for k, a in small_arrays.items()
    }
    assert all(parameter.requires_grad for parameter in small.parameters())


def test_layers_say_the_sizes_that_they_have() -> None:
    model = nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.Linear(8, 4))
    arrays = dump_arrays(model)
    small = cut(arrays, choose_filters(arrays, 0.5, ["0.weight"]))
    resize(model, small)
    load_arrays(model, small)
    assert str(model[0]).startswith("Conv1d(3, 4,")
    assert model[2].in_features == 4
    assert model[1].running_mean.shape == (4,)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1.weight", (65, 3, 5)),  # more filters than the network has
        ("conv1.weight", (20, 3, 3)),  # another kernel
        ("conv1.weight", (20, 15)),
        ("conv1.bias", (0,)),
    ],
)
def test_what_is_no_cut_of_the_network_is_refused(name: str, shape: tuple[int, ...]) -> None:
    model = build_model("har-cnn", (32, 3), 4, seed=0)
    arrays = {**dump_arrays(model), name: np.zeros(shape, dtype=np.float32)}
    with pytest.raises(ProtocolError, match=f"'{name}': expected .* with fewer filters"):
        resize(model, arrays)


def test_other_arrays_are_refused() -> None:
    model = build_model("har-cnn", (32, 3), 4, seed=0)
    with pytest.raises(ProtocolError, match=r"expected the arrays conv1\.weight"):
        resize(model, {"w": np.zeros(3)})
