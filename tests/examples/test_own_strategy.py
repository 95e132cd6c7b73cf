"""The strategy of `examples/own-strategy`: its rule against numpy, and a row in a bench's table."""

import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from numpy.typing import NDArray
from typer.testing import CliRunner

from caafp_app import cli
from caafp_app.bench import write
from caafp_app.runner.roster import Client, generator, sample
from caafp_app.runs.checkpoint import Saved
from caafp_app.strategies.factory import find_class
from tests.local_grid import LocalGrid, Tamper
from tests.strategies import numpy_app
from tests.strategies.support import Recorder, Snapshots, nodes
from tests.tolerance import close

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own-strategy"
PATH = "fedavgm:FedAvgM"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the folder on the path, here and in processes that are started."""
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLE), *sys.path[1:]]))
    yield
    sys.modules.pop("fedavgm", None)


def reference(rounds: int, clients: int, per_round: int, seed: int) -> list[NDArray[Any]]:
    """FedAvg's mean of the sampled clients, and momentum on what it changes."""
    model = [part.astype(float) for part in numpy_app.initial().to_numpy_ndarrays()]
    velocity = [np.zeros_like(part) for part in model]
    everyone = [Client(f"part-{k:04d}", k) for k in range(clients)]
    for number in range(1, rounds + 1):
        drawn = sample(everyone, per_round, generator(seed, number, "sample"))
        start = [part.astype(np.float32) for part in model]
        mean = numpy_app.averaged((client.node for client in drawn), start)
        velocity = [0.5 * v + m - w for v, m, w in zip(velocity, mean, model, strict=True)]
        model = [w + v for w, v in zip(model, velocity, strict=True)]
    return model


def start(
    seen: Recorder,
    rounds: int = 4,
    resume: Saved | None = None,
    tamper: Tamper | None = None,
    **more: Any,
) -> list[Any]:
    strategy = find_class(PATH)(clients_per_round=3, seed=4, observer=seen, spare_below=0, **more)
    grid = LocalGrid(numpy_app.make_app(), nodes(5), serialise=False, tamper=tamper)
    result = strategy.start(grid, numpy_app.initial(), rounds, timeout=0.2, resume=resume)
    return result.arrays.to_numpy_ndarrays()


def test_it_is_federated_averaging_with_momentum() -> None:
    seen = Recorder()
    for array, right in zip(start(seen), reference(4, 5, 3, seed=4), strict=True):
        close(array, right, np.float32)
    assert seen.facts["server momentum"] == "0.5"


def test_without_replies_it_rests_where_it_is() -> None:
    def silent(request: Message, reply: Message) -> Message | None:
        return None if reply.content.config_records["caafp"]["round"] == 2 else reply

    kept = Snapshots()
    start(Recorder(), 3, checkpoints=kept, tamper=silent)
    velocities = [kept.states[n]["method"]["velocity"]["values"] for n in (1, 2, 3)]
    assert velocities[0].any()
    np.testing.assert_array_equal(velocities[0], velocities[1])
    assert (velocities[1] != velocities[2]).any()
    assert kept.bits(1) == kept.bits(2) != kept.bits(3)


def test_resumed_it_ends_with_the_same_bits() -> None:
    kept, again = Snapshots(), Snapshots()
    whole = start(Recorder(), checkpoints=kept)
    resumed = start(Recorder(), resume=Saved(2, kept.states[2]), checkpoints=again)
    for one, two in zip(whole, resumed, strict=True):
        assert one.tobytes() == two.tobytes()
    for name in ("values", "rest"):
        one, two = (
            states[4]["method"]["velocity"][name].tobytes()
            for states in (kept.states, again.states)
        )
        assert one == two


@pytest.mark.e2e
def test_it_has_a_row_in_the_table_beside_fedavg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "OF_A_RUN", {})  # drawing takes its time
    fewer = ["engine=batched", "seed=3", "synthetic-users=4"]
    fewer += ["warmup-rounds=1", "cluster-rounds=1", "prune-rounds=2"]
    only = ["--only", "fedavg", "--only", "fedavgm"]
    arguments = ["bench", EXAMPLE / "bench.toml", "--in-process", "--jobs", 2, *only, *fewer]
    done = CliRunner().invoke(cli.app, [*map(str, arguments), "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "| fedavg | 1 |" in done.output
    assert "| fedavgm | 1 |" in done.output
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert rows["fedavgm"]["strategy"] == PATH
    assert rows["fedavgm"]["rounds"] == rows["fedavg"]["rounds"] == "4"
    # Other weights, of the same size.
    assert rows["fedavgm"]["cluster-accuracy"] != rows["fedavg"]["cluster-accuracy"]
    mb_up = [float(rows[name]["mb-up"]) for name in ("fedavgm", "fedavg")]
    assert mb_up[0] == pytest.approx(mb_up[1], rel=1e-4)  # metrics have digits of their own
