"""Bytes: what the ledger says, against what really went over the wire."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caafp_app.runs.summary import build_summary
from caafp_app.settings import Settings
from tests.local_grid import Passage
from tests.strategies.support import Run, prepare, run

WINDOW, CLASSES, USERS = (128, 9), 6, 4


def counted(passages: list[Passage]) -> dict[str, int]:
    return {
        direction: sum(p.nbytes for p in passages if p.direction == direction)
        for direction in ("down", "up")
    }


@pytest.mark.parametrize(
    "changes",
    [{"evaluate-every": 4}, {"up-dtype": "int8", "down-dtype": "float16", "rest-dtype": "float16"}],
    ids=["exact", "lossy"],
)
def test_the_ledger_counts_every_byte_of_every_message(changes: Mapping[str, Any]) -> None:
    # Whatever happens on the way: a lost state, a refused reply.
    setup = prepare(changes)

    def forget() -> None:
        next(iter(setup.grid.contexts.values())).state.clear()

    def spoil(request: Any, reply: Any) -> Any:
        header = reply.content.config_records["caafp"] if reply.has_content() else {}
        if header.get("round") == 4 and header.get("label") == "user-01":
            reply.content.metric_records["metrics"]["num-examples"] = -1
        return reply

    setup.seen.at[3, "prune"] = forget
    setup.grid.tamper = spoil
    done = setup.start()
    sent = counted(done.grid.passages)

    report = done.seen.report
    bytes_ = build_summary(report, settings=done.settings.to_dict(), rounds=8)["bytes"]
    assert {"down": bytes_["down"], "up": bytes_["up"]} == sent
    assert bytes_["total"] == sum(sent.values()) > 1_000_000
    assert sum(bytes_["messages"].values()) == len(done.grid.passages)
    by_kind = bytes_["by_kind"]
    assert {d: sum(kinds.values()) for d, kinds in by_kind.items()} == sent
    assert {"values", "rest", "mask", "layout", "header", "envelope"} <= set(by_kind["down"])
    assert {"values", "rest", "gradient-index", "gradient-value", "metrics"} <= set(by_kind["up"])

    described = [p for p in done.grid.passages if p.header.get("action") == "describe"]
    recorded = sum(r.bytes_down + r.bytes_up for r in done.seen.rounds)
    assert recorded == bytes_["total"] - sum(p.nbytes for p in described)


def random_windows(folder: Path) -> str:
    """Data of the shape of UCI HAR; what is in it does not matter here."""
    rng = np.random.default_rng(0)
    n = 10 * USERS
    path = folder / "windows.npz"
    np.savez(
        path,
        X=rng.normal(size=(n, *WINDOW)).astype(np.float32),
        y=np.arange(n) % CLASSES,
        user=np.arange(n) // 10,
        label_names=np.array([f"class {k}" for k in range(CLASSES)]),
    )
    return str(path)


UCI_SIZE = {
    "dataset": "npz",
    "warmup-rounds": 1,
    "cluster-rounds": 1,
    "prune-rounds": 5,
    "prune-every": 2,
    "clients-per-round": 3,
    "clusters": 1,
    "regrow": 0.05,
    "finetune-epochs": 0,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"data-dir": random_windows(tmp_path_factory.mktemp("uci-size"))}


@pytest.fixture(scope="module")
def dense(data: dict[str, str]) -> Run:
    """The dense run that shares are taken of."""
    return run({**UCI_SIZE, **data, "sparsity": 0.0}, count=USERS)


def training(done: Run, direction: str) -> list[Passage]:
    return [
        passage
        for passage in done.grid.passages
        if passage.direction == direction and "values" in passage.arrays
    ]


@pytest.mark.parametrize("initial", [0.7, 0.0], ids=["sparse-from-the-start", "one-shot"])
def test_sparse_rounds_take_the_share_that_the_density_says(
    data: dict[str, str], dense: Run, initial: float
) -> None:
    """Density .3: 0.34 of dense with the mask, 0.31 without, gradients apart."""
    changes = {"sparsity": 0.7, "schedule": "one-shot", "initial-sparsity": initial}
    sparse = run({**UCI_SIZE, **data, **changes}, count=USERS)
    assert sum(array.numpy().size for array in sparse.result.arrays.values()) == 89_254
    whole = 89_254 * 4  # the values alone; a dense message is little more
    for direction in ("down", "up"):
        assert whole < min(p.nbytes for p in training(dense, direction)) < 1.006 * whole

    shares: dict[str, list[float]] = {"mask": [], "plain": [], "up": [], "gradient": []}
    for passage in training(sparse, "down"):
        if passage.arrays["values"] > 0.5 * whole:
            continue  # a dense round, before the one shot
        kind = "mask" if "mask" in passage.arrays else "plain"
        shares[kind].append(passage.nbytes / whole)
    for passage in training(sparse, "up"):
        if passage.arrays["values"] > 0.5 * whole:
            continue
        kind = "gradient" if "gradient-value" in passage.arrays else "up"
        shares[kind].append(passage.nbytes / whole)

    assert all(len(found) >= 3 for found in shares.values()), shares
    assert max(shares["mask"]) <= 0.34
    assert max(shares["plain"]) <= 0.31
    assert max(shares["up"]) <= 0.31
    assert min(min(found) for found in shares.values()) > 0.299
    # A gradient is 5 % of the active weights: two bytes of value and about one of position.
    assert max(shares["gradient"]) <= 0.33
    if initial:  # once in full, to each client; then what changed
        sizes = sorted({p.arrays["mask"] for p in training(sparse, "down") if "mask" in p.arrays})
        full = -(-89_088 // 8)
        assert sizes[-1] == full
        assert len(sizes) > 1
        assert sizes[-2] < full / 2


def test_the_formula_is_the_papers(dense: Run) -> None:
    report = dense.seen.report
    assert isinstance(dense.settings, Settings)
    # 7 rounds of 3 clients, down and up; clustering and personalising are left out by the papers.
    assert report.ledger.formula_total == 89_254 * 4 * 2 * 3 * 7
