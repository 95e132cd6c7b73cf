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
from tests.local_grid import LocalGrid
from tests.test_client_app import Server

ARRAYS = {"w": np.zeros((200, 100), np.float32), "b": np.zeros(50, np.float32)}
STEP = 0.5
"""What the app adds to each weight; the update's norm is STEP x sqrt(20 050)."""
NORM = STEP * np.sqrt(20_050)
DELTA = 1e-5


def noise(sensitivity: float, epsilon: float) -> float:
    """Standard deviation of the Gaussian mechanism (Dwork and Roth, 2014, theorem A.1)."""
    return float(sensitivity * np.sqrt(2 * np.log(1.25 / DELTA)) / epsilon)


def stepping(mod: Any) -> LocalGrid:
    """One device whose app moves every weight by STEP, as one that knows no masks would."""
    app = ClientApp(mods=[sparse_mod])

    @app.train(mods=[mod])
    def train(message: Message, context: Context) -> Message:
        model = message.content["arrays"].to_numpy_ndarrays()
        names = list(message.content["arrays"])
        moved = ArrayRecord({k: Array(v + STEP) for k, v in zip(names, model, strict=True)})
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"arrays": moved, "metrics": metrics}), reply_to=message)

    return LocalGrid(app, [{"label": "a"}])


def update(
    grid: LocalGrid, density: float = 0.5, action: Action = Action.TRAIN
) -> tuple[dict[str, np.ndarray], Mask]:
    """Let it answer one request for a pruned model."""
    layout = Layout.of(ARRAYS)
    mask = Mask(layout, np.random.default_rng(0).random(layout.weight_count) < density)
    request = Request(
        action,
        round=1,
        phase="prune",
        mask_digest=mask.digest,
        layout=layout.to_json(),
        mask=mask.packed,
        arrays=pack_model(layout.flatten(ARRAYS), mask, "float32", "float32"),
    )
    (node,) = grid.contexts
    (reply,) = grid.send_and_receive([Message(request.to_records(), node, MessageType.TRAIN)])
    assert not reply.has_error(), reply.error.reason
    return dict(Answer.from_records(reply.content).arrays), mask


@pytest.mark.parametrize("clip", [1.0, 2 * NORM])
def test_the_update_is_clipped_before_it_is_packed(clip: float) -> None:
    arrays, mask = update(stepping(LocalDpMod(clip, 0.0, 1.0, DELTA)))
    assert arrays["values"].shape == (mask.count,)
    expected = STEP * min(1.0, clip / NORM)
    np.testing.assert_allclose(arrays["values"], expected, rtol=1e-4)
    np.testing.assert_allclose(arrays["rest"], expected, rtol=1e-4)


def test_what_is_sent_carries_the_noise_and_nothing_else_does() -> None:
    dp = LocalDpMod(1e-6, 1.0, 10.0, DELTA)  # clipped to next to nothing: noise alone
    arrays, mask = update(stepping(dp))
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
    grid = stepping(example["noise_on_what_leaves"])
    sent, _ = update(grid, 1.0)
    assert sent["values"].std() > 1
    update(grid, 1.0, Action.PERSONALISE)
    (context,) = grid.contexts.values()
    kept = kept_arrays(context, PERSONAL)
    assert all((kept[name] == STEP).all() for name in ARRAYS)


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
