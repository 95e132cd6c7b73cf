"""Flower's own local differential privacy behind `sparse_mod`: docs/privacy.md says how.

``ClientApp(mods=[sparse_mod])`` and ``@app.train(mods=[LocalDpMod(...)])``: the outer one hands the
inner one a dense model, and masks what comes back, noise and all.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod

from caafp_app import client_app, sparse_mod
from caafp_app.protocol.held import kept_arrays
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Answer, Request
from caafp_app.protocol.mod import SparseMod
from caafp_app.protocol.packing import pack_model
from caafp_app.protocol.trained import PERSONAL
from caafp_app.strategies import CAAFP, Clustering, Pruning
from caafp_app.strategies.report import ClusteredResult
from tests.local_grid import LocalGrid
from tests.strategies import numpy_app
from tests.test_client_app import Server

ARRAYS = {"w": np.zeros((200, 100), np.float32), "b": np.zeros(50, np.float32)}
STEP = 0.5
"""What the app adds to each weight; the update's norm is STEP x sqrt(20 050)."""
NORM = STEP * np.sqrt(20_050)
DELTA = 1e-5


def noise(sensitivity: float, epsilon: float) -> float:
    """Standard deviation of the Gaussian mechanism (Dwork and Roth, 2014, theorem A.1)."""
    return float(sensitivity * np.sqrt(2 * np.log(1.25 / DELTA)) / epsilon)


def stepping(dp: LocalDpMod) -> ClientApp:
    """An app that moves every weight by STEP, as one that knows no masks would."""
    app = ClientApp(mods=[sparse_mod])

    @app.train(mods=[dp])
    def train(message: Message, context: Context) -> Message:
        model = message.content["arrays"].to_numpy_ndarrays()
        names = list(message.content["arrays"])
        moved = ArrayRecord({k: Array(v + STEP) for k, v in zip(names, model, strict=True)})
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"arrays": moved, "metrics": metrics}), reply_to=message)

    return app


def update(dp: LocalDpMod) -> tuple[dict[str, np.ndarray], Mask]:
    """Let it answer one request for a half-pruned model."""
    layout = Layout.of(ARRAYS)
    mask = Mask(layout, np.random.default_rng(0).random(layout.weight_count) < 0.5)
    request = Request(
        Action.TRAIN,
        round=1,
        phase="prune",
        mask_digest=mask.digest,
        layout=layout.to_json(),
        mask=mask.packed,
        arrays=pack_model(layout.flatten(ARRAYS), mask, "float32", "float32"),
    )
    grid = LocalGrid(stepping(dp), [{"label": "a"}])
    (node,) = grid.contexts
    (reply,) = grid.send_and_receive([Message(request.to_records(), node, MessageType.TRAIN)])
    assert not reply.has_error(), reply.error.reason
    return dict(Answer.from_records(reply.content).arrays), mask


@pytest.mark.parametrize("clip", [1.0, 2 * NORM])
def test_the_update_is_clipped_before_it_is_packed(clip: float) -> None:
    arrays, mask = update(LocalDpMod(clip, 0.0, 1.0, DELTA))
    assert arrays["values"].shape == (mask.count,)
    expected = STEP * min(1.0, clip / NORM)
    np.testing.assert_allclose(arrays["values"], expected, rtol=1e-4)
    np.testing.assert_allclose(arrays["rest"], expected, rtol=1e-4)


def test_what_is_sent_carries_the_noise_and_nothing_else_does() -> None:
    dp = LocalDpMod(1e-6, 1.0, 10.0, DELTA)  # clipped to next to nothing: noise alone
    arrays, mask = update(dp)
    assert arrays["values"].shape == (mask.count,)
    assert arrays["values"].std() == pytest.approx(noise(1.0, 10.0), rel=0.05)
    assert abs(arrays["values"].mean()) < 5 * noise(1.0, 10.0) / np.sqrt(mask.count)
    assert arrays["rest"].std() == pytest.approx(noise(1.0, 10.0), rel=0.5)


def test_the_personal_model_which_stays_gets_no_noise() -> None:
    """The example of docs/privacy.md: noise on what leaves, none on what does not."""
    page = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text(encoding="utf-8")
    code = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)[0]
    example: dict[str, Any] = {}
    exec(code.replace("def train(message, context): ...", "def unused(m, c): ..."), example)
    app = ClientApp(mods=[sparse_mod])

    @app.train(mods=[example["noise_on_what_leaves"]])
    def train(message: Message, context: Context) -> Message:
        names = list(message.content["arrays"])
        model = message.content["arrays"].to_numpy_ndarrays()
        moved = ArrayRecord({k: Array(v + STEP) for k, v in zip(names, model, strict=True)})
        content = RecordDict({"arrays": moved, "metrics": MetricRecord({"num-examples": 1})})
        return Message(content, reply_to=message)

    layout = Layout.of(ARRAYS)
    mask = Mask.full(layout)
    arrays = pack_model(layout.flatten(ARRAYS), mask, "float32", "float32")
    grid = LocalGrid(app, [{"label": "a"}])
    ((node, context),) = grid.contexts.items()
    for action in (Action.TRAIN, Action.PERSONALISE):
        request = Request(
            action, round=1, mask_digest=mask.digest, layout=layout.to_json(), arrays=arrays
        )
        (reply,) = grid.send_and_receive([Message(request.to_records(), node, MessageType.TRAIN)])
        assert not reply.has_error(), reply.error.reason
        if action is Action.TRAIN:
            sent = Answer.from_records(reply.content).arrays
            assert sent["values"].std() > 1
    kept = kept_arrays(context, PERSONAL)
    assert all((kept[name] == STEP).all() for name in ARRAYS)


def somebody_elses(dp: LocalDpMod | None) -> ClientApp:
    """The numpy project of the other tests, with the mod where it trains and nowhere else."""
    app = ClientApp(mods=[sparse_mod])
    plain = numpy_app.make_app(mods=[])

    @app.train(mods=[] if dp is None else [dp])
    def train(message: Message, context: Context) -> Message:
        return plain(message, context)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return plain(message, context)

    return app


def test_a_whole_run_of_somebody_elses_app_with_both_mods() -> None:
    def run(dp: LocalDpMod | None) -> ClusteredResult:
        parts = [{"partition-id": k, "num-partitions": 6} for k in range(6)]
        strategy = CAAFP(
            fraction_train=1.0,
            spare_below=0,
            seed=1,
            clustering=Clustering(clusters=2),
            pruning=Pruning(sparsity=0.5, every=2),
        )
        grid = LocalGrid(somebody_elses(dp), parts)
        return strategy.start(grid, numpy_app.initial(), num_rounds=8)

    plain, private = run(None), run(LocalDpMod(5.0, 0.05, 10.0, DELTA))
    for result in (plain, private):
        members = [label for cluster in result.clusters.values() for label in cluster.members]
        assert sorted(members) == [f"part-{k:04d}" for k in range(6)]
        assert all(c.density == pytest.approx(0.5, abs=0.03) for c in result.clusters.values())
    before, after = (
        next(iter(result.clusters.values())).arrays.to_numpy_ndarrays()[-1]
        for result in (plain, private)
    )
    assert not np.array_equal(before, after)


def test_our_own_app_has_to_do_without_gradients() -> None:
    """It sends them as a second ArrayRecord, which the mod refuses rather than let pass bare."""

    def ask(**kwargs: Any) -> Message:
        server = Server(density=0.5)
        app = ClientApp(mods=[SparseMod(client_app.describe)])
        dp = LocalDpMod(1.0, 0.01, 10.0, DELTA)
        app.train(mods=[dp])(client_app.train)
        server.grid.app = app
        return server.ask(Action.TRAIN, **kwargs)

    assert not ask().has_error()
    refused = ask(gradient_counts=(1, 1, 1, 1))
    assert "exactly one ArrayRecord" in refused.error.reason
