import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from caafp_app.training import (
    LocalTraining,
    decay,
    dump_arrays,
    evaluate,
    full_gradient,
    load_arrays,
    seeded,
    train,
)
from tests.tolerance import close
from tests.training.support import Bits, Small, data, masks_of

ROOT = Path(__file__).parents[2]


def reference(
    model: nn.Module,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    how: LocalTraining,
    mask: Bits | None = None,
) -> float:
    """The same training with torch's own Adam and autograd's own proximal term."""
    masks = {k: torch.from_numpy(m.astype(np.float32)) for k, m in (mask or {}).items()}
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name in masks:
                p *= masks[name]
    received = [p.detach().clone() for p in model.parameters()]
    optimiser = torch.optim.Adam(model.parameters(), how.learning_rate, foreach=False)
    data_, target = torch.from_numpy(x), torch.from_numpy(y)
    model.train()
    mean = 0.0
    with seeded(how.seed):
        for _ in range(how.epochs):
            total = 0.0
            for batch in torch.split(torch.randperm(len(y)), how.batch_size):
                optimiser.zero_grad()
                loss = functional.cross_entropy(model(data_[batch]), target[batch])
                total += loss.item() * len(batch)
                drift = sum(
                    ((p - r) ** 2).sum() for p, r in zip(model.parameters(), received, strict=True)
                )
                (loss + how.proximal / 2 * drift).backward()
                for name, p in model.named_parameters():
                    if name in masks and p.grad is not None:
                        p.grad *= masks[name]
                optimiser.step()
            mean = total / len(y)
    return mean


@pytest.mark.parametrize("proximal", [0.0, 0.5])
@pytest.mark.parametrize("masked", [False, True])
def test_training_is_that_of_torch(masked: bool, proximal: float) -> None:
    x, y = data()
    ours, theirs = Small(), Small()
    mask = masks_of(ours) if masked else None
    how = LocalTraining(4, batch_size=16, learning_rate=0.01, proximal=proximal, seed=5)
    loss = train(ours, x, y, how, mask)
    assert loss == pytest.approx(reference(theirs, x, y, how, mask), rel=1e-5)
    close(ours, theirs)
    if proximal:  # and it is not a training without the term
        free = Small()
        train(free, x, y, LocalTraining(4, 16, 0.01, seed=5), mask)
        assert (free.head.weight - ours.head.weight).abs().max() > 1e-3


@pytest.mark.parametrize("proximal", [0.0, 0.1])
def test_the_mask_is_held_at_every_step(proximal: float) -> None:
    x, y = data()
    model = Small()
    mask = masks_of(model)
    pruned = {name: torch.from_numpy(~bits) for name, bits in mask.items()}
    seen: list[float] = []

    def look(module: nn.Module, args: object) -> None:
        for name, p in model.named_parameters():
            if name in pruned:
                assert not p[pruned[name]].any()
                assert p[~pruned[name]].all()
        seen.append(float(model.first.weight.detach().abs().sum()))

    model.register_forward_pre_hook(look)
    for seed in (2, 3):  # fine-tuning from there stays inside
        train(model, x, y, LocalTraining(3, 16, 0.01, proximal, seed=seed), mask)
    look(model, ())
    assert len(seen) == 2 * 3 * 5 + 1
    assert len(set(seen)) > 25


def test_what_the_mask_does_not_name_is_trained_freely() -> None:
    x, y = data()
    model = Small()
    before = dump_arrays(model)
    mask = {"head.weight": np.eye(3, 16, dtype=bool)}
    train(model, x, y, LocalTraining(4, 16, 0.01), mask)
    after = dump_arrays(model)
    assert np.count_nonzero(after["head.weight"]) == 3
    assert (after["head.bias"] != before["head.bias"]).all()
    for name in ("first.weight", "norm.weight", "norm.bias"):  # of the three that are connected
        assert (after[name][:3] != before[name][:3]).all()


def test_parameters_that_need_no_gradient_are_left_alone() -> None:
    x, y = data()
    model = Small()
    model.head.weight.requires_grad_(False)
    before = model.head.weight.clone()
    train(model, x, y, LocalTraining(1, 16, 0.01))
    assert torch.equal(model.head.weight, before)
    assert "head.weight" not in full_gradient(model, x, y)


def test_a_model_can_be_trained_again_and_handed_on() -> None:
    """Its parameters become views of one vector; that must not show."""
    x, y = data()
    model, twin = Small(), Small()
    how = LocalTraining(1, 16, 0.01, seed=1)
    train(model, x, y, how)
    arrays = dump_arrays(model)
    load_arrays(twin, arrays)
    for m in (model, twin):
        train(m, x, y, how)
    close(model, twin, roundings=0)
    arrays_after = dump_arrays(model)
    assert (arrays["head.weight"] != arrays_after["head.weight"]).any()  # copies, not views


def test_training_depends_on_its_seed_alone_and_leaves_global_generators_alone() -> None:
    x, y = data()
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    models = [Small() for _ in range(3)]
    for model, seed in zip(models, (4, 4, 5), strict=True):
        train(model, x, y, LocalTraining(2, 16, 0.01, seed=seed))
        evaluate(model, x, y)
        full_gradient(model, x, y)
    close(models[0], models[1], roundings=0)
    assert not torch.equal(models[0].head.weight, models[2].head.weight)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    np.testing.assert_array_equal(np.random.get_state()[1], states[2])


def test_zero_epochs_put_the_mask_on_and_no_more() -> None:
    x, y = data()
    model = Small()
    before, mask = dump_arrays(model), masks_of(model)
    assert train(model, x, y, LocalTraining(0), mask) == 0.0
    for name, array in dump_arrays(model).items():
        np.testing.assert_array_equal(array, before[name] * mask.get(name, True))


def test_the_learning_rate_falls_along_a_half_cosine() -> None:
    shares = [decay(k, 21, 0.1) for k in range(1, 22)]
    assert shares[0] == 1.0
    assert shares[10] == pytest.approx(0.55)
    assert shares[20] == pytest.approx(0.1)
    assert all(a > b for a, b in pairwise(shares))
    assert decay(22, 21, 0.1) == decay(99, 21, 0.1) == pytest.approx(0.1)
    assert [decay(k, 21, 1.0) for k in range(30)] == [1.0] * 30
    assert decay(1, 1, 0.5) == decay(0, 5, 0.5) == 1.0


def test_training_does_not_import_torchs_compiler() -> None:
    """It takes longer than the training itself, on a device at every message."""
    code = """
import sys
import numpy as np
from caafp_app.models import build_model
from caafp_app.training import LocalTraining, evaluate, full_gradient, train
x, y = np.zeros((8, 16, 2), np.float32), np.zeros(8, np.int64)
model = build_model("har-cnn", (16, 2), 3, seed=0)
mask = {"head.weight": np.ones((3, 32), bool)}
train(model, x, y, LocalTraining(1, proximal=0.1), mask)
evaluate(model, x, y)
full_gradient(model, x, y)
print(sorted(m for m in sys.modules if m.startswith(("torch._dynamo", "torch._inductor"))))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
