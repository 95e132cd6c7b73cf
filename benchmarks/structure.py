"""Whether groups are found where there are some, and none where there are none; and found again.

    python -m benchmarks.structure                          # iid digits, planted groups
    python -m benchmarks.structure --data-dir PATH          # and iid UCI HAR
    python -m benchmarks.structure --case iid-digits --seeds 20
    python -m benchmarks.structure --case drift

Warm-up rounds alone are held, with the preset `caafp`; each seed deals the data out anew. `drift`
holds two whole runs of each seed: in one of them a quarter of the users changes its group after
round 17, in the other these users are in their last group from the start.
"""

import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from flwr.app import ArrayRecord

from caafp_app.datasets.synthetic import SyntheticSource, planted_groups
from caafp_app.engine.run import batched_grid
from caafp_app.errors import RunError
from caafp_app.protocol.messages import to_record
from caafp_app.runs.checkpoint import Checkpoints
from caafp_app.runs.observer import Observer
from caafp_app.runs.records import RoundRecord, RunReport
from caafp_app.server_app import initial_arrays
from caafp_app.settings import DataSettings, Settings
from caafp_app.strategies.factory import make_strategy

PRESET = Path(__file__).parents[1] / "conf" / "caafp.toml"
CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "iid-digits": (12, {"dataset": "digits", "model": "digits-cnn", "partition": "iid"}),
    "iid-uci": (30, {"dataset": "uci-har", "partition": "iid", "local-epochs": 1}),
    "planted": (12, {}),
    "drift": (12, {"finetune-epochs": 0}),
}
"""Clients and settings; one local epoch for UCI HAR, whose updates are long to make."""


DRIFT = 17
"""The round after which users change their group: in the middle of the preset's 35."""


class Moved(SyntheticSource):
    """Synthetic users, of whom the first quarter is in the next group."""

    def group(self, settings: DataSettings, index: int) -> int:
        """Return the group of a user after the drift."""
        moved = index < settings.synthetic_users // 4
        return (super().group(settings, index) + moved) % settings.synthetic_groups


class Found(Observer):
    """Keeps the clusters and how they came about, and stops a run after a round."""

    def __init__(self, last: int = 0) -> None:
        self.labels: dict[str, int] = {}
        self.note = ""
        self.last, self.round = last, 0
        self.after: dict[int, dict[str, int]] = {}  # groups by round
        self.changes: list[str] = []
        self.report: RunReport | None = None

    def stop(self) -> bool:
        """Tell whether the run is to end here."""
        return self.last > 0 and self.round >= self.last

    def on_clusters(self, labels: Mapping[str, int], note: str) -> None:
        """Keep them."""
        self.labels, self.note = dict(labels), note or self.note

    def on_round(self, record: RoundRecord, total_rounds: int) -> None:
        """Keep the groups of the round."""
        self.round = record.round
        self.after[record.round] = self.labels
        self.changes += [
            f"{record.round}: {one.what} {', '.join(one.clients)} {one.before} -> {one.after}"
            for one in record.changes
        ]

    def on_finish(self, report: RunReport) -> None:
        """Keep it."""
        self.report = report


def find(case: str, seed: int, data_dir: str) -> tuple[Settings, Found]:
    """Hold the warm-up and one round in clusters."""
    clients, changes = CASES[case]
    config = _config(case, seed)
    config |= {"cluster-rounds": 1, "prune-rounds": 0, "average-last": 0}
    if "partition" in changes:
        config["num-clients"] = clients
    if data_dir and case == "iid-uci":
        config["data-dir"] = data_dir
    settings, found = Settings.from_run_config(config), Found()
    strategy = make_strategy(settings, found)
    strategy.personalise = False
    arrays: ArrayRecord = to_record(initial_arrays(settings))
    with batched_grid(settings, clients) as grid:
        strategy.start(grid, arrays, num_rounds=settings.rounds.total)
    return settings, found


def _config(case: str, seed: int) -> dict[str, Any]:
    config: dict[str, Any] = tomllib.loads(PRESET.read_text(encoding="utf-8")) | CASES[case][1]
    return config | {"clusters": "auto", "seed": seed, "data-seed": seed, "engine": "batched"}


def drift(seed: int) -> bool:
    """Hold a run with a drift and one without; print and judge how the groups follow."""
    before = Settings.from_run_config(_config("drift", seed))
    data = replace(before.data, dataset=f"{Moved.__module__}:{Moved.__qualname__}")
    after = replace(before, data=data)
    with tempfile.TemporaryDirectory() as folder:
        kept = Checkpoints(Path(folder))
        first, seen, steady = Found(DRIFT), Found(), Found()
        try:
            _whole(before, first, kept)
        except RunError:  # it was told to end there
            seen.labels = first.labels
            _whole(after, seen, kept, resume=kept.load())
    _whole(after, steady)
    truth = [Moved().group(data, k) for k in range(data.synthetic_users)]
    indices = {k: _index(truth, groups) for k, groups in seen.after.items()}
    back = min((k for k in indices if all(indices[m] >= 0.9 for m in indices if m >= k)), default=0)
    scores = [_accuracy(one) for one in (seen, steady)]
    typer.echo(
        f"drift {seed}: index before {_index(planted_groups(before.data), first.labels):.2f}"
    )
    typer.echo(f"  with drift: {'; '.join(first.changes + seen.changes) or 'nobody moved'}")
    typer.echo(f"  without: {'; '.join(steady.changes) or 'nobody moved'}")
    typer.echo(
        f"  index at least 0.9 from round {back} on; cluster models {scores[0]:.2f} %, without "
        f"drift {scores[1]:.2f} %"
    )
    return DRIFT < back <= DRIFT + 10 and scores[0] >= scores[1] - 1.0


def _whole(settings: Settings, found: Found, kept: Checkpoints | None = None, **how: Any) -> None:
    strategy = make_strategy(settings, found, kept, found.stop)
    arrays = to_record(initial_arrays(settings))
    with batched_grid(settings, settings.data.synthetic_users) as grid:
        strategy.start(grid, arrays, num_rounds=settings.rounds.total, **how)


def _index(truth: Any, groups: Mapping[str, int]) -> float:
    from sklearn.metrics import adjusted_rand_score

    placed = [truth[int(label.rpartition("-")[2])] for label in sorted(groups)]
    return float(adjusted_rand_score(placed, [groups[label] for label in sorted(groups)]))


def _accuracy(found: Found) -> float:
    clients = found.report.clients if found.report else ()
    known = [c.cluster_accuracy for c in clients if c.cluster_accuracy is not None]
    return 100 * float(np.mean(known))


def main(
    seeds: Annotated[int, typer.Option(help="How many.")] = 5,
    first: Annotated[int, typer.Option(help="The first of them.")] = 0,
    case: Annotated[list[str] | None, typer.Option(help="Only these.")] = None,
    data_dir: Annotated[str, typer.Option(help="UCI HAR: archive or folder.")] = "",
) -> None:
    """Print for each seed what was found, and for each case how often it was right."""
    for name in case or [one for one in CASES if one != "iid-uci" or data_dir]:
        right = 0
        for seed in range(first, first + seeds):
            if name == "drift":
                right += drift(seed)
                continue
            settings, found = find(name, seed, data_dir)
            labels = [found.labels[label] for label in sorted(found.labels)]
            if name == "planted":
                score = _index(planted_groups(settings.data), found.labels)
                right += score >= 0.9
                typer.echo(f"{name} {seed}: index {score:.2f}; {found.note}")
            else:
                right += max(labels) == 0
                typer.echo(f"{name} {seed}: {np.bincount(labels).tolist()}; {found.note}")
        typer.echo(f"{name}: right {right} of {seeds}")


if __name__ == "__main__":
    typer.run(main)
