"""A strategy by its import path: what is made of it, and what is said where nothing can be."""

import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import pytest

from caafp_app.bench.file import read_bench
from caafp_app.client_app import app
from caafp_app.errors import SettingsError
from caafp_app.launch.beforehand import check_simulation
from caafp_app.launch.plan import placed
from caafp_app.runs.observer import Observer
from caafp_app.server_app import run
from caafp_app.settings import Settings
from caafp_app.strategies import CAAFP
from caafp_app.strategies.factory import check_strategy, make_strategy
from tests.local_grid import LocalGrid
from tests.strategies.support import TINY, nodes

HEAD = "from caafp_app.strategies import FedAvg, MethodStrategy\n"
Write = Callable[[str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write the module `plugged_here`, which is gone after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda body: (tmp_path / "plugged_here.py").write_text(HEAD + body, encoding="utf-8")
    sys.modules.pop("plugged_here", None)


def settings(name: str, **more: object) -> Settings:
    return Settings.from_run_config({"strategy": name, "seed": 9, "clients-per-round": 3, **more})


def test_a_class_is_called_with_what_all_strategies_share(write: Write) -> None:
    write("class Mine(FedAvg): pass\n")
    observer = Observer()
    made = make_strategy(settings("plugged_here:Mine"), observer)
    assert type(made).__name__ == "Mine"
    assert (made.seed, made.clients_per_round, made.observer) == (9, 3, observer)
    assert made.one_exchange


def test_arguments_are_the_fields_of_a_dataclass(write: Write) -> None:
    write(
        "from dataclasses import dataclass\n"
        "@dataclass(eq=False, kw_only=True)\n"
        "class Mine(FedAvg):\n"
        "    mu: float = 0.5\n"
        "    sparsity: float = 0.0\n"
    )
    made = make_strategy(settings("plugged_here:Mine", sparsity=0.25), Observer())
    assert (made.mu, made.sparsity, made.seed) == (0.5, 0.25, 9)  # type: ignore[attr-defined]
    told = settings("plugged_here:Mine", **{"strategy-args": "mu=2, min-train-nodes=3"})
    made = make_strategy(told, Observer())
    assert (made.mu, made.min_train_nodes) == (2.0, 3)  # type: ignore[attr-defined]


def test_what_a_class_hands_on_it_takes(write: Write) -> None:
    """Or its runs would quietly have another seed, and other clients, than the settings say."""
    write(
        "class Mine(FedAvg):\n"
        "    def __init__(self, mu=1.0, **kwargs):\n"
        "        super().__init__(**kwargs)\n"
        "        self.mu = mu\n"
    )
    made = make_strategy(settings("plugged_here:Mine", **{"strategy-args": "mu=0.5"}), Observer())
    assert (made.mu, made.seed, made.clients_per_round) == (0.5, 9, 3)  # type: ignore[attr-defined]
    assert made.one_exchange


def test_strategy_args_go_into_dataclasses_too() -> None:
    told = "linkage='complete', min-cluster-size=2, every=7, sparsity=0.4, grace=3, robust=false"
    made = make_strategy(settings("caafp", **{"strategy-args": told}), Observer())
    assert isinstance(made, CAAFP)
    assert (made.clustering.linkage, made.clustering.min_cluster_size) == ("complete", 2)
    assert (made.pruning.every, made.pruning.sparsity, made.grace) == (7, 0.4, 3.0)
    assert not made.robust


def test_the_rule_of_influence_is_on_by_default_in_the_app_and_off_in_the_class() -> None:
    assert make_strategy(settings("caafp"), Observer()).robust
    assert not CAAFP().robust


@pytest.mark.parametrize(
    ("told", "parts"),
    [
        ("linkagee='complete'", ["arguments of CAAFP", "'linkagee'", "did you mean 'linkage'"]),
        ("linkage=3", ["linkage: expected str (default 'average'), found 3"]),
        ("observer=3", ["found 'observer'"]),
        ("grace='long'", ["expected float (default 0.0), found 'long'"]),
        ("known-devices=3", ["found 'known_devices'"]),
    ],
)
def test_strategy_args_are_checked(told: str, parts: list[str]) -> None:
    with pytest.raises(SettingsError, match=r"^strategy-args: ") as caught:
        make_strategy(settings("caafp", **{"strategy-args": told}), Observer())
    assert [part for part in parts if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("body", "name", "parts"),
    [
        ("", "no_such_module:X", ["'no_such_module'", "found none", "PYTHONPATH"]),
        ("", "no_such.module:X", ["'no_such.module'", "No module named 'no_such'", "PYTHONPATH"]),
        ("", "plugged_here.deeper:X", ["'plugged_here.deeper'", "not a package"]),
        ("import no_such_thing\n", "plugged_here:X", ["import 'plugged_here'", "no_such_thing"]),
        ("from os import nothing\n", "plugged_here:X", ["import 'plugged_here'", "'nothing'"]),
        ("class Mine(FedAvg): pass\n", "plugged_here:Mein", ["'Mein'", "did you mean 'Mine'"]),
        ("X = 3\n", "plugged_here:X", ["a subclass of", "found a value of type int"]),
        ("class X(dict): pass\n", "plugged_here:X", ["found a class derived from builtins.dict"]),
        (
            "from flwr.serverapp.strategy import FedAvg as X\n",
            "plugged_here:X",
            ["a subclass of caafp_app.strategies", "derived from flwr"],
        ),
        ("class X(MethodStrategy): pass\n", "plugged_here:X", ["to define method, plan"]),
        (
            "class X(FedAvg):\n    def __init__(self, mu, **kwargs): pass\n",
            "plugged_here:X",
            ["a value for mu of X", "strategy-args='mu=...'"],
        ),
    ],
)
def test_what_cannot_be_made_is_said(write: Write, body: str, name: str, parts: list[str]) -> None:
    write(body)
    with pytest.raises(SettingsError, match=r"^strategy: expected ") as caught:
        make_strategy(settings(name), Observer())
    assert [part for part in parts if part not in str(caught.value)] == []


def test_a_mistake_of_its_own_is_not_hidden(write: Write) -> None:
    write("class X(FedAvg):\n    def __init__(self, **kwargs): raise TypeError('mine')\n")
    with pytest.raises(TypeError, match=r"^mine$"):
        make_strategy(settings("plugged_here:X"), Observer())


def test_a_missing_module_leaves_no_run(tmp_path: Path) -> None:
    """Neither the launcher, nor the server, which looks again."""
    config = {**TINY, "strategy": "no_such_module:X", "output-dir": str(tmp_path)}
    wrong = Settings.from_run_config(config)
    with pytest.raises(SettingsError, match="PYTHONPATH"):
        run(LocalGrid(app, nodes(6), config), wrong)
    if find_spec("ray"):
        with pytest.raises(SettingsError, match="PYTHONPATH"):
            check_simulation(wrong, tmp_path / "runs" / "one")
    assert list(tmp_path.iterdir()) == []


def test_folders_and_cases_have_the_name_of_the_class(tmp_path: Path) -> None:
    mine = settings("my.methods:FedProx", **{"output-dir": str(tmp_path)})
    _, folder = placed(mine, datetime(2026, 1, 2))
    assert folder.name == "20260102-000000-fedprox-synthetic-9"
    bench = '[bench]\nagainst = "fedprox-{sparsity}"\n[[case]]\nname = "{strategy}-{sparsity}"\n'
    path = tmp_path / "mine.toml"
    path.write_text(bench + 'strategy = ["fedavg", "my.methods:FedProx"]\nsparsity = [0.5, 0.7]\n')
    cases = read_bench(str(path)).cases
    assert [case.name for case in cases] == [
        *("fedavg-0.5", "fedavg-0.7", "fedprox-0.5", "fedprox-0.7")
    ]
    assert cases[2].settings.run.strategy == "my.methods:FedProx"
    path.write_text(bench + 'strategy = ["a:FedProx", "b:FedProx"]\n')
    with pytest.raises(SettingsError, match="is the class, in lower case"):
        read_bench(str(path))


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        ("class X(MethodStrategy): pass\n", SettingsError, "to define method, plan"),
        ("raise RuntimeError('mine')\n", RuntimeError, "^mine$"),
    ],
)
def test_the_launcher_finds_a_mistake_of_ones_own(
    write: Write, tmp_path: Path, body: str, error: type[Exception], said: str
) -> None:
    pytest.importorskip("ray")
    write(body)
    with pytest.raises(error, match=said):
        check_simulation(settings("plugged_here:X"), tmp_path / "runs" / "one")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("rounds", "parts"),
    [
        ({"prune-rounds": 0}, ["prune_rounds", "sparsity 0.7"]),
        (
            {"cluster-rounds": 0, "prune-rounds": 1, "prune-every": 1},
            ["prune_rounds", "at least 2 where cluster_rounds is 0", "found 1"],
        ),
    ],
)
def test_masks_that_could_not_evolve_are_refused_before_a_run(
    rounds: dict[str, int], parts: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        check_strategy(Settings.from_run_config(rounds))
    assert all(part in str(caught.value) for part in parts)


def test_methods_without_evolving_masks_need_no_rounds_for_them() -> None:
    settings = Settings.from_run_config({"strategy": "fedsnip", "prune-rounds": 0})
    assert check_strategy(settings).plan(settings.rounds.total)
