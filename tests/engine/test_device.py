"""What a GPU needs, as far as a CPU shows it: arrays kept, and memory."""

import gc

import numpy as np
import pytest

from caafp_app.client.tasks import network_on
from caafp_app.engine.device import DeviceArrays, clients_at_once
from caafp_app.training import LocalTraining
from tests.engine.test_stacked import fits

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


def test_fewer_clients_fit_where_each_needs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (fits("har-cnn", HOW, sizes=(size,)) for size in (40, 4000))
    model = network_on(small[0].network, "cpu")
    assert clients_at_once(model, small, 4) > clients_at_once(model, small, 64)
    assert clients_at_once(model, small, 4) > clients_at_once(model, large, 4)
    monkeypatch.setattr("caafp_app.engine.device._CPU_BUDGET", 1)
    assert clients_at_once(model, small, 4) == 1
