"""An example by Flower's own command, as a reader of its README would run it."""

import subprocess
from pathlib import Path

import pytest

from caafp_app.launch.superlink import executable, private_superlink

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.e2e
def test_flwr_run_runs_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra 'simulation' is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for an environment without the package
    with private_superlink() as connection:
        command = [executable("flwr"), "run", str(ROOT / "examples" / "sklearn-digits"), "--stream"]
        command += ["--federation-config", "num-supernodes=4 client-resources-num-cpus=1"]
        command += ["--run-config", "num-rounds=3 local-epochs=1"]
        done = subprocess.run(
            command,
            env=connection.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stdout
    assert "accuracy on the clients' own test pictures: 0." in done.stdout, done.stdout
    assert "cluster 0: density 0.30, part-000" in done.stdout, done.stdout
