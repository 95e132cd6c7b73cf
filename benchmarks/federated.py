"""A run of the app by its own command, and what it left."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caafp_app.launch.presets import to_toml
from caafp_app.settings import Scalar

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Finished:
    """Records of a run: one per exchange, and the summary."""

    rounds: list[dict[str, Any]]
    summary: dict[str, Any]

    def numbered(self) -> list[dict[str, Any]]:
        """Return the records of the rounds proper, without the exchanges between them."""
        last = int(self.summary["rounds"])
        between = ("describe", "cluster", "saliency", "evaluate", "personalise")
        return [
            record
            for record in self.rounds
            if 1 <= record["round"] <= last and record["phase"] not in between
        ]


def run(settings: Mapping[str, Scalar], *options: str, timeout: float = 3600.0) -> Finished:
    """Run ``caafp run`` with settings over the app's defaults, and read its records.

    Raises
    ------
    RuntimeError
        If the run fails; the end of what it said is part of the message.
    """
    with tempfile.TemporaryDirectory(prefix="caafp-bench-") as folder:
        config = Path(folder) / "settings.toml"
        config.write_text(to_toml({**settings, "output-dir": folder}), encoding="utf-8")
        command = [sys.executable, "-m", "caafp_app.cli", "run", str(config), "--json", *options]
        result = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )
        if result.returncode:
            raise RuntimeError(f"the run failed: {result.stderr[-3000:]}")
        path = Path(result.stdout.splitlines()[-1])
        lines = (path / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
        summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
        return Finished([json.loads(line) for line in lines], summary)
