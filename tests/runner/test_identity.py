"""A label goes to its key, whoever asks for it first."""

from pathlib import Path
from typing import Any

import pytest

from caafp_app.devices.keys import make_device_keys
from caafp_app.protocol.identity import read_known_devices
from caafp_app.runner.discovery import discover
from caafp_app.runner.options import Options
from caafp_app.runner.roster import Roster
from caafp_app.runner.runner import Runner
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.observer import DirectoryObserver
from tests.local_grid import LocalGrid
from tests.strategies import numpy_app
from tests.strategies.support import Recorder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("anna", "bert"):
        make_device_keys(tmp_path, name)
    return tmp_path


def world(*configs: dict[str, Any], **options: Any) -> Runner:
    nodes = [{"partition-id": k, **config} for k, config in enumerate(configs)]
    grid = LocalGrid(numpy_app.make_app(), nodes)
    return Runner(grid, Recorder(), Options(timeout=0.3, **options))


def device(folder: Path, label: str, key: str = "") -> dict[str, str]:
    return {"label": label, "key-path": str(folder / f"{key or label}.key")}


def test_known_devices_take_part_and_nobody_else(folder: Path) -> None:
    runner = world(
        device(folder, "anna"),
        device(folder, "bert", key="anna"),
        {"label": "bert"},
        device(folder, "carl", key="bert"),
        known_devices=read_known_devices(folder),
    )
    assert [client.label for client in discover(runner)] == ["anna"]
    reasons = "; ".join(runner.roster.idle.values())
    for said in ("another key", "did not sign", "no carl.pub"):
        assert said in reasons


def test_an_impostor_is_refused_while_the_device_is_away(folder: Path) -> None:
    """B7: it described itself with another's label, and locked the victim out for good."""
    runner = world(device(folder, "anna"), device(folder, "anna", key="bert"), {"label": "anna"})
    runs = RunDirectory.create(folder / "runs", strategy="caafp", dataset="none", seed=0)
    runner.observer = DirectoryObserver(runs, {})
    grid: Any = runner.grid
    first, *impostors = grid.contexts
    grid.offline.update(impostors)
    discover(runner)
    grid.offline = {first}
    assert discover(runner) == []
    assert {"another key", "did not sign"} <= {
        said
        for said in ("another key", "did not sign")
        if any(said in runner.roster.idle[node] for node in impostors)
    }
    grid.offline = set()
    discover(runner)
    assert [client.node for client in runner.roster.reachable()] == [first]
    assert (runs.path / "devices").is_dir()
    assert read_known_devices(runs.path / "devices") == {"anna": read_known_devices(folder)["anna"]}
    restored = Roster()
    restored.restore(runner.roster.state())
    assert restored.identities.state().keys() == {"anna"}
