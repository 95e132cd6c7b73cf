"""What a GPU needs, as far as a CPU shows it: arrays kept, steps that can be recorded, memory."""

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from caafp_app.client.tasks import network_on
from caafp_app.engine.device import DeviceArrays, clients_at_once
from caafp_app.engine.perform import Together
from caafp_app.training import LocalTraining
from tests.engine.test_stacked import NETWORKS, fits

ASK_THE_HOST = ("_local_scalar_dense", "nonzero", "masked_select", "unique")
"""Operations whose result decides what comes next: a CUDA graph cannot be recorded around them."""


class OnDeviceOnly(TorchDispatchMode):
    """Refuses what a recording would."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        assert not any(word in str(func) for word in ASK_THE_HOST), func
        return func(*args, **(kwargs or {}))


HOW = LocalTraining(epochs=1, batch_size=4)


def test_an_array_is_copied_to_a_device_once_and_goes_with_its_owner() -> None:
    on_device = DeviceArrays("meta")
    array = np.zeros(5, np.float32)
    first = on_device(array)
    assert first.device.type == "meta"
    assert on_device(array) is first
    assert on_device(array.copy()) is not first
    place = id(array)
    assert place in on_device._kept
    del array
    gc.collect()
    assert place not in on_device._kept


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_can_be_recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads its arguments from one place, adds to one gradient, and asks the host nothing."""
    replays = []

    def recorded(
        losses: Callable[[Tensor, Tensor], Tensor], rows: Tensor, weights: Tensor, gradient: Tensor
    ) -> Callable[[Tensor, Tensor], Tensor]:
        rows, weights, place = rows.clone(), weights.clone(), gradient.data_ptr()

        def replay(new_rows: Tensor, new_weights: Tensor) -> Tensor:
            rows.copy_(new_rows)
            weights.copy_(new_weights)
            with OnDeviceOnly():
                found = losses(rows, weights)
            assert gradient.data_ptr() == place
            replays.append(found.shape)
            return found

        return replay

    plain = Together("cpu")(fits(name, HOW, sizes=(40, 40)))
    monkeypatch.setattr("caafp_app.engine.stacked.captured", recorded)
    again = Together("cpu")(fits(name, HOW, sizes=(40, 40)))
    assert replays == [(2,)] * 10
    for one, other in zip(plain, again, strict=True):
        assert not isinstance(one, Exception), one
        assert not isinstance(other, Exception), other
        assert one.loss == other.loss
        for key, array in one.arrays.items():
            np.testing.assert_array_equal(array, other.arrays[key])


def test_fewer_clients_fit_where_each_needs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (fits("har-cnn", HOW, sizes=(size,)) for size in (40, 4000))
    model = network_on(small[0].network, "cpu")
    assert clients_at_once(model, small, 4) > clients_at_once(model, small, 64)
    assert clients_at_once(model, small, 4) > clients_at_once(model, large, 4)
    monkeypatch.setattr("caafp_app.engine.device._CPU_BUDGET", 1)
    assert clients_at_once(model, small, 4) == 1
