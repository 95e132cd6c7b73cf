"""Each example with FedAvg and with CA-AFP: as good with seven weights of ten gone, in less than
half the bytes. `pytest -s` shows the figures."""

import difflib
import importlib
import importlib.util
import random
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.local_grid import LocalGrid

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CLIENTS = 10
NEEDS = {
    "jax-digits": "jax",
    "keras-digits": "keras",
    "pytorch-digits": "torch",
    "sklearn-digits": "sklearn",
}
ONE_IN_MAKE_TEST = "sklearn-digits"
"""The others take as long again each, and differ in the client's framework alone."""


@dataclass(frozen=True)
class Outcome:
    """What a run of an example came to."""

    accuracy: float
    nbytes: int
    result: Any


@pytest.fixture
def fresh() -> Iterator[None]:
    """Forget the modules of examples, whose packages may have one name."""
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None)
        if origin and Path(origin).is_relative_to(EXAMPLES):
            del sys.modules[name]


def run(folder: Path, **changes: Any) -> Outcome:
    """Run an example in this process, by the names that its pyproject gives."""
    app = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["tool"]["flwr"]["app"]
    config = {**app["config"], **changes}
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    server, client = (
        importlib.import_module(app["components"][side].partition(":")[0])
        for side in ("serverapp", "clientapp")
    )
    grid = LocalGrid(
        client.app, [{"partition-id": k, "num-partitions": CLIENTS} for k in range(CLIENTS)], config
    )
    random.seed(config["seed"])  # FedAvg samples by it
    result = server.train(grid, config)
    sys.path.remove(str(folder))
    return Outcome(server.accuracy_of(result), sum(p.nbytes for p in grid.passages), result)


def judge(name: str, theirs: Outcome, ours: Outcome) -> None:
    """Print what came of it, and hold it against what is promised."""
    print(
        f"\n| {name} | {theirs.accuracy:.1%} | {ours.accuracy:.1%} | {theirs.nbytes / 1e6:.2f} MB "
        f"| {ours.nbytes / 1e6:.2f} MB | {ours.nbytes / theirs.nbytes:.2f} |"
    )
    assert theirs.accuracy > 0.75  # FedAvg has learnt something: no race against a lame horse
    assert ours.accuracy >= theirs.accuracy - 0.01
    assert ours.nbytes <= 0.5 * theirs.nbytes
    members = sorted(cluster.members for cluster in ours.result.clusters.values())
    assert members == [
        tuple(f"part-{k:04d}" for k in range(CLIENTS) if k % 2 == group) for group in (0, 1)
    ]
    for cluster in ours.result.clusters.values():
        assert cluster.density == pytest.approx(0.3, abs=0.002)
        for layer, mask in cluster.mask.items():
            assert not cluster.arrays[layer].numpy()[~mask].any()


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.e2e if n != ONE_IN_MAKE_TEST else ()) for n in NEEDS]
)
def test_an_example_is_as_good_in_half_the_bytes(name: str) -> None:
    if importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    theirs, ours = (run(EXAMPLES / name, strategy=kind) for kind in ("fedavg", "caafp"))
    judge(name, theirs, ours)


@pytest.mark.e2e
@pytest.mark.usefixtures("fresh")
def test_the_migrated_project_is_as_good_in_half_the_bytes() -> None:
    theirs = run(EXAMPLES / "migration" / "fedavg")
    for name in [name for name in sys.modules if name.partition(".")[0] == "digits_app"]:
        del sys.modules[name]
    judge("migration", theirs, run(EXAMPLES / "migration" / "caafp"))


def migration() -> list[str]:
    """The difference between the two projects, line by line."""
    before, after = (EXAMPLES / "migration" / name for name in ("fedavg", "caafp"))
    files = sorted(p.relative_to(before) for p in before.rglob("*") if p.suffix in (".py", ".toml"))
    assert files == sorted(
        p.relative_to(after) for p in after.rglob("*") if p.suffix in (".py", ".toml")
    )
    lines: list[str] = []
    for file in files:
        old, new = ((side / file).read_text("utf-8").splitlines() for side in (before, after))
        heads = f"fedavg/{file}", f"caafp/{file}"
        lines += difflib.unified_diff(old, new, *heads, lineterm="", n=0)
    return lines


def test_the_migration_is_two_lines_besides_imports() -> None:
    added = [line[1:] for line in migration() if re.match(r"\+(?!\+\+ )", line)]
    code = [line for line in added if not re.match(r"(from|import|dependencies) ", line)]
    assert len(code) == 2
    assert ["CAAFP(" in line or "sparse_mod" in line for line in code] == [True, True]
    removed = [line for line in migration() if re.match(r"-(?!-- )", line)]
    assert len(removed) == 4  # the two, the import of FedAvg, and the dependencies


def test_the_migration_is_shown() -> None:
    text = (EXAMPLES / "migration" / "README.md").read_text("utf-8")
    (shown,) = re.findall(r"^```diff\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert shown.splitlines() == migration()


def test_every_example_is_listed_and_projects_are_their_own() -> None:
    text = (EXAMPLES / "README.md").read_text("utf-8")
    folders = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
    assert folders == sorted([*NEEDS, "migration", "notebook", "own-strategy"])
    for name in folders:
        assert f"`{name}`" in text
    for path in EXAMPLES.rglob("pyproject.toml"):
        project = tomllib.loads(path.read_text("utf-8"))
        needs = " ".join(project["project"]["dependencies"])
        assert ("caafp-app" in needs) == (path.parent.name != "fedavg")
        (package,) = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
        assert (path.parent / package / "__init__.py").is_file()
