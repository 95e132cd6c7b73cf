import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch.nn import functional

from caafp_app.training import Score, dump_arrays, evaluate, full_gradient, load_arrays
from caafp_app.training.evaluation import EVALUATION_BATCH
from tests.tolerance import close
from tests.training.support import Small, data, masks_of


@pytest.mark.parametrize("n", [1, EVALUATION_BATCH, 2500])
def test_evaluation_equals_numpys(n: int) -> None:
    x, y = data(n)
    model = Small()
    model.train()
    score = evaluate(model, x, y)
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(x)).double().numpy()
    logits -= logits.max(1, keepdims=True)
    loss = -(logits - np.log(np.exp(logits).sum(1, keepdims=True)))[np.arange(n), y].mean()
    assert score.examples == n
    assert score.accuracy == (logits.argmax(1) == y).mean()
    assert score.loss == pytest.approx(loss, rel=1e-5)
    truth = f1_score(y, logits.argmax(1), average="macro", zero_division=0.0)
    assert score.f1 == pytest.approx(truth, rel=1e-12)


def test_no_windows_give_no_score() -> None:
    x, y = data(4)
    score = evaluate(Small(), x[:0], y[:0])
    assert score.examples == 0
    assert np.isnan(score.accuracy)
    assert np.isnan(score.loss)
    assert np.isnan(score.f1)
    assert Score(0.5, 1.0, 2) != score


@pytest.mark.parametrize("n", [5, 2500])
def test_the_full_gradient_is_autograds_at_pruned_weights_too(n: int) -> None:
    x, y = data(n)
    model, twin = Small(), Small()
    mask = masks_of(model)
    for m in (model, twin):
        load_arrays(m, {k: a * mask.get(k, True) for k, a in dump_arrays(Small()).items()})
    before = dump_arrays(model)
    model.train()
    full_gradient(model, x, y)
    found = full_gradient(model, x, y)  # from zero, whatever was there
    twin.eval()
    loss = functional.cross_entropy(twin(torch.from_numpy(x)), torch.from_numpy(y))
    truth = torch.autograd.grad(loss, list(twin.parameters()))
    assert list(found) == [name for name, _ in twin.named_parameters()]
    for array, gradient in zip(found.values(), truth, strict=True):
        assert array.dtype == np.float32
        close(array, gradient)
    for name, bits in mask.items():
        assert np.count_nonzero(found[name][~bits]) > 0.5 * np.count_nonzero(~bits)
    after = dump_arrays(model)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
