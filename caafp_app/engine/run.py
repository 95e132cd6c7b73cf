"""A whole run on the batched engine, as a function."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from logging import INFO

from flwr.common.logger import log

from caafp_app import server_app
from caafp_app.datasets.base import ClientData
from caafp_app.datasets.resolve import load_client
from caafp_app.engine.grid import BatchedGrid
from caafp_app.engine.pool import Pool
from caafp_app.settings import DataSettings, Scalar, Settings


def simulate(settings: Settings, clients: int, client_cpus: int = 1) -> None:
    """Run a simulation in this process, without Ray, and leave a run directory.

    In a script of your own, call it below ``if __name__ == "__main__":``, because the processes of
    a pool import the script. Raises CaafpError like any run.

    Parameters
    ----------
    settings : Settings
        With ``output-dir`` and ``run-name``. ``device=cpu``: clients run in a pool of processes.
        Else they are trained in this process, all of a round as one stack.
    clients : int
        Simulated clients.
    client_cpus : int
        Cores that one client occupies in a pool.
    """
    pooled = settings.train.device == "cpu"
    how = "in a pool of processes" if pooled else f"as one stack on {settings.train.device}"
    log(INFO, "engine batched: %s clients %s", clients, how)
    with batched_grid(settings, clients, client_cpus) as grid:
        server_app.run(grid, settings)


@contextmanager
def batched_grid(settings: Settings, clients: int, client_cpus: int = 1) -> Iterator[BatchedGrid]:
    """Make the grid of `simulate`, for a strategy of one's own, and end its processes after it."""
    if settings.train.device == "cpu":
        pool = Pool(settings.to_dict(), max(1, min(_cores() // client_cpus, clients)))
        try:
            yield BatchedGrid(settings, clients, pool)
        finally:
            pool.close()
        return
    from caafp_app.engine.answer import answer_all
    from caafp_app.engine.perform import Together

    kept: dict[object, ClientData] = {}

    def load(data: DataSettings, node_config: Mapping[str, Scalar]) -> ClientData:
        # The same arrays each time: they stay on the device for as long as these are kept.
        place = node_config["partition-id"]
        if place not in kept:
            kept[place] = load_client(data, node_config)
        return kept[place]

    answer = partial(answer_all, perform=Together(settings.train.device), load=load)
    yield BatchedGrid(settings, clients, answer)


def _cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
