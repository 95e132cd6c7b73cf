"""Many simulated clients: seconds and server memory of each round, from ``rounds.jsonl``.

    python -m benchmarks.clients [--clients N] [--rounds N] [--per-round N] [--json PATH]

See README.md for what is measured and how.
"""

import time
from typing import Any

from benchmarks.federated import Finished, run
from benchmarks.report import Report, Row, Target, cores, median, parser
from caafp_app.settings import Scalar

CLIENTS, ROUNDS, PER_ROUND = 1000, 20, 50
SECONDS = 15 * 60.0
GROWTH = 1.1
"""Memory after the last round may be so many times that after the first round in clusters."""
WINDOWS = 60
"""Windows of each synthetic user: small clients, for it is their number that is in question."""

COLUMNS = {
    "round": "round",
    "phase": "phase",
    "asked": "asked",
    "answered": "answered",
    "seconds": "seconds",
    "server_memory_mb": "server MB",
    "server_memory_peak_mb": "peak MB",
}


def settings_of(clients: int, rounds: int, per_round: int) -> dict[str, Scalar]:
    """Divide the rounds among the phases and return the settings of the run."""
    warmup = max(rounds * 3 // 10, 1)
    within = max(rounds * 3 // 10, 1)
    return {
        "dataset": "synthetic",
        "synthetic-users": clients,
        "synthetic-windows": WINDOWS,
        "warmup-rounds": warmup,
        "cluster-rounds": within,
        "prune-rounds": rounds - warmup - within,
        "prune-every": 2,
        "clients-per-round": per_round,
        "min-available-nodes": clients,
        "clusters": 3,
        "local-epochs": 1,
        "finetune-epochs": 1,
    }


def measure(clients: int, rounds: int, per_round: int) -> Report:
    """Run once and judge time and memory."""
    began = time.perf_counter()
    finished = run(settings_of(clients, rounds, per_round))
    seconds = time.perf_counter() - began
    title = f"{clients} simulated clients, {rounds} rounds of {per_round}, {cores()} cores"
    report = Report("clients", title, COLUMNS, list(map(_row, finished.rounds)))
    report.targets = [
        Target("from the command to its end", seconds, SECONDS, "s"),
        *_memory_target(finished),
    ]
    report.notes = [
        f"{finished.summary['clients']} clients took part; start-up "
        f"{finished.summary['seconds']['startup']:.0f} s, median round "
        f"{median([record['seconds'] for record in finished.numbered()]):.1f} s; all clients are "
        "asked to describe themselves, to be clustered, and at the end"
    ]
    report.more = {"seconds": seconds, "summary": finished.summary}
    return report


def _memory_target(finished: Finished) -> list[Target]:
    """Compare the memory after the last round with that after the first round in clusters."""
    records = [record for record in finished.numbered() if record["server_memory_mb"] is not None]
    later = [record for record in records if record["phase"] != "warm-up"]
    if len(later) < 2:
        return []
    first, last = later[0]["server_memory_mb"], later[-1]["server_memory_mb"]
    return [Target("server memory after the last round over the first", last / first, GROWTH)]


def _row(record: dict[str, Any]) -> Row:
    return {key: record.get(key) for key in COLUMNS}


def main() -> None:
    """Measure and print."""
    options = parser("Many simulated clients: seconds and server memory of each round.")
    options.add_argument("--clients", type=int, default=CLIENTS, metavar="N")
    options.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    options.add_argument("--per-round", type=int, default=PER_ROUND, metavar="N")
    chosen = options.parse_args()
    measure(chosen.clients, chosen.rounds, chosen.per_round).finish(chosen.json)


if __name__ == "__main__":
    main()
