"""The package as a user installs it: what an import brings, and how long it takes."""

import importlib.util
import os
import statistics
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ["torch", "ray", "jax", "tensorflow", "sklearn", "scipy", "pandas", "datasets"]
HEAVY += ["matplotlib", "onnx"]
NAMES = "from caafp_app.strategies import CAAFP, Clustering; from caafp_app import sparse_mod"
LOADED = f"import sys; {NAMES}; print([name for name in {HEAVY!r} if name in sys.modules])"
ATTEMPTS = 3


def run(code: str, python: str = sys.executable, cwd: Path = ROOT) -> str:
    """Run code in a process of its own, in an environment that points nowhere."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [python, "-c", code], cwd=cwd, env=clean, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def seconds(statement: str) -> float:
    timed = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    return float(run(timed))


def test_the_strategy_and_the_mod_bring_no_framework() -> None:
    assert run(LOADED) == "[]"


def test_the_import_takes_less_than_one_and_a_half_times_that_of_flower() -> None:
    seconds(NAMES)  # the files are in the system's cache from here on
    ours, theirs = [], []
    for _ in range(ATTEMPTS):  # in turns, so that a busy machine is busy for both
        theirs.append(seconds("import flwr.serverapp"))
        ours.append(seconds(NAMES))
    assert statistics.median(ours) < 1.5 * statistics.median(theirs), (ours, theirs)


@pytest.mark.e2e
def test_an_installed_package_is_whole(tmp_path: Path) -> None:
    """``pip install .`` into an empty environment, which borrows the dependencies of this one."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed, and without a network it cannot be fetched")
    home = tmp_path / "env"
    venv.create(home, symlinks=True, with_pip=False)
    (python,) = home.glob("bin/python")
    (packages,) = home.glob("lib/python*/site-packages")
    borrowed = [entry for entry in sys.path if entry.endswith("site-packages")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--target", str(packages), str(ROOT)],
        check=True,
        timeout=300,
    )
    (packages / "borrowed.pth").write_text("\n".join(borrowed), encoding="utf-8")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert run(LOADED, str(python), elsewhere) == "[]"
    found = run("import caafp_app; print(caafp_app.__file__)", str(python), elsewhere)
    assert Path(found).is_relative_to(packages)
    listed = subprocess.run(
        [str(python), "-m", "caafp_app.cli", "settings", "--toml"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "sparsity = 0.7" in listed.stdout
