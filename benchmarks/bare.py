"""The training of a run's rounds in one bare torch process: ``-m benchmarks.bare FILE``.

No messages, no masks, no Flower: torch's own Adam over the same clients, windows, epochs and
batches, and one evaluation of the received model for each client, as our clients do. FILE holds the
flat settings as JSON. Prints the wall and CPU seconds of each round as JSON.
"""

import json
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from caafp_app.datasets.base import ClientData
from caafp_app.datasets.resolve import data_shape, describe_client, load_client
from caafp_app.models import build_model
from caafp_app.runner.roster import Client, generator, sample
from caafp_app.settings import Settings, TrainSettings


def train(model: nn.Module, data: ClientData, how: TrainSettings) -> None:
    """Evaluate the model as it is, then train it for a client's local epochs."""
    with torch.no_grad():
        model.eval()
        logits = model(torch.from_numpy(data.test_x))
        (logits.argmax(1) == torch.from_numpy(data.test_y)).sum().item()
    model.train()
    windows, classes = torch.from_numpy(data.train_x), torch.from_numpy(data.train_y)
    optimiser = torch.optim.Adam(model.parameters(), lr=how.learning_rate)
    for _ in range(how.local_epochs):
        for batch in torch.split(torch.randperm(len(classes)), how.batch_size):
            optimiser.zero_grad()
            loss = functional.cross_entropy(model(windows[batch]), classes[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()


def rounds(settings: Settings, nodes: int) -> tuple[list[float], list[float]]:
    """Return wall and CPU seconds of each round, with the clients that the strategy samples."""
    torch.set_num_threads(1)
    configs = [{"partition-id": place, "num-partitions": nodes} for place in range(nodes)]
    labels = [describe_client(settings.data, config).label for config in configs]
    places = {label: place for place, label in enumerate(labels)}
    clients = [Client(label, places[label]) for label in sorted(labels)]
    shape = data_shape(settings.data)
    model = build_model(
        settings.model.model, shape.input_shape, len(shape.class_names), settings.run.seed
    )
    train(model, load_client(settings.data, configs[0]), settings.train)  # imports and buffers
    wall, cpu = [], []
    for number in range(1, settings.rounds.total + 1):
        rng = generator(settings.run.seed, number, "sample")
        chosen = sample(clients, settings.rounds.clients_per_round, rng)
        parts = [load_client(settings.data, configs[client.node]) for client in chosen]
        began, used = time.perf_counter(), time.process_time()
        for data in parts:
            train(model, data, settings.train)
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    return wall, cpu


def main() -> None:
    """Run what the file says."""
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(rounds(Settings.from_run_config(given["settings"]), given["nodes"])))


if __name__ == "__main__":
    main()
