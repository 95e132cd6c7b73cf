"""The training of `benchmarks.bare` by pfl's own simulation: ``-m benchmarks.bare_pfl FILE``.

The same network, clients, windows, epochs, batches and optimiser, through pfl's federated averaging
in one process. pfl's favour: its clients neither shuffle nor evaluate. Wants ``pip install pfl``;
prints what `benchmarks.bare` prints.
"""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import MinimizeReuseUserSampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn
from torch.nn import functional

from caafp_app.datasets.resolve import data_shape, load_client
from caafp_app.models import build_model
from caafp_app.settings import Settings


class Trained(nn.Module):
    """A network with the loss that pfl asks it for."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def loss(self, windows: Tensor, classes: Tensor) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        self.train()
        return functional.cross_entropy(self.network(windows), classes)

    def metrics(self, windows: Tensor, classes: Tensor) -> dict[str, float]:
        """Evaluate nothing."""
        return {}


class Stopwatch(TrainingProcessCallback):
    """Notes the clocks after each round."""

    def __init__(self) -> None:
        self.wall, self.cpu = [time.perf_counter()], [time.process_time()]

    def after_central_iteration(self, *_: object, **__: object) -> tuple[bool, Metrics]:
        """Go on."""
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())
        return False, Metrics()


def rounds(settings: Settings, nodes: int) -> tuple[list[float], list[float]]:
    """Return wall and CPU seconds of each round; all clients' windows are in memory before."""
    torch.set_num_threads(1)
    parts = {}
    for place in range(nodes):
        part = load_client(settings.data, {"partition-id": place, "num-partitions": nodes})
        parts[place] = Dataset((torch.from_numpy(part.train_x), torch.from_numpy(part.train_y)))
    clients = FederatedDataset(parts.__getitem__, MinimizeReuseUserSampler(list(parts)))
    shape = data_shape(settings.data)
    model = Trained(
        build_model(
            settings.model.model, shape.input_shape, len(shape.class_names), settings.run.seed
        )
    )
    watch = Stopwatch()
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=settings.rounds.total,
            evaluation_frequency=settings.rounds.total + 1,
            train_cohort_size=settings.rounds.clients_per_round,
            val_cohort_size=None,
        ),
        SimulatedBackend(clients, clients, postprocessors=[WeightByDatapoints()]),
        PyTorchModel(model, torch.optim.Adam, torch.optim.SGD(model.parameters(), lr=1.0)),
        NNTrainHyperParams(
            local_batch_size=settings.train.batch_size,
            local_num_epochs=settings.train.local_epochs,
            local_learning_rate=settings.train.learning_rate,
        ),
        callbacks=[watch],
        send_metrics_to_platform=False,
    )
    walls, cpus = (
        [after - before for before, after in pairwise(clock)] for clock in (watch.wall, watch.cpu)
    )
    return walls, cpus


def main() -> None:
    """Run what the file says."""
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(rounds(Settings.from_run_config(given["settings"]), given["nodes"])))


if __name__ == "__main__":
    main()
