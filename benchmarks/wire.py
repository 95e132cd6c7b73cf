"""Bytes of whole runs by kind and direction, from their messages, without training.

    python -m benchmarks.wire [PRESET ...] [--json PATH]

See README.md for what is measured and how.
"""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from benchmarks.echo import EchoGrid, make_app
from benchmarks.report import Report, Row, Target, parser
from caafp_app.datasets import source_of
from caafp_app.errors import CaafpError, SettingsError
from caafp_app.launch.presets import merged, preset_names
from caafp_app.protocol.gaps import decode_gaps
from caafp_app.protocol.messages import Request, is_ours, to_record
from caafp_app.runs.ledger import Direction, Ledger
from caafp_app.runs.observer import Observer
from caafp_app.server_app import initial_arrays
from caafp_app.settings import Settings
from caafp_app.strategies.factory import make_strategy

WISDM_USERS = 36
LEAN_LIMIT_MB = 30.0
COLUMNS = {
    "preset": "preset",
    "what": "what",
    "down_mb": "down MB",
    "up_mb": "up MB",
    "total_mb": "total MB",
    "share": "of FedAvg",
}
KINDS = {
    "preset": "preset",
    "kind": "kind",
    "down_kb": "down kB",
    "up_kb": "up kB",
    "share": "of all",
}


@dataclass
class MaskBytes:
    """What masks took, and what they would take at their entropy.

    Attributes
    ----------
    weights : int
        P, the number of prunable weights.
    messages : int
        Requests that held a mask, in full or as a difference.
    sent, bound : float
        Bytes of their masks, and the sum of H(d) P / 8 bytes: d is the density of a mask in full,
        the share of changed bits in a difference.
    """

    weights: int
    messages: int = 0
    sent: float = 0.0
    bound: float = 0.0
    differences: int = field(default=0)

    def look(self, message: Message) -> None:
        """Take note of the mask of one request."""
        if not is_ours(message.content):
            return
        request = Request.from_records(message.content)
        if request.mask is None:
            return
        self.messages += 1
        self.sent += request.mask.nbytes
        if request.mask_base:
            self.differences += 1
            ones = decode_gaps(request.mask, self.weights).size
        else:
            ones = int(np.unpackbits(request.mask).sum())
        self.bound += entropy_bytes(ones, self.weights)


def entropy_bytes(ones: int, size: int) -> float:
    """Return H(ones / size) size / 8: what so many ones among so many bits take at least."""
    share = ones / size
    if share in (0.0, 1.0):
        return 0.0
    return -size * (share * math.log2(share) + (1 - share) * math.log2(1 - share)) / 8


def measure(settings: Settings, preset: str) -> tuple[list[Row], list[Row]]:
    """Run a preset, and FedAvg with as many rounds and clients; return totals and kinds."""
    clients = count_clients(settings)
    labels = [f"subject-{number:02d}" for number in range(1, clients + 1)]
    arrays = initial_arrays(settings)
    strategy = make_strategy(settings, Observer())
    masks = MaskBytes(sum(array.size for array in arrays.values() if array.ndim > 1))
    grid = EchoGrid(make_app(labels), clients, look=masks.look)
    result = strategy.start(grid, to_record(arrays), num_rounds=settings.rounds.total)
    if result.report is None:
        raise RuntimeError("the run has ended without a report")
    ours, plain = result.report.ledger, fedavg(settings, labels, arrays)

    def row(what: str, down: float, up: float, total: float) -> Row:
        return {
            "preset": preset,
            "what": what,
            "down_mb": down / 1e6,
            "up_mb": up / 1e6,
            "total_mb": total / 1e6,
            "share": total / plain.total,
        }

    formula = ours.formula_total
    totals = [
        row("messages", ours.overall().down, ours.overall().up, ours.total),
        row("Flower's FedAvg", plain.overall().down, plain.overall().up, plain.total),
        row("authors' formula", formula / 2, formula / 2, formula),
        row("masks", masks.sent, 0.0, masks.sent),
        row("entropy of the masks", masks.bound, 0.0, masks.bound),
    ]
    totals[0] |= {
        "clients": clients,
        "rounds": settings.rounds.total,
        "summary": ours.summary(),
        "fedavg": plain.summary(),
        "masks": {"messages": masks.messages, "differences": masks.differences},
    }
    return totals, kinds(preset, ours)


def kinds(preset: str, ledger: Ledger) -> list[Row]:
    """Return a row for each kind of bytes, the largest first."""
    by_kind = ledger.summary()["by_kind"]
    names = sorted({*by_kind["down"], *by_kind["up"]})
    rows = []
    for name in names:
        down, up = by_kind["down"].get(name, 0), by_kind["up"].get(name, 0)
        rows.append(
            {
                "preset": preset,
                "kind": name,
                "down_kb": down / 1e3,
                "up_kb": up / 1e3,
                "share": (down + up) / ledger.total,
            }
        )
    return sorted(rows, key=lambda row: -float(row["share"]))


def fedavg(settings: Settings, labels: Sequence[str], arrays: dict[str, NDArray[Any]]) -> Ledger:
    """Run Flower's FedAvg through the same counter: training messages alone, no evaluation.

    At the end every client gets the model once more, as it has to for fine-tuning.
    """
    ledger, clients = Ledger(), len(labels)

    def record(direction: Direction, message: Message) -> None:
        ledger.record(direction, "rounds", message, round=0)

    grid = EchoGrid(make_app(labels), clients, record=record)
    sampled = min(settings.rounds.clients_per_round, clients)
    strategy = FedAvg(
        fraction_train=0.0001,
        fraction_evaluate=0.0,
        min_train_nodes=sampled,
        min_available_nodes=clients,
    )
    result = strategy.start(grid, to_record(arrays), num_rounds=settings.rounds.total)
    strategy.fraction_train = 1.0
    last = settings.rounds.total + 1
    for message in strategy.configure_train(last, result.arrays, ConfigRecord(), grid):
        record("down", message)
    return ledger


def count_clients(settings: Settings) -> int:
    """Return how many clients the data of a preset makes; the data itself is not needed."""
    known = settings.data.known_clients
    if known is not None:
        return known
    try:
        return source_of(settings.data.dataset).population(settings.data)
    except CaafpError:
        return WISDM_USERS


def settings_of(preset: str) -> Settings:
    """Read a preset; one that needs a path to its data gets none that is ever opened."""
    try:
        return merged(preset, [])
    except SettingsError:
        return merged(preset, ["data-dir=unused"])


def run(presets: Iterable[str]) -> tuple[Report, Report]:
    """Measure presets; return totals, with all that goes into the JSON, and kinds."""
    report = Report("wire", "Bytes of whole runs, counted from their messages", COLUMNS)
    by_kind = Report("wire", "Bytes by kind", KINDS)
    for preset in presets:
        totals, parts = measure(settings_of(preset), preset)
        report.rows += totals
        by_kind.rows += parts
        if preset.startswith("lean"):
            total = totals[0]["total_mb"]
            report.targets.append(Target(f"{preset}, in all", total, LEAN_LIMIT_MB, "MB"))
    report.more = {"kinds": by_kind.rows}
    report.notes = [
        "FedAvg: as many rounds and clients, training messages alone, and the last model to all;",
        "the formula: parameters x 4 bytes x density, twice per client and round.",
    ]
    return report, by_kind


def main() -> None:
    """Measure and print."""
    options = parser("Bytes of whole runs by kind and direction, without training.")
    options.add_argument("presets", nargs="*", metavar="PRESET", help="default: all")
    chosen = options.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    report, by_kind = run(chosen.presets or preset_names())
    by_kind.show()
    report.finish(chosen.json)


if __name__ == "__main__":
    main()
