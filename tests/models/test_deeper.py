"""The deeper networks: what they compute, that they learn inside a mask, and what they refuse."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from caafp_app.errors import SettingsError
from caafp_app.models import build_model
from caafp_app.protocol.layout import Layout
from caafp_app.training import LocalTraining, dump_arrays, evaluate, train
from tests.tolerance import close

SHAPE = (24, 6)
DEEPER = ["deep-conv-lstm", "resnet1d", "transformer", "sensor-fusion"]


def windows(count: int = 48, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes: slow and fast waves of any phase, on all channels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    phase = rng.uniform(0, 2 * math.pi, (count, 1, SHAPE[1]))
    time = np.arange(SHAPE[0])[None, :, None]
    x = np.sin(np.where(y, 2.2, 0.5)[:, None, None] * time + phase)
    return (x + rng.normal(0, 0.1, x.shape)).astype(np.float32), y


@pytest.mark.parametrize("name", DEEPER)
def test_each_window_is_judged_apart_and_dropout_is_off_in_evaluation(name: str) -> None:
    model = build_model(name, SHAPE, 3, seed=1).eval()
    x = torch.from_numpy(windows(5)[0])
    with torch.no_grad():
        logits = model(x)
        assert logits.shape == (5, 3)
        close(model(x), logits)
        close(model(x[3:4]), logits[3:4])
        assert not torch.allclose(model(x.flip(1)), logits, atol=1e-4)  # the order of time counts


@pytest.mark.parametrize("name", DEEPER)
def test_it_learns_inside_a_mask(name: str) -> None:
    torch.set_num_threads(1)
    model = build_model(name, SHAPE, 2, seed=2)
    x, y = windows(96)
    layout = Layout.of(dump_arrays(model))
    rng = np.random.default_rng(3)
    mask = {e.name: rng.random(e.shape) < 0.5 for e in layout.weight_entries}
    before = dump_arrays(model)
    how = LocalTraining(epochs=8, batch_size=12, learning_rate=1e-3, seed=4)
    train(model, x, y, how, mask)
    assert evaluate(model, *windows(40, seed=5)).accuracy > 0.8
    after = dump_arrays(model)
    for name_, bits in mask.items():
        assert not after[name_][~bits].any()
        assert (after[name_] != before[name_])[bits].any()
    # What is not a weight is sent too, and is what the model needs to be built again.
    again = build_model(name, SHAPE, 2, seed=9)
    again.load_state_dict({key: torch.from_numpy(array) for key, array in after.items()})
    held_out = torch.from_numpy(windows(40, seed=5)[0])
    with torch.no_grad():
        close(again.eval()(held_out), model.eval()(held_out))


@pytest.mark.parametrize("name", DEEPER)
def test_no_weight_hides_among_what_is_not_prunable(name: str) -> None:
    arrays = dump_arrays(build_model(name, (128, 9), 6, seed=0))
    layout = Layout.of(arrays)
    assert layout.weight_count > 0.97 * sum(array.size for array in arrays.values())
    assert "positions" not in arrays


def test_resnet_is_the_published_one() -> None:
    model = build_model("resnet1d", (50, 4), 3, seed=0).eval()
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 50, 4)).astype(np.float32))
    state = model.state_dict()

    def normed(z: torch.Tensor, key: str) -> torch.Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(z, *(state[f"{key}.{name}"] for name in names))

    with torch.no_grad():
        z = x.transpose(1, 2)
        for block in range(3):
            way = z
            for layer, kernel in zip((1, 5, 9), (8, 5, 3), strict=True):
                weight = state[f"blocks.{block}.way.{layer}.weight"]
                assert weight.shape[2] == kernel
                way = functional.pad(way, ((kernel - 1) // 2, kernel // 2))
                way = functional.conv1d(way, weight)
                way = normed(way, f"blocks.{block}.way.{layer + 1}")
                way = torch.relu(way) if layer < 9 else way
            around = functional.conv1d(z, state[f"blocks.{block}.around.0.weight"])
            z = torch.relu(way + normed(around, f"blocks.{block}.around.1"))
        truth = functional.linear(z.mean(2), state["head.weight"], state["head.bias"])
        close(model(x), truth)


def test_positions_of_the_transformer_are_sines() -> None:
    model = build_model("transformer", (40, 3), 2, seed=0)
    positions = model.positions.numpy()
    for place in (0, 3, 9):
        for k in (0, 5, 31):
            angle = place / 10_000 ** (2 * k / 64)
            close(positions[place, 2 * k : 2 * k + 2], [math.sin(angle), math.cos(angle)], "f4")


def test_a_sensor_that_is_not_there_says_nothing_and_is_not_trained() -> None:
    model = build_model("sensor-fusion", SHAPE, 2, seed=0).eval()
    x = torch.from_numpy(windows(8)[0])
    without = x.clone()
    without[:, :, 3:] = 0
    with torch.no_grad():
        before = model(without)
        # Whatever the gyroscope's branch computes of silence, it changes nothing.
        for parameter in (*model.branches[1].parameters(), *model.dense[1].parameters()):
            parameter.add_(1.0)
        close(model(without), before)
        assert not torch.allclose(model(x), before)
        assert torch.isfinite(model(torch.zeros_like(x))).all()  # no sensor at all
    functional.cross_entropy(model(without), torch.zeros(8, dtype=torch.long)).backward()
    assert all(not p.grad.any() for p in model.branches[1].parameters())
    assert all(p.grad.any() for p in model.branches[0].parameters())
    assert not model.head.weight.grad[:, 32:].any()


def test_what_is_left_of_the_sensors_weighs_the_more() -> None:
    model = build_model("sensor-fusion", SHAPE, 2, seed=0).eval()
    x = torch.from_numpy(windows(8)[0])
    without = x.clone()
    without[:, :, 3:] = 0
    with torch.no_grad():
        model.head.weight[:, 32:] = 0  # listens to the accelerometer alone
        model.head.bias.zero_()
        close(model(without), 2 * model(x))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        *(
            ("har-cnn", shape, r"windows of \(samples >= 4, channels\), found")
            for shape in ((3, 9), (128,), (8, 8, 3), ())
        ),
        *(
            ("digits-cnn", shape, r"pictures of \(rows >= 4, .*found")
            for shape in ((8, 8), (3, 8, 1), (8, 3, 1))
        ),
        ("deep-conv-lstm", (16, 6), r"\(samples >= 17, channels\), found \(16, 6\)"),
        ("resnet1d", (8, 8, 1), r"\(samples, channels\), found \(8, 8, 1\)"),
        ("transformer", (3, 6), r"\(samples >= 4, channels\), found \(3, 6\)"),
        ("sensor-fusion", (24, 4), r"three channels a sensor, found \(24, 4\)"),
    ],
)
def test_windows_that_it_cannot_take_are_refused(
    name: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        build_model(name, shape, 2, seed=0)
