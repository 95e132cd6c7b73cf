"""A round on devices, by the clock: one exchange of ours against the two of Flower's own loop."""

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Devices
from tests.e2e.devices import SETTINGS
from tests.e2e.variant import variant

pytestmark = pytest.mark.e2e

TURNS = 2
MOST = 0.6
"""Share of the stock round that ours may take: the aim is a half, and machines have bad days."""


def test_a_round_takes_half_of_the_stock_loop(
    devices: Devices, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both train the same epochs with the same ClientApp, and learn how good the model is."""
    module = Path(__file__).with_name("variant_rounds.py").read_text(encoding="utf-8")
    app = variant(tmp_path / "app", module, serverapp="server")
    settings = {"warmup-rounds": TURNS, "output-dir": str(tmp_path)}
    outcome = devices.fleet.flwr_run(app, SETTINGS | settings)
    assert outcome.succeeded, devices.fleet.story()
    told = json.loads((tmp_path / "rounds.json").read_text(encoding="utf-8"))
    ours, stock = told["ours"], told["stock"]
    assert [turn["replies"] for turn in ours] == [[3]] * TURNS
    assert [turn["replies"] for turn in stock] == [[3, 3]] * TURNS
    assert all(0.0 <= turn["accuracy"] <= 1.0 for turn in ours + stock)
    seconds = [sum(turn["seconds"] for turn in turns) / TURNS for turns in (ours, stock)]
    with capsys.disabled():
        print(
            f"\na round of 3 devices: {seconds[0]:.1f} s in one exchange, {seconds[1]:.1f} s in "
            f"Flower's two, share {seconds[0] / seconds[1]:.2f}; each: "
            + ", ".join(
                f"{a['seconds']:.1f} / {b['seconds']:.1f}" for a, b in zip(ours, stock, strict=True)
            )
        )
    assert seconds[0] <= MOST * seconds[1]
