"""Clients that are not users: all windows pooled and dealt out by their labels, by flwr-datasets.

Two things are done so that the labels are all that is skewed. The pooled windows are shuffled first
(by ``data-seed``), so that a client's share of a class comes from all users; the partitioners
themselves take runs of neighbours. And *time* is where a window stands in its user's recordings of
its class, from 0 to 1: a client's test part is then the last fifth of everybody's recordings, and
never falls, half overlapping, into the middle of what another client trains on.
"""

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from caafp_app.datasets.base import IntArray, Windows, source_of
from caafp_app.errors import SettingsError
from caafp_app.settings import DataSettings

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner

MIN_WINDOWS = 2
"""Every client has at least so many."""


class Part(NamedTuple):
    """What one client got: rows of the data set's windows, and the `recording_time` of each."""

    rows: IntArray
    time: npt.NDArray[np.float64]


@lru_cache(maxsize=2)
def partitions(settings: DataSettings, clients: int) -> tuple[Part, ...]:
    """Deal the windows of a data set out to clients; remembered in this process.

    ``partition`` is ``dirichlet``, ``shards`` or ``iid``. No row is in two parts; every row is in
    one, but for shards: these are of one size, so that fewer windows than there are shards are left
    over.

    Raises SettingsError if there are too few windows for so many clients, Dirichlet leaves clients
    without any, or flwr-datasets is not installed.
    """
    windows = source_of(settings.dataset).windows(settings)
    labels = windows.y
    each = MIN_WINDOWS
    if settings.partition == "shards":
        each = max(each, settings.shards_per_client)
    if len(labels) < clients * each:
        raise SettingsError(
            f"partition {settings.partition!r}: expected at least {clients * each} windows for "
            f"{clients} clients (num-clients, or the number of SuperNodes), found {len(labels)}; "
            "use fewer clients"
        )
    order = np.random.default_rng(settings.data_seed).permutation(len(labels))
    time = recording_time(windows)
    dealt = (np.sort(order[rows]) for rows in _deal(labels[order], settings, clients))
    return tuple(Part(rows, time[rows]) for rows in dealt)


def recording_time(windows: Windows) -> npt.NDArray[np.float64]:
    """Return where each window stands in its user's recordings of its class, float64 ``[n]``.

    Above 0 and below 1: of ``m`` windows the k-th has ``(k + 0.5) / m``.
    """
    # Stable: inside a (user, class) group the rows keep their order, which is that of recording.
    order = np.lexsort((windows.y, windows.user))
    pairs = np.stack([windows.user[order], windows.y[order]])
    starts = np.flatnonzero(np.concatenate([[True], (pairs[:, 1:] != pairs[:, :-1]).any(axis=0)]))
    sizes = np.diff(np.concatenate([starts, [len(order)]]))
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    time = np.empty(len(order), np.float64)
    time[order] = (rank + 0.5) / np.repeat(sizes, sizes)
    return time


def _deal(labels: IntArray, settings: DataSettings, clients: int) -> list[IntArray]:
    try:
        from datasets import Dataset
        from flwr_datasets import partitioner as dealers
    except ImportError as error:
        raise SettingsError(
            f"partition {settings.partition!r}: expected flwr-datasets, found that {error.name!r} "
            "is not installed; install the extra ('pip install caafp-app[simulation]'), or set "
            "partition to natural"
        ) from error
    by_label: dict[str, Any] = {"partition_by": "label", "shuffle": False}
    by_label |= {"num_partitions": clients, "seed": settings.data_seed}
    dealer: Partitioner = dealers.IidPartitioner(num_partitions=clients)
    if settings.partition == "dirichlet":
        alpha = settings.partition_alpha
        dealer = dealers.DirichletPartitioner(
            **by_label, alpha=alpha, min_partition_size=MIN_WINDOWS
        )
    elif settings.partition == "shards":
        shards = settings.shards_per_client
        dealer = dealers.ShardPartitioner(**by_label, num_shards_per_partition=shards)
    dealer.dataset = Dataset.from_dict({"label": labels, "row": np.arange(len(labels))})
    try:
        with warnings.catch_warnings():
            # One per draw that left a client short; the error says it.
            warnings.simplefilter("ignore")
            parts = (dealer.load_partition(client)["row"] for client in range(clients))
            return [np.asarray(part, np.int64) for part in parts]
    except ValueError as error:
        raise SettingsError(
            f"partition {settings.partition!r}: expected at least {MIN_WINDOWS} windows for each "
            f"of {clients} clients, found no such division ({error}); use fewer clients "
            f"(num-clients) or a larger partition-alpha than {settings.partition_alpha:g}"
        ) from error
