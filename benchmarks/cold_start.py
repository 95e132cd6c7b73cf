"""A client's process from its start to its reply, by kind of message.

    python -m benchmarks.cold_start [--repeats N] [--json PATH]

See README.md for what is measured and how.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from flwr.app import Message
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.task_identity import TaskIdentity

from benchmarks.federated import ROOT
from benchmarks.report import Report, Row, Target, median, parser
from caafp_app.launch.source import default_config
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, ErrorCode
from caafp_app.runner.model import SparseModel
from caafp_app.runner.options import Options
from caafp_app.runner.query import Query
from caafp_app.runner.requests import RequestWriter
from caafp_app.runner.roster import Client
from caafp_app.server_app import initial_arrays
from caafp_app.settings import Settings

NODE = {"partition-id": 0, "num-partitions": 12}
TORCH, DYNAMO, PANDAS, SKLEARN = "torch", "torch._dynamo", "pandas", "sklearn"
WATCHED = (TORCH, DYNAMO, PANDAS, SKLEARN, "ray")
KINDS = ("describe", "mask-unknown", "train", "evaluate", "personalise")
LIGHT = ("describe", "mask-unknown")
STAGES = {"python": "start", "flwr": "python", "app": "flwr", "reply": "app"}
"""Each stage and the one before it."""
LARGEST = 6

COLUMNS = {
    "kind": "message",
    "python": "python s",
    "flwr": "flwr s",
    "app": "our app s",
    "reply": "work s",
    "total": "in all s",
    "cpu": "processor s",
    "peak_mb": "peak MB",
    TORCH: "torch",
    DYNAMO: "dynamo",
    "imports": "largest imports, s",
}


def requests(settings: Settings) -> dict[str, Message]:
    """Write one request of each kind, for a client that holds nothing yet."""
    # What a running app gets from Flower; messages cannot be made without it.
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    arrays = initial_arrays(settings)
    layout = Layout.of(arrays)
    model = SparseModel.dense(layout, layout.flatten(arrays))
    bits = model.mask.bits.copy()
    bits[::3] = False
    sparse = model.with_mask(Mask(layout, bits))
    writer = RequestWriter(Options(seed=settings.run.seed, one_exchange=True))
    writer.open("prune", 1)

    def write(action: Action, held: str = "") -> Message:
        client = Client("user-00", 1, cluster=0, held=held)
        query = Query(action, sparse, (client,), 0, {"server-round": 1})
        return writer.write(query, client)

    return {
        "describe": writer.describe(1),
        "mask-unknown": write(Action.TRAIN, held=sparse.mask.digest),
        "train": write(Action.TRAIN),
        "evaluate": write(Action.EVALUATE),
        "personalise": write(Action.PERSONALISE),
    }


def answer(message: Message, settings: Mapping[str, Any], *options: str) -> tuple[Row, str]:
    """Let a fresh process answer; return its figures and what it wrote to stderr."""
    message.metadata.__dict__["_message_id"] = message.object_id
    objects = {key: part.deflate().hex() for key, part in get_all_nested_objects(message).items()}
    given = {
        "app": str(ROOT),
        "message": message.object_id,
        "objects": objects,
        "node": NODE,
        "settings": dict(settings),
        "modules": WATCHED,
    }
    with tempfile.TemporaryDirectory(prefix="caafp-bench-") as folder:
        path = Path(folder) / "request.json"
        path.write_text(json.dumps(given), encoding="utf-8")
        command = [sys.executable, *options, "-m", "benchmarks.cold_client", str(path)]
        result = subprocess.run(
            [*command, str(time.time())], cwd=ROOT, capture_output=True, text=True, check=False
        )
    if result.returncode:
        raise RuntimeError(f"the client failed: {result.stderr[-3000:]}")
    found: Row = json.loads(result.stdout.splitlines()[-1])
    return found, result.stderr


def import_seconds(log: str) -> dict[str, float]:
    """Sum the lines of ``-X importtime`` by package: own time of all its modules, in seconds."""
    seconds: dict[str, float] = {}
    for line in log.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if len(parts) == 3 and parts[0].strip().isdigit():
            package = parts[2].strip().partition(".")[0]
            seconds[package] = seconds.get(package, 0.0) + int(parts[0]) / 1e6
    return seconds


def imported(log: str) -> set[str]:
    """Return the modules that ``-X importtime`` names."""
    return {line.rpartition("|")[2].strip() for line in log.splitlines() if line.count("|") == 2}


def measure(
    repeats: int,
    config: Mapping[str, Any] | None = None,
    kinds: Collection[str] = KINDS,
) -> Report:
    """Measure kinds of message."""
    report = Report("cold_start", "A client's process, from its start to its reply", COLUMNS)
    values = default_config() | {"synthetic-windows": 120} | dict(config or {})
    settings = Settings.from_run_config(values)
    found: dict[str, list[Row]] = {}
    messages = {kind: message for kind, message in requests(settings).items() if kind in kinds}
    for _ in range(repeats):  # in turn, so that a busy moment is not one kind's alone
        for kind, message in messages.items():
            found.setdefault(kind, []).append(answer(message, values)[0])
    for kind, runs in found.items():
        expected = int(ErrorCode.MASK_UNKNOWN) if kind == "mask-unknown" else 0
        if any(run["error"] != expected for run in runs):
            raise RuntimeError(f"{kind}: expected error code {expected}, found {runs[0]['error']}")
        log = answer(messages[kind], values, "-X", "importtime")[1]
        report.rows.append(_row(kind, runs, log))
    for row in report.rows:
        watched = (TORCH,) if row["kind"] in LIGHT else (DYNAMO,)
        for name in watched:
            there = float(row["imported"][name])
            report.targets.append(Target(f"{row['kind']}: imports {name}", there, 0.0))
    report.notes = [
        f"medians of {repeats}, of memory the most; flwr: all that `flwr-clientapp` imports; work: "
        "reading the request, the app's handler, and writing the reply; processor: time of this "
        "process, which a busy machine changes little"
    ]
    return report


def _row(kind: str, runs: list[Row], log: str) -> Row:
    marks = [{"start": 0.0, **run["marks"]} for run in runs]
    stages = {
        stage: median([mark[stage] - mark[before] for mark in marks])
        for stage, before in STAGES.items()
    }
    packages = sorted(import_seconds(log).items(), key=lambda item: -item[1])
    there = imported(log)
    modules = {name: name in there or any(run["modules"][name] for run in runs) for name in WATCHED}
    return {
        "kind": kind,
        **stages,
        "total": median([mark["reply"] for mark in marks]),
        "cpu": median([run["cpu"] for run in runs]),
        "peak_mb": max((run["peak_mb"] or 0.0 for run in runs), default=0.0),
        TORCH: "yes" if modules[TORCH] else "no",
        DYNAMO: "yes" if modules[DYNAMO] else "no",
        "imports": ", ".join(f"{name} {seconds:.2f}" for name, seconds in packages[:LARGEST]),
        "imported": modules,
        "import_seconds": dict(packages),
        "nbytes": runs[0]["nbytes"],
    }


def main() -> None:
    """Measure and print."""
    options = parser("A client's process from its start to its reply, by kind of message.")
    options.add_argument("--repeats", type=int, default=2, metavar="N")
    chosen = options.parse_args()
    measure(chosen.repeats).finish(chosen.json)


if __name__ == "__main__":
    main()
