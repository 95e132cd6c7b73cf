"""How long to fine-tune: rules side by side, from the cluster models of finished runs.

    caafp run caafp dataset=uci-har data-dir=PATH validation-fraction=0.2 engine=batched \
        finetune-epochs=0 seed=42 run-name=base-42
    python -m benchmarks.personal curves RUNS/base-42 42.json --data-dir PATH
    python -m benchmarks.personal rules 42.json ...
    python -m benchmarks.personal again RUNS/base-42 --data-dir PATH

See README.md for what each of them does.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from flwr.app import Context, RecordDict
from rich.console import Console
from rich.table import Table

from caafp_app import training
from caafp_app.client import tasks
from caafp_app.client.finetune import HELD_SHARE
from caafp_app.client.objectives import plain
from caafp_app.client.work import Work
from caafp_app.datasets.resolve import load_client
from caafp_app.datasets.split import hold_out
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Request
from caafp_app.runs.reading import read_run
from caafp_app.runs.tensors import read_tensors
from caafp_app.settings import Settings
from caafp_app.training.local import epochs

AVERAGED = 5
"""Epochs whose weights the averaged model is the mean of."""

Curve = Mapping[str, list[float]]
app = typer.Typer(help=__doc__, add_completion=False, pretty_exceptions_show_locals=False)
Run = Annotated[Path, typer.Argument(help="A run directory.")]
DataDir = Annotated[str, typer.Option(help="As the setting data-dir.")]
People = Annotated[str, typer.Option(help="Numbers of clients, from 0, with commas; all if empty.")]


class _Here(Work):
    """A client's work with the mask that its cluster had in the end."""

    masks: Mapping[int, dict[str, Any]]

    @property
    def mask(self) -> dict[str, Any] | None:
        assert self.request is not None
        return self.masks[self.request.cluster]


def works(path: Path, data_dir: str, people: str, told: Mapping[str, Any]) -> Iterator[Work]:
    """Make what a request to personalise asks of each client of a run."""
    run = read_run(path)
    known = {name: value for name, value in run.settings.items() if name in Settings().to_dict()}
    settings = Settings.from_run_config(known | {"data-dir": data_dir} | dict(told))
    spared = settings.pruning.spares_first, settings.pruning.spares_last
    models, masks = {}, {}
    for cluster, bits in run.masks().items():
        models[cluster], _ = read_tensors(path / "models" / f"cluster-{cluster}.safetensors")
        layout = Layout.of(models[cluster], spare_first=spared[0], spare_last=spared[1])
        masks[cluster] = Mask.unpack(layout, bits).by_layer()
    of = {client.label: client.cluster for client in run.clients}
    for number in map(int, people.split(",")) if people else range(len(of)):
        node = {"partition-id": number, "num-partitions": len(of)}
        data = load_client(settings.data, node)
        cluster = of[data.label]
        round_ = settings.rounds.total + 1
        work = _Here(
            content=RecordDict(),
            context=Context(1, 1, node, RecordDict(), {}),
            settings=settings,
            request=Request(Action.PERSONALISE, round=round_, cluster=cluster),
            data=data,
            received=models[cluster],
            network=tasks.Network(settings.model.model, data.input_shape, len(data.class_names)),
        )
        object.__setattr__(work, "masks", masks)
        yield work


def scored(work: Work, x: Any, y: Any, windows: Any, classes: Any) -> dict[str, list[float]]:
    """Train on some windows; score the model, and the mean of its last weights, by epoch."""
    model = tasks.network_on(work.network, "cpu")
    training.load_arrays(model, work.received)
    found: dict[str, list[float]] = {"right": [], "loss": [], "right-averaged": []}
    last: list[torch.Tensor] = []

    def add() -> None:
        score = training.evaluate(model, windows, classes)
        found["right"].append(score.accuracy)
        found["loss"].append(score.loss)

    add()
    found["right-averaged"].append(found["right"][0])
    for _ in epochs(model, x, y, work.how(), work.mask, work.received):
        add()
        values = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        last = [*last[1 - AVERAGED :], values]
        _put(torch.stack(last).mean(0), model)
        found["right-averaged"].append(training.evaluate(model, windows, classes).accuracy)
        _put(values, model)
    return found


def _put(values: torch.Tensor, model: torch.nn.Module) -> None:
    """Copy one vector into the parameters, which stay views of what the optimiser moves."""
    sizes = [parameter.numel() for parameter in model.parameters()]
    for parameter, part in zip(model.parameters(), values.split(sizes), strict=True):
        parameter.data.copy_(part.view_as(parameter))


@app.command()
def curves(run: Run, data_dir: DataDir, output: Path, people: People = "") -> None:
    """Train each client without its last train windows, and on all; score it after each epoch."""
    torch.set_num_threads(1)
    made: dict[str, Any] = {}
    for work in works(run, data_dir, people, {"finetune-epochs": "auto"}):
        data = work.data
        split = hold_out(data, HELD_SHARE)
        x, y = data.train_x, data.train_y
        part, held = split.train, split.held_out
        made[data.label] = {
            "held": scored(work, x[part], y[part], x[held], y[held]),
            "all": scored(work, x, y, data.test_x, data.test_y),
            "windows": len(held),
        }
        output.write_text(json.dumps(made), encoding="utf-8")


def stopped(
    client: Mapping[str, Any],
    patience: int,
    least: int = 1,
    *,
    margin: float,
    loss: bool = False,
) -> int:
    """Return the best epoch of at least `least`, or 0 where the start is better by a margin."""
    held: Curve = client["held"]
    order = [(0.0 if loss else a, -b) for a, b in zip(held["right"], held["loss"], strict=True)]
    best = least
    for epoch in range(least, len(order)):
        if order[epoch] > order[best]:
            best = epoch
        if epoch - best >= patience:
            break
    ahead = round((held["right"][0] - held["right"][best]) * client["windows"])
    if margin == 0:
        return 0 if order[0] >= order[best] else best
    return 0 if ahead >= margin else best


RULES: Mapping[str, Callable[[Mapping[str, Any]], int]] = {
    "patience 5, the better of the two": lambda c: stopped(c, 5, margin=0),
    "patience 10, the better of the two": lambda c: stopped(c, 10, margin=0),
    "patience 5, margin 5": lambda c: stopped(c, 5, margin=5),
    "patience 10, margin 5": lambda c: stopped(c, 10, margin=5),
    "patience 15, margin 5": lambda c: stopped(c, 15, margin=5),
    "patience 15, always personal": lambda c: stopped(c, 15, margin=math.inf),
    "patience 10, margin 5, loss alone": lambda c: stopped(c, 10, margin=5, loss=True),
    "patience 10, margin 5, 5 epochs or more": lambda c: stopped(c, 10, 5, margin=5),
    "patience 10, margin 5, 10 or more": lambda c: stopped(c, 10, 10, margin=5),
    "patience 10, margin 5, 20 or more": lambda c: stopped(c, 10, 20, margin=5),
    "patience 15, margin 5, then 25 or more": lambda c: (
        (e := stopped(c, 15, margin=5)) and max(e, 25)
    ),
    "3 epochs": lambda _: 3,
    "10 epochs": lambda _: 10,
    "25 epochs": lambda _: 25,
}


@app.command()
def rules(files: Annotated[list[Path], typer.Argument(help="Files of curves.")]) -> None:
    """Print what each rule would have come to, for the people of the files."""
    runs = [list(json.loads(path.read_text(encoding="utf-8")).values()) for path in files]
    table = Table("rule", "personal %", "spread", "weights averaged %", "median epochs", "kept")
    for name, rule in RULES.items():
        found = [[rule(client) for client in run] for run in runs]
        right, averaged = (
            100
            * np.array(
                [
                    [c["all"][kind][e] for c, e in zip(*pair, strict=True)]
                    for pair in zip(runs, found, strict=True)
                ]
            )
            for kind in ("right", "right-averaged")
        )
        by_run = ", ".join(f"{value:.2f}" for value in right.mean(1))
        table.add_row(
            name,
            f"{right.mean():.2f} ({by_run})",
            f"{right.std(1).mean():.1f}",
            f"{averaged.mean():.2f}",
            f"{np.median(found):g}",
            str(int((np.array(found) == 0).sum())),
        )
    Console(width=120).print(table)


@app.command()
def again(run: Run, data_dir: DataDir, people: People = "", epochs: str = "auto") -> None:
    """Do the personalise phase again by the client's own code; print a line for each client."""
    torch.set_num_threads(1)
    told = {"finetune-epochs": int(epochs) if epochs.isdigit() else epochs}
    rows = []
    for work in works(run, data_dir, people, told):
        row = tasks.run(_personalised(work), "cpu")
        print(work.data.label, *(f"{value:g}" for value in row), flush=True)
        rows.append(row)
    taken, before, after = np.array(rows).T
    tenth = np.sort(after)[: max(len(after) // 10, 1)].mean()
    print(
        f"personal {100 * after.mean():.2f} % (spread {100 * after.std():.2f}, worst "
        f"{100 * after.min():.1f}, worst tenth {100 * tenth:.1f}), "
        f"cluster {100 * before.mean():.2f} %, "
        f"median epochs {np.median(taken):g}, kept their cluster's model: {(taken == 0).sum()}"
    )


def _personalised(work: Work) -> tasks.Tasks[tuple[int, float, float]]:
    trained = yield from plain(work, work.received)
    before = yield from work.score("cluster", work.received)
    after = yield from work.score("personal", trained.model)
    return trained.epochs, before["cluster-accuracy"], after["personal-accuracy"]


if __name__ == "__main__":
    app()
