"""Whether groups are found where there are some, and none where there are none.

    python -m benchmarks.structure                          # iid digits, planted groups
    python -m benchmarks.structure --data-dir PATH          # and iid UCI HAR
    python -m benchmarks.structure --case iid-digits --seeds 20

Warm-up rounds alone are held, with the preset `caafp`; each seed deals the data out anew.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from flwr.app import ArrayRecord

from caafp_app.datasets.synthetic import planted_groups
from caafp_app.engine.run import batched_grid
from caafp_app.protocol.messages import to_record
from caafp_app.runs.observer import Observer
from caafp_app.server_app import initial_arrays
from caafp_app.settings import Settings
from caafp_app.strategies.factory import make_strategy

PRESET = Path(__file__).parents[1] / "conf" / "caafp.toml"
CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "iid-digits": (12, {"dataset": "digits", "model": "digits-cnn", "partition": "iid"}),
    "iid-uci": (30, {"dataset": "uci-har", "partition": "iid", "local-epochs": 1}),
    "planted": (12, {}),
}
"""Clients and settings; one local epoch for UCI HAR, whose updates are long to make."""


class Found(Observer):
    """Keeps the clusters and how they came about."""

    def __init__(self) -> None:
        self.labels: dict[str, int] = {}
        self.note = ""

    def on_clusters(self, labels: Any, note: str) -> None:
        """Keep them."""
        self.labels, self.note = dict(labels), note


def find(case: str, seed: int, data_dir: str) -> tuple[Settings, Found]:
    """Hold the warm-up and one round in clusters."""
    clients, changes = CASES[case]
    config: dict[str, Any] = tomllib.loads(PRESET.read_text(encoding="utf-8")) | changes
    config |= {"cluster-rounds": 1, "prune-rounds": 0, "average-last": 0, "clusters": "auto"}
    config |= {"seed": seed, "data-seed": seed, "engine": "batched"}
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


def main(
    seeds: Annotated[int, typer.Option(help="How many, from 0.")] = 5,
    case: Annotated[list[str] | None, typer.Option(help="Only these.")] = None,
    data_dir: Annotated[str, typer.Option(help="UCI HAR: archive or folder.")] = "",
) -> None:
    """Print for each seed what was found, and for each case how often it was right."""
    from sklearn.metrics import adjusted_rand_score

    for name in case or [one for one in CASES if one != "iid-uci" or data_dir]:
        right = 0
        for seed in range(seeds):
            settings, found = find(name, seed, data_dir)
            labels = [found.labels[label] for label in sorted(found.labels)]
            if name == "planted":
                truth = planted_groups(settings.data)
                placed = [truth[int(label.rpartition("-")[2])] for label in sorted(found.labels)]
                score = float(adjusted_rand_score(placed, labels))
                right += score >= 0.9
                typer.echo(f"{name} {seed}: index {score:.2f}; {found.note}")
            else:
                right += max(labels) == 0
                typer.echo(f"{name} {seed}: {np.bincount(labels).tolist()}; {found.note}")
        typer.echo(f"{name}: right {right} of {seeds}")


if __name__ == "__main__":
    typer.run(main)
