"""One trial: a simulation in a process of its own, as a bench's ``--in-process``."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from caafp_app.errors import RunError
from caafp_app.launch.plan import count_supernodes
from caafp_app.launch.presets import to_toml
from caafp_app.launch.processes import guarded, signals_as_exceptions
from caafp_app.runs.reading import read_run
from caafp_app.settings import Settings


def run_trial(settings: Settings, name: str, folder: Path, cpus: int, metric: str) -> float:
    """Run settings to their end in `folder` and return the mean accuracy on validation data.

    `metric` says whose: ``personal`` or ``cluster``. Raises RunError, which names the log.
    """
    run = replace(settings.run, output_dir=str(folder), run_name=name)
    settings = replace(settings, run=run)
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    config, log = logs / f"{name}.toml", logs / f"{name}.log"
    config.write_text(to_toml(settings.to_dict()), encoding="utf-8")
    nodes = count_supernodes(settings, None)
    command = [sys.executable, "-m", "caafp_app.bench", str(config), str(nodes), str(cpus)]
    with guarded() as environment, signals_as_exceptions(), log.open("wb") as stream:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
        raise RunError(f"{(lines or ['it said nothing'])[-1][:300]} (all of it: {log})")
    found = read_run(folder / "runs" / name).summary
    accuracy = found.get("accuracy", {}).get(metric, {}).get("mean")
    if not isinstance(accuracy, int | float):
        raise RunError(f"expected a mean accuracy of {metric} models, found none ({log})")
    return float(accuracy)
