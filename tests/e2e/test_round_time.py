"""A round on devices, by the clock: ours against the two exchanges of Flower's own loop."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Devices
from tests.e2e.devices import SETTINGS, write_devices
from tests.e2e.fleet import Fleet, fleet
from tests.e2e.variant import variant

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TURNS = 2
MOST_COLD, MOST_WARM = 0.6, 0.3
"""Shares of the stock round on stock devices that ours may take: the aims are a half and a fifth,
and machines have bad days."""


def turns(running: Fleet, folder: Path) -> dict[str, float]:
    """Run both loops by turns on some devices; return the mean seconds of a round of each."""
    folder.mkdir()
    module = Path(__file__).with_name("variant_rounds.py").read_text(encoding="utf-8")
    app = variant(folder / "app", module, serverapp="server")
    settings = {"warmup-rounds": TURNS, "output-dir": str(folder)}
    outcome = running.flwr_run(app, SETTINGS | settings)
    assert outcome.succeeded, running.story()
    told: dict[str, list[dict[str, Any]]]
    told = json.loads((folder / "rounds.json").read_text(encoding="utf-8"))
    assert [turn["replies"] for turn in told["ours"]] == [[3]] * TURNS
    assert [turn["replies"] for turn in told["stock"]] == [[3, 3]] * TURNS
    assert all(0.0 <= turn["accuracy"] <= 1.0 for turn in told["ours"] + told["stock"])
    return {name: sum(turn["seconds"] for turn in told[name]) / TURNS for name in told}


def test_a_round_takes_half_of_the_stock_loop_and_a_fifth_on_warm_devices(
    devices: Devices, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All train the same epochs with the same ClientApp, and learn how good the model is."""
    cold = turns(devices.fleet, tmp_path / "cold")
    (tmp_path / "data").mkdir()
    nodes = [{"data-path": str(path)} for path in write_devices(tmp_path / "data")]
    with fleet(tmp_path / "fleet", nodes, warm=True) as running:
        for node in running.supernodes:
            node.await_line("tasks are forked")
        warm = turns(running, tmp_path / "warm")
    with capsys.disabled():
        print(
            f"\na round of 3 devices: stock loop on stock devices {cold['stock']:.1f} s; ours "
            f"there {cold['ours']:.1f} s, share {cold['ours'] / cold['stock']:.2f}; ours on warm "
            f"devices {warm['ours']:.1f} s, share {warm['ours'] / cold['stock']:.2f}; the stock "
            f"loop there {warm['stock']:.1f} s"
        )
    assert cold["ours"] <= MOST_COLD * cold["stock"]
    assert warm["ours"] <= MOST_WARM * cold["stock"]
