"""Codecs, masks and gradients on one core: milliseconds, and MB/s of float32 values.

    python -m benchmarks.codec [--weights N] [--json PATH]

See README.md for what is measured and how.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from flwr.app import RecordDict

from benchmarks.report import Report, Row, Target, parser
from caafp_app.protocol.arrays import ARRAYS, from_record, to_record
from caafp_app.protocol.gradient import pack_gradient, top_inactive, unpack_gradient
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.registry import CODECS

MILLION = 1_000_000
DENSITY = 0.3
REGROWN = 0.05
SCALE = 1e-4
"""Updates of weights are about so large; half of them are subnormal numbers of float16."""

TARGETS_MB_PER_SECOND = {
    "int8 encode": 300,
    "int8 decode": 300,
    "float16 encode": 1000,
    "float16 decode": 1000,
    "mask pack": 1000,
    "mask unpack": 1000,
    "mask select": 1000,
}
"""Least MB/s of float32 input, by operation."""

COLUMNS = {"operation": "operation", "ms": "ms", "mb_per_second": "MB/s", "nbytes": "bytes out"}

Operation = Callable[[], object]


def operations(size: int) -> dict[str, tuple[Operation, int]]:
    """Return what is measured, by name: a function, and the bytes it makes (0: not said)."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal(size, dtype=np.float32) * np.float32(SCALE)
    found: dict[str, tuple[Operation, int]] = {}
    for name, codec in CODECS.items():
        data = codec.encode(values, rng)
        found[f"{name} encode"] = partial(codec.encode, values, rng), data.nbytes
        found[f"{name} decode"] = partial(codec.decode, data, size, values.dtype, False), 0
    layout = Layout.of({"w": values.reshape(1, size)})
    mask = Mask(layout, rng.random(size) < DENSITY)
    active = mask.select(values)
    found |= {
        "mask pack": (lambda: Mask(layout, mask.bits).packed, mask.packed.nbytes),
        "mask unpack": (lambda: Mask.unpack(layout, mask.packed), 0),
        "mask digest": (lambda: Mask(layout, mask.bits).digest, 0),
        # A mask finds its positions once; a client that gets a new one uses them four times.
        "mask positions": (lambda: Mask(layout, mask.bits).active, 0),
        "mask select": (lambda: mask.select(values), active.nbytes),
        "mask scatter": (lambda: mask.scatter(active), 0),
    }
    counts = [int(REGROWN * mask.count)]
    gradient = top_inactive(values, mask, counts)
    packed = pack_gradient(gradient, mask)
    found |= {
        "gradient choose": (lambda: top_inactive(values, mask, counts), 0),
        "gradient pack": (
            lambda: pack_gradient(gradient, mask),
            packed[0].nbytes + packed[1].nbytes,
        ),
        "gradient unpack": (lambda: unpack_gradient(*packed, mask, counts[0]), 0),
    }
    records = RecordDict({ARRAYS: to_record({"values": values})})
    found |= {
        "arrays to record": (lambda: to_record({"values": values}), values.nbytes),
        "arrays from record": (lambda: from_record(records), 0),
    }
    return found


def milliseconds(operation: Operation, repeats: int) -> float:
    """Best CPU time of this thread: what one core takes that nobody disturbs."""
    best = float("inf")
    for _ in range(repeats):
        began = time.thread_time()
        operation()
        best = min(best, time.thread_time() - began)
    return 1e3 * best


def measure(weights: int, repeats: int) -> Report:
    """Time every operation and judge those that have a target."""
    report = Report("codec", f"Codecs, masks, gradients: {weights:,} weights, one core", COLUMNS)
    megabytes = 4 * weights / MILLION
    for name, (operation, nbytes) in operations(weights).items():
        ms = milliseconds(operation, repeats)
        rate = megabytes / max(ms, 1e-6) * 1e3
        row: Row = {"operation": name, "ms": ms, "mb_per_second": rate, "nbytes": nbytes or None}
        report.rows.append(row)
        if least := TARGETS_MB_PER_SECOND.get(name):
            limit = megabytes / least * 1e3
            report.targets.append(Target(f"{name} ({least} MB/s)", ms, limit, "ms"))
    report.notes.append(
        f"MB/s of float32 values in or out; density {DENSITY:g}, {REGROWN:.0%} regrown, "
        f"best of {repeats} by CPU time"
    )
    report.more["weights"] = weights
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parser("Time codecs, masks and gradients on one core.")
    options.add_argument("--weights", type=int, default=10 * MILLION, help="values at once")
    options.add_argument("--repeats", type=int, default=7, help="the best of so many counts")
    given = options.parse_args(arguments)
    measure(given.weights, given.repeats).finish(given.json)


if __name__ == "__main__":
    main()
