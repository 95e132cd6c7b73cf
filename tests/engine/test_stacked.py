"""A stack of clients against `caafp_app.training`, client by client."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from caafp_app import training
from caafp_app.client.tasks import (
    Evaluate,
    Fit,
    Gradient,
    HowLong,
    Network,
    Task,
    network_on,
    perform,
)
from caafp_app.engine import perform as engine
from caafp_app.engine.perform import Together
from caafp_app.models import build_model
from caafp_app.training import LocalTraining

NETWORKS = {
    "har-cnn": (16, 6),
    "digits-cnn": (8, 8, 1),
    "deep-conv-lstm": (20, 3),
    "transformer": (16, 6),
    "sensor-fusion": (16, 6),
}
SIZES = (5, 8, 1, 13, 7, 16, 9, 2, 11, 12)
CLASSES = 4


@pytest.fixture(autouse=True)
def without_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn for a stack cannot be drawn client by client."""

    def built(*args: object, **kwargs: object) -> torch.nn.Module:
        model = build_model(*args, **kwargs)  # type: ignore[arg-type]
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout | torch.nn.LSTM):
                setattr(module, "p" if isinstance(module, torch.nn.Dropout) else "dropout", 0.0)
            if isinstance(module, torch.nn.MultiheadAttention):
                module.dropout = 0.0
        return model

    network_on.cache_clear()
    monkeypatch.setattr("caafp_app.client.tasks.build_model", built)


def fits(name: str, how: LocalTraining, *, masked: bool = True, sizes=SIZES) -> list[Fit]:
    """Make one training for each size, each of another model, mask, seed and data."""
    shape = NETWORKS.get(name, (16, 6))
    made = []
    for client, size in enumerate(sizes):
        rng = np.random.default_rng(client)
        arrays = training.dump_arrays(build_model(name, shape, CLASSES, seed=client))
        mask = {k: rng.random(a.shape) < 0.5 for k, a in arrays.items() if a.ndim > 1}
        made.append(
            Fit(
                Network(name, shape, CLASSES),
                arrays,
                rng.normal(size=(size, *shape)).astype(np.float32),
                rng.integers(0, CLASSES, size),
                replace(how, seed=100 + client),
                mask if masked and client % 3 else None,
                training.dump_arrays(build_model(name, shape, CLASSES, seed=50 + client)),
            )
        )
    return made


def assert_equal(together: Sequence[object], alone: Sequence[object], atol: float = 1e-5) -> None:
    for ours, truth in zip(together, alone, strict=True):
        assert not isinstance(ours, Exception), ours
        if isinstance(truth, dict):
            pairs = [(ours[name], truth[name]) for name in truth]
        elif isinstance(truth, training.Score):
            pairs = [(getattr(ours, of), getattr(truth, of)) for of in ("accuracy", "loss", "f1")]
        else:
            pairs = [(ours.loss, truth.loss)]
            pairs += [(ours.arrays[name], truth.arrays[name]) for name in truth.arrays]
        for found, expected in pairs:
            np.testing.assert_allclose(found, expected, atol=atol, rtol=1e-5)


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all stacks that are made."""
    sizes: list[int] = []

    def counted(function: Callable) -> Callable:
        def count(model, tasks, on_device):
            sizes.append(len(tasks))
            return function(model, tasks, on_device)

        return count

    monkeypatch.setattr(
        engine, "STACKED", {kind: counted(do) for kind, do in engine.STACKED.items()}
    )
    return sizes


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_of_ten_clients_of_different_sizes_and_masks_equals_one_after_another(
    name: str, stacks: list[int]
) -> None:
    tasks = fits(name, LocalTraining(epochs=1, batch_size=16, learning_rate=1e-3))
    together, alone = Together("cpu")(tasks), [perform(task, "cpu") for task in tasks]
    assert stacks == [10]
    clear = weights = 0
    for ours, truth, task in zip(together, alone, tasks, strict=True):
        assert not isinstance(ours, Exception), ours
        np.testing.assert_allclose(ours.loss, truth.loss, atol=1e-5)
        for name_, slope in gradient_of(task).items():
            # Adam's first step divides a gradient by its own size, so that where it is no more than
            # rounding (a key's bias in attention has none at all), so is the direction of the step.
            large = np.abs(slope) > 1e-5
            difference = np.abs(ours.arrays[name_] - truth.arrays[name_])
            assert difference[large].max(initial=0) < 1e-5, name_
            assert difference.max() < 2.1e-3, name_
            clear, weights = clear + int(large.sum()), weights + int((slope != 0).sum())
    assert clear > 0.3 * weights  # of most networks 0.8; deep-conv-lstm's gradients are small


def inside(task: Fit) -> dict[str, np.ndarray]:
    """The model to train, zero where a weight is pruned."""
    mask = task.mask or {}
    return {name: array * mask.get(name, True) for name, array in task.arrays.items()}


def gradient_of(task: Fit) -> dict[str, np.ndarray]:
    """The gradient at the start, zero where a weight is pruned."""
    mask = task.mask or {}
    found = perform(Gradient(task.network, inside(task), task.windows, task.classes), "cpu")
    return {name: slope * mask.get(name, 1) for name, slope in found.items()}


def test_each_client_of_a_stack_stops_where_it_would_alone(stacks: list[int]) -> None:
    how = LocalTraining(epochs=12, batch_size=4, learning_rate=3e-3)
    rng = np.random.default_rng(0)
    tasks = [
        HowLong(
            **{**vars(fit), "arrays": inside(fit)},
            held=(
                rng.normal(size=(6, *NETWORKS["digits-cnn"])).astype(np.float32) + fit.windows[:1],
                np.repeat(fit.classes[:2], 3) if len(fit.classes) > 1 else fit.classes.repeat(6),
            ),
        )
        for fit in fits("digits-cnn", how)
    ]
    together, alone = Together("cpu")(tasks), [perform(task, "cpu") for task in tasks]
    assert stacks == [10]
    assert [found.epochs for found in together] == [found.epochs for found in alone]
    assert len({found.epochs for found in alone}) > 2
    for ours, truth in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours.score.loss, truth.score.loss, rtol=1e-4)


def test_clients_of_a_stack_may_train_for_different_times(stacks: list[int]) -> None:
    tasks = [
        replace(task, how=replace(task.how, epochs=1 + number % 3))
        for number, task in enumerate(fits("digits-cnn", LocalTraining(epochs=1, batch_size=4)))
    ]
    together, alone = Together("cpu")(tasks), [perform(task, "cpu") for task in tasks]
    assert stacks == [10]
    assert_equal(together, alone, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "prunadag"])
def test_epochs_of_several_steps_follow_the_same_order_of_windows(
    stacks: list[int], optimizer: str
) -> None:
    how = LocalTraining(3, batch_size=4, proximal=0.5, optimizer=optimizer, density=0.4)
    tasks = fits("har-cnn", how)
    alone = [perform(task, "cpu") for task in tasks]
    assert_equal(Together("cpu")(tasks), alone, atol=2e-4)
    assert stacks == [10]
    shuffled = [replace(task, how=replace(task.how, seed=1)) for task in tasks]
    with pytest.raises(AssertionError):
        assert_equal(Together("cpu")(shuffled), alone, atol=2e-4)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", [Evaluate, Gradient])
def test_scores_and_gradients_equal_those_one_after_another(
    name: str, kind: type, stacks: list[int]
) -> None:
    tasks: list[Task] = [
        kind(t.network, t.arrays, t.windows, t.classes) for t in fits(name, LocalTraining(epochs=1))
    ]
    assert_equal(Together("cpu")(tasks), [perform(task, "cpu") for task in tasks])
    assert stacks == [10]


def test_a_client_without_held_out_windows_has_no_score() -> None:
    tasks = fits("har-cnn", LocalTraining(epochs=1), sizes=(9, 9, 9))
    tasks = [
        Evaluate(t.network, t.arrays, t.windows[:size], t.classes[:size])
        for t, size in zip(tasks, (0, 9, 0), strict=True)
    ]
    assert_equal(Together("cpu")(tasks), [perform(task, "cpu") for task in tasks])


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_weighs_nothing(name: str) -> None:
    """A client's result is the same beside longer clients, whatever those are trained on."""
    tasks = fits(name, LocalTraining(epochs=2, batch_size=4), sizes=(5, 16))
    loud = replace(tasks[1], windows=100 * tasks[1].windows)
    beside, other = (Together("cpu")([tasks[0], long])[0] for long in (tasks[1], loud))
    (alone,) = Together("cpu")(tasks[:1])
    for name_, array in beside.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name_])
        if not name_.endswith("in_proj_bias"):  # a key's bias has no gradient but rounding
            np.testing.assert_allclose(array, alone.arrays[name_], atol=2e-4)


def test_stacks_are_as_large_as_memory_allows(
    stacks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = fits("har-cnn", LocalTraining(epochs=1, batch_size=16))
    whole = Together("cpu")(tasks)
    monkeypatch.setattr("caafp_app.engine.perform.clients_at_once", lambda *args: 4)
    assert_equal(Together("cpu")(tasks), whole)
    assert stacks == [10, 4, 4, 2]


def test_batch_norm_is_trained_one_after_another_and_the_log_says_so(
    stacks: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    (task,) = fits("resnet1d", LocalTraining(epochs=1, batch_size=4), sizes=(6,))
    assert_equal(Together("cpu")([task, task]), [perform(task, "cpu")] * 2)
    assert stacks == []
    assert "one after another" in caplog.text


def test_one_client_with_arrays_of_another_network_fails_alone() -> None:
    good, bad = fits("har-cnn", LocalTraining(epochs=1), sizes=(5, 6))
    bad = replace(bad, arrays={**bad.arrays, "head.bias": np.zeros(9, np.float32)})
    first, second = Together("cpu")([bad, good])
    assert isinstance(first, Exception)
    assert "head.bias" in str(first)
    assert_equal([second], [perform(good, "cpu")])


def test_dropout_is_drawn_anew_for_each_client_and_step_and_from_the_seeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("caafp_app.client.tasks.build_model", build_model)
    network_on.cache_clear()
    (task,) = fits("har-cnn", LocalTraining(epochs=1, batch_size=16), masked=False, sizes=(9,))
    first, second = Together("cpu")([task, task])
    assert not np.array_equal(first.arrays["dense.weight"], second.arrays["dense.weight"])
    assert_equal(Together("cpu")([task, task]), [first, second])
