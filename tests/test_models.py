import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from caafp_app.errors import SettingsError
from caafp_app.models import DigitsCNN, HarCNN, build_model
from caafp_app.registry import NETWORKS
from tests.tolerance import close


def count(model: nn.Module) -> tuple[int, int]:
    """Parameters, and those in arrays of two axes or more."""
    sizes = [(p.numel(), p.ndim) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, ndim in sizes if ndim >= 2)


@pytest.mark.parametrize(
    ("shape", "classes", "expected"),
    [((128, 9), 6, (89_254, 89_088)), ((200, 3), 6, (124_198, 124_032))],
    ids=["uci-har", "wisdm"],
)
def test_har_cnn_has_the_papers_parameters(
    shape: tuple[int, int], classes: int, expected: tuple[int, int]
) -> None:
    assert count(build_model("har-cnn", shape, classes, seed=1)) == expected


def as_published(model: HarCNN, windows: torch.Tensor) -> torch.Tensor:
    """The network layer by layer, as the paper lists it; dropout is off."""
    x = windows.transpose(1, 2)
    for conv in (model.conv1, model.conv2):
        x = functional.max_pool1d(functional.relu(conv(x)), 2)
    x = functional.relu(model.dense(x.flatten(1)))
    return model.head(x)


@pytest.mark.parametrize("shape", [(128, 9), (64, 6), (201, 3), (4, 1)])
def test_har_cnn_computes_what_the_paper_lists(shape: tuple[int, int]) -> None:
    model = build_model("har-cnn", shape, 5, seed=2)
    assert isinstance(model, HarCNN)
    model.eval()
    windows = torch.from_numpy(
        np.random.default_rng(0).normal(size=(7, *shape)).astype(np.float32)
    ).requires_grad_()
    ours, truth = model(windows), as_published(model, windows)
    assert ours.shape == (7, 5)
    close(ours, truth)
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32))
    gradients = [
        torch.autograd.grad((out * weights).sum(), [windows, *model.parameters()])
        for out in (ours, truth)
    ]
    for one, two in zip(*gradients, strict=True):
        close(one, two)


def test_dropout_is_on_in_training_only() -> None:
    model = build_model("har-cnn", (64, 6), 5, seed=3)
    windows = torch.ones(4, 64, 6)
    model.train()
    assert not torch.equal(model(windows), model(windows))
    model.eval()
    assert torch.equal(model(windows), model(windows))
    shares = {name: m.p for name, m in model.named_modules() if isinstance(m, nn.Dropout)}
    assert shares == {"drop_conv": 0.3, "drop_dense": 0.2}


def test_initial_weights_depend_on_the_seed_alone() -> None:
    before = torch.get_rng_state()
    first = build_model("har-cnn", (64, 6), 5, seed=4).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again = build_model("har-cnn", (64, 6), 5, seed=4).state_dict()
    other = build_model("har-cnn", (64, 6), 5, seed=5).state_dict()
    assert first.keys() == other.keys()
    for name, array in first.items():
        assert torch.equal(array, again[name])
        if array.ndim >= 2:
            assert not torch.equal(array, other[name])
        else:
            assert not array.any()  # biases start at zero
    torch.set_rng_state(before)


def test_initial_weights_are_glorot_uniform() -> None:
    model = build_model("har-cnn", (128, 9), 6, seed=6)
    assert isinstance(model, HarCNN)
    for layer, fan_in, fan_out in [
        (model.conv1, 9 * 5, 64 * 5),
        (model.dense, 64 * 32, 32),
    ]:
        bound = (6 / (fan_in + fan_out)) ** 0.5
        weights = layer.weight.detach().numpy()
        assert np.abs(weights).max() <= bound * (1 + 1e-6)
        assert np.abs(weights).max() > 0.98 * bound
        assert weights.std() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_an_unknown_model_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SettingsError, match=r"expected one of har-cnn, .* found 'har-rnn'"):
        build_model("har-rnn", (64, 6), 5, seed=0)


@pytest.mark.parametrize("path", ["math:pi", "operator:contains"])
def test_what_makes_no_network_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match="model: expected"):
        build_model(path, (64, 6), 5, seed=0)


def test_a_network_says_itself_whether_its_filters_can_be_removed() -> None:
    chains = [name for name in NETWORKS.builtin if getattr(NETWORKS[name], "chain", False)]
    assert chains == ["har-cnn", "digits-cnn"]


def test_digits_cnn_computes_what_its_docstring_says() -> None:
    model = build_model("digits-cnn", (8, 8, 1), 10, seed=1)
    assert isinstance(model, DigitsCNN)
    assert count(model) == (13_706, 13_584)
    pictures = torch.rand(5, 8, 8, 1)
    x = pictures[..., 0].unsqueeze(1)
    for conv in (model.conv1, model.conv2):
        x = functional.max_pool2d(functional.relu(conv(x)), 2)
    x = model.head(functional.relu(model.dense(x.flatten(1))))
    torch.testing.assert_close(model(pictures), x)
    assert build_model("digits-cnn", (13, 9, 3), 4, seed=1)(torch.rand(2, 13, 9, 3)).shape == (2, 4)
