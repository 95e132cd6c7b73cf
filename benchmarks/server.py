"""The server's work: aggregation, scoring and mask update, by size of model and number of replies.

    python -m benchmarks.server [--full] [--json PATH]

See README.md for what is measured and how.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.report import Report, Row, Target, parser
from benchmarks.server_case import Case

ROOT = Path(__file__).resolve().parent.parent
MILLION = 1_000_000
QUICK_WEIGHTS = (1 * MILLION, 11 * MILLION)
QUICK_REPLIES = (10, 100)
FULL_WEIGHTS = (*QUICK_WEIGHTS, 86 * MILLION)
FULL_REPLIES = (*QUICK_REPLIES, 1_000, 10_000)
DENSITIES = (1.0, 0.3)
RATIO_REPLIES = 15
TARGET_WEIGHTS = 11 * MILLION
CASE_SECONDS = 900.0
"""A case that would take longer, by the figures of a smaller one, is left out and said so."""
_MEMORY_SHARE = 0.5

COLUMNS = {
    "way": "way",
    "weights": "weights",
    "density": "density",
    "replies": "replies",
    "ms_per_reply": "ms a reply",
    "cpu_ms_per_reply": "CPU ms",
    "peak_mb": "peak MB",
    "scores_seconds": "scores s",
    "mask_seconds": "mask s",
    "scores_and_mask_cpu_seconds": "both, CPU s",
    "note": "",
}
RATIO_COLUMNS = {
    "weights": "weights",
    "density": "density",
    "plain_ms": "ms a reply",
    "plain_ratio": "of numpy",
    "statistics_ms": "with statistics",
    "statistics_ratio": "of numpy",
    "statistics_numpy_ms": "numpy reads and adds",
    "statistics_numpy_add_ms": "adds alone",
}


def run_case(case: Case, timeout: float = 2 * CASE_SECONDS) -> Row:
    """Run one case in a fresh process and return its figures.

    Raises
    ------
    RuntimeError
        If it fails; the end of what it said is part of the message.
    """
    command = [sys.executable, "-m", "benchmarks.server_case", json.dumps(asdict(case))]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )
    if result.returncode:
        raise RuntimeError(f"case {case} failed: {result.stderr[-2000:]}")
    found: Row = json.loads(result.stdout.splitlines()[-1])
    return found


def measure(
    weights: Sequence[int],
    replies: Sequence[int],
    densities: Sequence[float] = DENSITIES,
    *,
    ratio_replies: int = RATIO_REPLIES,
) -> Report:
    """Run all cases and judge them."""
    report = Report("server", "Server: aggregation, scores, mask update", COLUMNS)
    for size in weights:
        for density in densities:
            report.rows += _cases("caafp", size, replies, density)
        report.rows += _cases("flower", size, replies, 1.0)
        report.rows += _cases("numpy", size, replies[:1], 1.0)
    ratios = [
        run_case(Case("ratio", size, ratio_replies, density))
        for size in weights
        for density in densities
    ]
    report.targets = [*_memory_targets(report.rows), *_time_targets(report.rows, ratios)]
    report.more = {"ratios": ratios}
    report.notes = [
        "ms a reply: the whole round over its replies, from writing the requests to the moved model"
    ]
    return report


def ratio_report(report: Report) -> Report:
    """Make the table of the replies' times beside numpy's."""
    title = "One reply read, checked and added, in turn with numpy's np.load and += (CPU, medians)"
    return Report("server", title, RATIO_COLUMNS, report.more["ratios"])


def _cases(way: str, weights: int, replies: Sequence[int], density: float) -> Iterable[Row]:
    """Run a way with ever more replies, as long as time and memory allow."""
    milliseconds = 0.0
    for count in replies:
        case = Case(way, weights, count, density)
        if milliseconds * count / 1000 > CASE_SECONDS:
            expected = milliseconds * count / 1000
            yield {**asdict(case), "note": f"left out: about {expected:,.0f} s"}
        elif way == "flower" and 4 * weights * (count + 3) > _MEMORY_SHARE * _available_bytes():
            gigabytes = 4 * weights * count / 1e9
            yield {**asdict(case), "note": f"left out: holds {gigabytes:,.0f} GB"}
        else:
            row = run_case(case)
            milliseconds = row["ms_per_reply"]
            yield row


def _memory_targets(rows: Iterable[Row]) -> Iterable[Target]:
    """Compare the peak of most replies with that of fewest."""
    groups: dict[tuple[int, float], list[Row]] = {}
    for row in rows:
        if row["way"] == "caafp" and "peak_mb" in row:
            groups.setdefault((row["weights"], row["density"]), []).append(row)
    for (weights, density), group in groups.items():
        least, most = group[0], group[-1]
        yield Target(
            f"peak memory of {most['replies']} replies over that of {least['replies']}, "
            f"{_name(weights, density)}",
            most["peak_mb"] / least["peak_mb"],
            1.5,
        )


def _time_targets(rows: Iterable[Row], ratios: Iterable[Row]) -> Iterable[Target]:
    for ratio in ratios:
        if ratio["weights"] < TARGET_WEIGHTS:  # all of it stays in the cache, for numpy
            continue
        for kind in ("plain", "statistics"):
            name = _name(ratio["weights"], ratio["density"])
            words = "with statistics" if kind == "statistics" else "mean alone"
            yield Target(
                f"time of a reply over numpy's, {words}, {name}", ratio[f"{kind}_ratio"], 2.0
            )
    for row in rows:
        if row["way"] == "caafp" and row["weights"] == TARGET_WEIGHTS and "peak_mb" in row:
            yield Target(
                f"scores and mask update, {_name(row['weights'], row['density'])}, "
                f"{row['replies']} replies",
                row["scores_and_mask_cpu_seconds"],
                2.0,
                "s of CPU",
            )


def _name(weights: int, density: float) -> str:
    return f"{weights / MILLION:g} M weights at density {density:g}"


def _available_bytes() -> float:
    """Memory that can be had now; 4 GB where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 4e9
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def main() -> None:
    """Measure and print."""
    options = parser(
        "The server's work by size of model and number of replies.",
        full="86 M weights, up to 10 000 replies (hours)",
    ).parse_args()
    if options.full:
        report = measure(FULL_WEIGHTS, FULL_REPLIES)
    else:
        report = measure(QUICK_WEIGHTS, QUICK_REPLIES)
    ratio_report(report).show()
    report.finish(options.json)


if __name__ == "__main__":
    main()
