"""Optimisers against their equations, in numpy and in torch."""

import numpy as np
import pytest
import torch

from caafp_app.training import LocalTraining, dump_arrays, train
from caafp_app.training.optimizers import make_optimizer, relevant
from tests.training.support import Small, data

RATE, STEPS = 0.1, 4


def start(*shape: int) -> tuple[torch.Tensor, list[np.ndarray]]:
    rng = np.random.default_rng(3)
    values = torch.from_numpy(rng.normal(size=shape).astype(np.float32))
    return values, [rng.normal(size=shape).astype(np.float32) for _ in range(STEPS)]


def stepped(name: str, values: torch.Tensor, gradients: list[np.ndarray], density: float) -> None:
    gradient = torch.zeros_like(values)
    prunable = torch.arange(values.shape[-1]) >= 2  # the first two are biases
    optimizer = make_optimizer(name, values, gradient, RATE, prunable, density)
    for found in gradients:
        gradient.copy_(torch.from_numpy(found))
        optimizer.step()


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_sgd_and_adam_are_those_of_torch(name: str) -> None:
    values, _ = start(1003)
    rng = np.random.default_rng(4)
    gradients = [10.0**k * rng.normal(size=1003).astype(np.float32) for k in range(-6, 3)] * 5
    truth = torch.nn.Parameter(values.clone())
    reference: torch.optim.Optimizer = torch.optim.Adam([truth], RATE, foreach=False)
    if name == "sgd":
        reference = torch.optim.SGD([truth], RATE, momentum=0.9)
    stepped(name, values, gradients, 1.0)
    for found in gradients:
        truth.grad = torch.from_numpy(found)
        reference.step()
    torch.testing.assert_close(values, truth.detach())


@pytest.mark.parametrize("clients", [0, 3])
def test_prunadag_shrinks_what_is_small_and_steps_elsewhere(clients: int) -> None:
    """Of one client [n], and of a stack [C, n] as the batched engine has it."""
    values, gradients = start(*([clients] if clients else []), 12)
    before = values.numpy().copy()
    stepped("prunadag", values, gradients, 0.3)
    for place in np.ndindex(before.shape[:-1]):
        w, squares = before[place].astype(np.float64), np.zeros(12)
        stays = np.abs(w) >= np.sort(np.abs(w[2:]))[-3]  # 3 of 10
        stays[:2] = True
        for gradient in gradients:
            g = gradient[place]
            squares += g**2
            step = RATE * g / (np.sqrt(squares) + 1e-8)
            w = np.where(stays, w - step, np.sign(w) * np.maximum(np.abs(w) - np.abs(step), 0))
        np.testing.assert_allclose(values.numpy()[place], w, rtol=1e-5, atol=1e-6)
        assert np.all(np.abs(w[~stays]) < np.abs(before[place][~stays]))


def test_at_full_density_nothing_is_shrunk() -> None:
    values, _ = start(12)
    assert relevant(values, torch.ones(12, dtype=torch.bool), 1.0).all()


@pytest.mark.parametrize("name", ["sgd", "prunadag"])
def test_training_lowers_the_loss_inside_the_mask(name: str) -> None:
    x, y = data()
    torch.manual_seed(0)
    model = Small()
    mask = {"first.weight": np.random.default_rng(0).random(model.first.weight.shape) < 0.5}
    how = LocalTraining(1, 16, 0.05, seed=1, optimizer=name, density=0.4)
    losses = [train(model, x, y, how, mask) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert not dump_arrays(model)["first.weight"][~mask["first.weight"]].any()
