from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from caafp_app.errors import ProtocolError, SettingsError
from caafp_app.training import LocalTraining, dump_arrays, load_arrays, place, train
from tests.training.support import Small, data


def test_arrays_go_in_and_out_buffers_too() -> None:
    x, y = data()
    model, twin = Small(), Small(seed=9)
    train(model, x, y, LocalTraining(2, 16, 0.01))
    arrays = dump_arrays(model)
    assert arrays["norm.num_batches_tracked"] == 10
    read_only = {name: array.copy() for name, array in arrays.items()}
    for array in read_only.values():
        array.setflags(write=False)  # as they arrive from the wire
    load_arrays(twin, read_only)
    for name, array in dump_arrays(twin).items():
        assert array.dtype == arrays[name].dtype
        np.testing.assert_array_equal(array, arrays[name])
    twin.head.weight.data.zero_()
    assert arrays["head.weight"].any()


def renamed(arrays: dict[str, Any]) -> dict[str, Any]:
    return {("tail.weight" if k == "head.weight" else k): v for k, v in arrays.items()}


def reshaped(arrays: dict[str, Any]) -> dict[str, Any]:
    return {**arrays, "head.weight": np.zeros((5, 16), np.float32)}


@pytest.mark.parametrize("change", [renamed, reshaped, lambda arrays: {}])
def test_arrays_of_another_model_are_refused_with_what_to_do(
    change: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    with pytest.raises(ProtocolError, match="set the same model and data shape"):
        load_arrays(Small(), change(dump_arrays(Small())))


def test_a_device_that_is_not_there_is_refused() -> None:
    model = Small()
    assert place(model, "cpu") is model
    device = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(SettingsError, match=f"device='{device}' is not to be had here"):
        place(model, device)
