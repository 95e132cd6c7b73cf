"""The fault drill: 30 rounds of CA-AFP on six SuperNodes, of which hardly one behaves.

``python -m tests.e2e.drill`` (or ``make drill``), some minutes. Nodes 0 and 1 are honest, and
node 1 is killed and started again; node 2 sleeps past every deadline; node 3 sends NaN; node 4
sends updates x1000; node 5 replays old replies, and is killed for good. The ServerApp is killed
twice by SIGKILL, and the run resumed. Beside it the same run with six honest nodes, in this
process.
"""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from caafp_app.launch.superlink import executable
from caafp_app.settings import Settings
from tests.e2e import variant_drill
from tests.e2e.fleet import Fleet, fleet
from tests.e2e.variant import variant
from tests.local_grid import LocalGrid

FAULTS = ["", "", "sleep", "nan", "scale", "replay"]
HONEST = ("node-0", "node-1")
DEADLINE = 20.0
SLACK = 5.0
POINTS = 0.01
ENDING = 1500.0

SETTINGS: dict[str, Any] = {
    "seed": 3,
    "warmup-rounds": 6,
    "cluster-rounds": 6,
    "prune-rounds": 18,
    "prune-every": 6,
    "clients-per-round": 6,
    "clusters": 2,
    "sparsity": 0.3,
    "min-available-nodes": 6,
    "round-timeout": DEADLINE,
}


@dataclass
class Drill:
    """The run, as its operator sees it."""

    fleet: Fleet
    app: Path
    folder: Path
    began: float = field(default_factory=time.monotonic)
    done: list[str] = field(default_factory=list)

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.folder / "runs" / "drill"

    def submit(self, **more: str | int) -> None:
        """Hand the run to the SuperLink."""
        settings = SETTINGS | {"output-dir": str(self.folder), "run-name": "drill", **more}
        config = self.fleet.settings_file(settings)
        command = [executable("flwr"), "run", str(self.app), str(self.fleet.connection.name)]
        done = subprocess.run(
            [*command, "--run-config", str(config)],
            env=self.fleet.connection.environment,
            capture_output=True,
            text=True,
            timeout=120.0,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def rounds(self) -> list[dict[str, Any]]:
        """Return what is recorded so far."""
        path = self.run / "rounds.jsonl"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def round(self) -> int:
        """Return the last round."""
        return max((r["round"] for r in self.rounds()), default=0)

    def when(self, number: int, act: Callable[[], None], what: str) -> None:
        """Wait for the end of a round, then act."""
        while self.round() < number:
            self.check_time()
            time.sleep(0.1)
        act()
        self.note(what)

    def note(self, what: str) -> None:
        """Remember what was done, and say it."""
        seconds = time.monotonic() - self.began
        self.done.append(f"{seconds:5.0f} s, round {self.round():2}: {what}")
        print(self.done[-1], flush=True)

    def check_time(self) -> None:
        """Give up on a run that does not go on."""
        if time.monotonic() - self.began > ENDING:
            raise AssertionError(f"no end after {ENDING:.0f} s\n{self.fleet.story()}")

    def kill_server(self) -> None:
        """Kill the ServerApp's process, and resume."""
        pids = [p.pid for p in self.fleet.family.members() if _is_serverapp(p.pid)]
        assert pids, "no ServerApp is running"
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.submit(**{"resume-from": "drill", "min-available-nodes": 3})


def _is_serverapp(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(Path(word.decode(errors="replace")).name == "flwr-serverapp" for word in words[:3])


def undisturbed(folder: Path) -> Path:
    """Run six honest clients in this process; return the run directory."""
    settings = Settings.from_run_config(SETTINGS | {"output-dir": str(folder), "run-name": "whole"})
    nodes = [{"part": number} for number in range(len(FAULTS))]
    variant_drill.run(LocalGrid(variant_drill.client, nodes, settings.to_dict()), settings)
    return folder / "runs" / "whole"


def drill(folder: Path) -> str:
    """Hold the drill; return its table, or raise AssertionError."""
    whole = undisturbed(folder)
    module = Path(variant_drill.__file__).read_text(encoding="utf-8")
    app = variant(folder / "app", module, serverapp="server", clientapp="client")
    nodes = [{"part": n, **({"fault": f} if f else {})} for n, f in enumerate(FAULTS)]
    with fleet(folder / "fleet", nodes) as running:
        run = Drill(running, app, folder)
        run.submit()
        one, five = running.supernodes[1], running.supernodes[5]
        run.when(5, run.kill_server, "kill -9 of the ServerApp, resumed")
        run.when(9, one.kill, "kill -9 of node 1")
        run.when(13, one.start, "node 1 started again")
        run.when(16, five.kill, "kill -9 of node 5, for good")
        run.when(20, run.kill_server, "kill -9 of the ServerApp, resumed")
        while not (run.run / "summary.json").is_file():
            run.check_time()
            time.sleep(0.2)
        run.note("ended")
        return report(run, whole)


def report(run: Drill, whole: Path) -> str:
    """Check what came out, and put it in a table."""
    records = run.rounds()
    trained = [r for r in records if r["phase"] in ("warm-up", "cluster-warm-up", "prune")]
    assert [r["round"] for r in trained] == list(range(1, 31))
    longest = max(r["seconds"] for r in records)
    assert longest <= DEADLINE + SLACK, longest
    largest = []
    for folder in (whole, run.run):
        arrays = [load_file(path) for path in (folder / "models").iterdir()]
        assert all(np.isfinite(a).all() for model in arrays for a in model.values())
        largest.append(max(float(np.abs(a).max()) for model in arrays for a in model.values()))
    assert largest[1] < 2 * largest[0], largest
    reasons: dict[str, Counter[str]] = {}
    for record in records:
        for label, reason in record["refusals"].items():
            reasons.setdefault(label, Counter())[_short(reason)] += 1
    for label, words in (("node-3", "NaN"), ("node-4", "norm"), ("node-5", "round")):
        assert any(words in reason for reason in reasons[label]), (label, reasons)
    assert not reasons.keys() & set(HONEST), reasons
    missing = Counter(label for record in records for label in record["missing"])
    assert missing["node-2"] >= 3
    lines = [f"{'node':8}{'fault':16}{'undisturbed':>12}{'drill':>8}  refused, missing"]
    before, after = _accuracies(whole), _accuracies(run.run)
    for number, fault in enumerate(FAULTS):
        label = f"node-{number}"
        found = [*(f"{n} x {reason}" for reason, n in reasons.get(label, {}).items())]
        found += [f"missing {missing[label]}"] if missing[label] else []
        what = fault or ("killed, back" if number == 1 else "-")
        got = f"{after[label]:.4f}" if label in after else "-"
        lines.append(f"{label:8}{what:16}{before[label]:12.4f}{got:>8}  {', '.join(found)}")
    for label in HONEST:
        assert after[label] > before[label] - POINTS, (label, before, after)
    lines.append(f"longest round {longest:.1f} s of {DEADLINE:.0f} s; largest weight {largest}")
    return "\n".join(lines)


def _short(reason: str) -> str:
    for words in ("norm", "NaN", "reply of"):
        if words in reason:
            return {"norm": "norm too large", "NaN": "NaN", "reply of": "old round"}[words]
    return reason[:60]


def _accuracies(folder: Path) -> dict[str, float]:
    with (folder / "clients.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {r["label"]: float(r["personal_accuracy"]) for r in rows if r["personal_accuracy"]}


if __name__ == "__main__":
    scratch = Path(tempfile.mkdtemp(prefix="drill-"))
    try:
        print(drill(scratch))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
