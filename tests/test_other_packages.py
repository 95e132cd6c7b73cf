"""Another package brings parts of its own: a file each, and no change of ours."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caafp_app import registry
from caafp_app.datasets import source_of
from caafp_app.errors import SettingsError
from caafp_app.server_app import initial_arrays
from caafp_app.settings import Settings
from caafp_app.strategies.factory import check_strategy
from tests.strategies.support import run

NETWORK = """
from torch import nn


class Seedling(nn.Module):
    def __init__(self, input_shape, classes):
        super().__init__()
        self.first = nn.Linear(input_shape[0] * input_shape[1], 12)
        self.head = nn.Linear(12, classes)

    def forward(self, windows):
        return self.head(self.first(windows.flatten(1)).relu())
"""
DATA = """
import numpy as np

from caafp_app.datasets import DataShape, DataSource, Windows


class Beds(DataSource):
    def shape(self, settings):
        return DataShape((10, 2), ("dry", "wet"))

    def population(self, settings):
        return 4

    def windows(self, settings):
        rng = np.random.default_rng(settings.data_seed)
        y = np.tile(np.arange(2), 40)
        x = rng.normal(size=(80, 10, 2)) + 4.0 * y[:, None, None] - 2.0
        return Windows(x.astype(np.float32), y, np.repeat(np.arange(4), 20), ("dry", "wet"))
"""
OPTIMIZER = """
class Descent:
    def __init__(self, values, gradient, learning_rate):
        self.values, self.gradient, self.rate = values, gradient, learning_rate

    def step(self):
        self.values.sub_(self.gradient, alpha=self.rate)
"""
STRATEGY = """
from dataclasses import dataclass

from caafp_app.strategies import CAAFP


@dataclass(eq=False, kw_only=True)
class Slow(CAAFP):
    share: float = 1.0

    def method(self, model, plan):
        method = super().method(model, plan)
        apply = method.apply

        def slowly(step, answers):
            before = dict(method.models)
            changed = apply(step, answers)
            SHARES.append((step.round, self.share, before.keys() == method.models.keys()))
            return changed

        method.apply = slowly
        return method


SHARES = []
"""
SUM = """
import numpy as np

from caafp_app.pruning.sums import TermSum


class Fourth(TermSum):
    quantum = -48

    def largest(self, peak, weight):
        return weight * peak**4

    def term(self, values, weighted, out):
        return np.multiply(values**3, weighted, out=out)
"""
SCORE = """
from caafp_app.pruning.scores import Score

SEEN = []


def of(weights, evidence, layer):
    found = evidence.mean_of("garden.sums:Fourth", layer)
    SEEN.append(found)
    return lambda part: found[part.start - layer.start : part.stop - layer.start] + 1e-9


tail = Score(needs=("garden.sums:Fourth",), of=of)
"""
PARTS = {
    "strategy": ("strategies", "slow", "garden.strategy:Slow", STRATEGY),
    "score": ("scores", "tail", "garden.score:tail", SCORE),
    "model": ("networks", "seedling", "garden.network:Seedling", NETWORK),
    "dataset": ("datasets", "beds", "garden.data:Beds", DATA),
    "optimizer": ("optimizers", "descent", "garden.optimizer:Descent", OPTIMIZER),
}
"""Group of entry points, name, path and source of a part, by the setting that chooses it."""
NAMES = {key: name for key, (_, name, _, _) in PARTS.items()}
PATHS = {key: path for key, (_, _, path, _) in PARTS.items()}


@pytest.fixture
def garden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path of this Python with the package `garden`, which is gone afterwards."""
    package = tmp_path / "garden"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "sums.py").write_text(SUM)
    for _, _, path, text in PARTS.values():
        (tmp_path / path.partition(":")[0].replace(".", "/")).with_suffix(".py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "garden"]:
        del sys.modules[name]
    source_of.cache_clear()


@pytest.fixture
def installed(garden: Path) -> Iterator[Path]:
    """The package with its entry points, as an installation leaves them."""
    about = garden / "garden-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: garden\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "".join(f"[caafp_app.{kind}]\n{name} = {path}\n" for kind, name, path, _ in PARTS.values())
    )
    forget_entry_points()
    yield garden
    forget_entry_points()


def forget_entry_points() -> None:
    """Let the registries look again: a process looks once."""
    for parts in vars(registry).values():
        if isinstance(parts, registry.Registry):
            parts.__dict__.pop("_foreign", None)


def checked(parts: dict[str, str]) -> None:
    """Run with these parts, and check that they are what was run."""
    changes: dict[str, Any] = {
        **parts,
        "strategy-args": "share=0.25",
        "clusters": 2,
        "learning-rate": 0.05,
        "sparsity": 0.5,
    }
    arrays = initial_arrays(Settings.from_run_config(changes))
    assert {name: array.shape for name, array in arrays.items()} == {
        "first.weight": (12, 20),
        "first.bias": (12,),
        "head.weight": (2, 12),
        "head.bias": (2,),
    }
    done = run(changes, count=4)
    report = done.seen.report
    assert report is not None
    assert sorted(client.label for client in report.clients) == [f"user-{k:02d}" for k in range(4)]
    # The classes lie far apart, so that even descent by the plain gradient tells them apart.
    assert all((client.personal_accuracy or 0.0) > 0.7 for client in report.clients)
    assert done.seen.round(8).density == {0: pytest.approx(0.5), 1: pytest.approx(0.5)}
    strategy, score = (importlib.import_module(f"garden.{name}") for name in ("strategy", "score"))
    assert [(round_, share) for round_, share, _ in strategy.SHARES] == [
        (round_, 0.25) for round_ in range(1, 9)
    ]
    # The sums of fourth powers have reached the score: positive where clients have moved.
    assert any((found > 0).any() for found in score.SEEN)
    assert all((found >= 0).all() for found in score.SEEN)


def test_parts_by_their_paths_are_run(garden: Path) -> None:
    checked(PATHS)


def test_parts_by_entry_points_are_run(installed: Path) -> None:
    checked(NAMES)
    assert "garden" in sys.modules


def test_a_name_is_checked_without_an_import(installed: Path) -> None:
    for parts in (NAMES, PATHS):
        settings = Settings.from_run_config(dict(parts))
        assert parts.items() <= settings.to_dict().items()
    assert "garden" not in sys.modules
    with pytest.raises(SettingsError, match="did you mean 'seedling'"):
        Settings.from_run_config({"model": "seedlings"})


def test_names_of_others_need_their_package() -> None:
    for key, name in NAMES.items():
        with pytest.raises(SettingsError, match=f"^{key}: expected .* found '{name}'"):
            Settings.from_run_config({key: name})


def test_a_foreign_network_says_nothing_of_a_chain_and_keeps_its_filters(garden: Path) -> None:
    settings = Settings.from_run_config({**PATHS, "granularity": "filter"})
    with pytest.raises(SettingsError, match=r"`chain = True` in its class.*Seedling"):
        check_strategy(settings)
