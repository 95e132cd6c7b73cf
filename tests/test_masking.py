"""`masked`: exact zeros after every step of every optimiser, and nothing else changed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from caafp_app.errors import ProtocolError
from caafp_app.masking import masked
from tests.tolerance import close

Mask = dict[str, NDArray[np.bool_]]


class Everything(nn.Module):
    """Convolution, batch norm, an embedding tied to the head, a scale that is one number."""

    def __init__(self, sparse: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6, sparse=sparse)
        self.conv = nn.Conv1d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm1d(6)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.head = nn.Linear(6, 11)
        if not sparse:
            self.head.weight = self.embedding.weight

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        x = self.embedding(words).transpose(1, 2)
        x = self.norm(torch.relu(self.conv(x))).mean(2)
        return self.head(self.scale * x)


def build(seed: int = 0, sparse: bool = False) -> Everything:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Everything(sparse)


def random_mask(model: nn.Module, density: float = 0.4) -> Mask:
    """One mask per array of two or more axes; the tied ones get the same."""
    rng = np.random.default_rng(1)
    arrays = {k: v for k, v in model.state_dict().items() if v.ndim >= 2}
    mask = {name: rng.random(tuple(array.shape)) < density for name, array in arrays.items()}
    if model.state_dict()["head.weight"].data_ptr() == model.embedding.weight.data_ptr():
        mask["head.weight"] = mask["embedding.weight"]
    return mask


def pruned_values(model: nn.Module, mask: Mask) -> NDArray[np.float32]:
    arrays = model.state_dict()
    return np.concatenate([arrays[name].numpy()[~active] for name, active in mask.items()])


def steps(
    model: nn.Module, optimizer: torch.optim.Optimizer, count: int, check: Callable[[], None]
) -> None:
    rng = np.random.default_rng(2)
    for _ in range(count):
        words = torch.from_numpy(rng.integers(0, 11, (8, 5)))

        def closure(words: torch.Tensor = words) -> torch.Tensor:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(words), words[:, 0])
            loss.backward()
            return loss

        optimizer.step(closure)
        check()


OPTIMISERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.5, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.01, initial_accumulator_value=0.1),
    "adadelta": lambda p: torch.optim.Adadelta(p),
    "adamax": lambda p: torch.optim.Adamax(p),
    "nadam": lambda p: torch.optim.NAdam(p),
    "radam": lambda p: torch.optim.RAdam(p),
    "rprop": lambda p: torch.optim.Rprop(p),
    "asgd": lambda p: torch.optim.ASGD(p),
    "lbfgs": lambda p: torch.optim.LBFGS(p, 0.1, max_iter=3),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_pruned_weights_are_zero_after_every_step(name: str) -> None:
    model = build()
    mask = random_mask(model)
    optimizer = OPTIMISERS[name](model.parameters())
    # Momentum from before the mask was put on must not carry a pruned weight away from zero.
    steps(model, optimizer, 2, lambda: None)
    assert pruned_values(model, mask).any()
    before = model.conv.weight.detach().clone()

    def check() -> None:
        values = pruned_values(model, mask)
        assert values.size > 100
        assert not values.any()
        for kept in optimizer.state.get(model.conv.weight, {}).values():
            if isinstance(kept, torch.Tensor) and kept.shape == before.shape:
                assert not kept[torch.from_numpy(~mask["conv.weight"])].any()

    with masked(model, mask, optimizer):
        assert not pruned_values(model, mask).any()
        steps(model, optimizer, 4, check)
    active = torch.from_numpy(mask["conv.weight"])
    assert (model.conv.weight[active] != before[active]).float().mean() > 0.5
    steps(model, optimizer, 1, lambda: None)  # and no hook is left
    assert pruned_values(model, mask).any()


@pytest.mark.parametrize("mask", ["full", "none", "empty"])
@pytest.mark.parametrize("name", ["sgd", "adam", "lbfgs"])
def test_where_nothing_is_pruned_training_is_dense_to_the_bit(name: str, mask: str) -> None:
    models = build(), build()
    masks = {"full": random_mask(models[0], 2.0), "none": None, "empty": {}}
    for model, inside in zip(models, (False, True), strict=True):
        optimizer = OPTIMISERS[name](model.parameters())
        with masked(model, masks[mask] if inside else None, optimizer):
            steps(model, optimizer, 3, lambda: None)
    one, two = (model.state_dict() for model in models)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["conv.weight"], build().state_dict()["conv.weight"])


def test_sgd_inside_a_mask_is_sgd_on_masked_gradients() -> None:
    model, truth = build(), build()
    mask = random_mask(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with masked(model, mask, optimizer):
        steps(model, optimizer, 3, lambda: None)
    active = {name: torch.from_numpy(values) for name, values in mask.items()}
    with torch.no_grad():
        for name, parameter in truth.named_parameters():
            parameter.mul_(active.get(name, torch.ones(())))

    class Plain:
        def zero_grad(self) -> None:
            truth.zero_grad()

        def step(self, closure: Callable[[], torch.Tensor]) -> None:
            closure()
            with torch.no_grad():
                for name, p in truth.named_parameters():
                    p.sub_(0.1 * p.grad * active.get(name, torch.ones(())))

    steps(truth, Plain(), 3, lambda: None)  # type: ignore[arg-type]
    close(model, truth)


def test_sparse_gradients_of_an_embedding() -> None:
    model = build(sparse=True)
    mask = {"embedding.weight": random_mask(model)["embedding.weight"]}
    optimizer = torch.optim.SparseAdam([model.embedding.weight], 0.1)
    before = model.embedding.weight.detach().clone()
    with masked(model, mask, optimizer):
        steps(model, optimizer, 3, lambda: None)
    assert not pruned_values(model, mask).any()
    active = torch.from_numpy(mask["embedding.weight"])
    assert (model.embedding.weight[active] != before[active]).any()


def test_two_optimisers_and_none() -> None:
    model = build()
    mask = random_mask(model)
    parameters = list(model.parameters())
    one, two = (torch.optim.Adam(part, 0.1) for part in (parameters[:2], parameters[2:]))
    with masked(model, mask, one, two):
        for optimizer in (one, two):
            steps(model, optimizer, 2, lambda: None)
            assert not pruned_values(model, mask).any()
    with masked(model, mask):  # the gradients alone
        with torch.no_grad():
            model.conv.weight.add_(1.0)
        assert pruned_values(model, mask).any()
    assert not pruned_values(model, mask).any()


def test_hooks_go_when_the_block_raises() -> None:
    model = build()
    mask, optimizer = random_mask(model), torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ZeroDivisionError), masked(model, mask, optimizer):
        raise ZeroDivisionError
    steps(model, optimizer, 1, lambda: None)
    assert pruned_values(model, mask).any()


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        ({"0": np.zeros((2, 2), np.bool_)}, "no such array"),
        ({"conv.weight": np.zeros((2, 2), np.bool_)}, r"\(2, 2\), found shape \(6, 6, 3\)"),
    ],
)
def test_a_mask_of_another_model_is_refused(mask: Mask, found: str) -> None:
    with pytest.raises(ProtocolError, match=found), masked(build(), mask):
        pass
