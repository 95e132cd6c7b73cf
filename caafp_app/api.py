"""The Python interface: what ``caafp`` does, for a script or a notebook.

>>> import caafp_app as caafp
>>> run = caafp.run("smoke", sparsity=0.6, seed=7)      # as `caafp run smoke sparsity=0.6 seed=7`
>>> run.clients[["label", "cluster", "personal_accuracy"]]
>>> caafp.plot_rounds(run)
>>> model = run.model(cluster=0)                        # a torch module, ready for evaluation
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caafp_app.devices.personal import Card, load_personal
from caafp_app.errors import RunError
from caafp_app.launch.plan import Machine
from caafp_app.launch.prepared import prepare, start
from caafp_app.runs.palette import COLOURS
from caafp_app.runs.place import find_run
from caafp_app.runs.reading import RunFiles, read_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy import bool_
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import nn

__all__ = [
    "Card",
    "Run",
    "load_personal",
    "load_run",
    "plot_clients",
    "plot_masks",
    "plot_rounds",
    "run",
]


@dataclass(frozen=True, eq=False)
class Run:
    """A run and what it left: `files` of the run directory, read."""

    files: RunFiles

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.files.path

    @property
    def settings(self) -> Mapping[str, Any]:
        """All settings, by their names."""
        return self.files.settings

    @property
    def summary(self) -> Mapping[str, Any]:
        """``summary.json``: accuracies, bytes and seconds; empty if the run did not end."""
        return self.files.summary

    @property
    def rounds(self) -> "DataFrame":
        """A row for each exchange with the clients, in their order; columns of `RoundRecord`."""
        from pandas import DataFrame

        return DataFrame(self.files.rounds)

    @property
    def clients(self) -> "DataFrame":
        """A row for each client at the end; columns of `ClientRecord`."""
        from pandas import DataFrame

        return DataFrame([vars(client) for client in self.files.clients])

    def model(self, cluster: int | None = None) -> "nn.Module":
        """Return the trained network of a cluster, on the CPU, in evaluation mode.

        Parameters
        ----------
        cluster : int, optional
            Its number; by default the only one, or 0.

        Raises
        ------
        RunError
            There is no such cluster.
        """
        from caafp_app.export.trained import load_cluster

        return load_cluster(self.path, cluster).model

    def mask(self, cluster: int | None = None) -> "dict[str, NDArray[bool_]]":
        """Return which weights of a cluster's model are active, by array name, in its shape."""
        from caafp_app.export.trained import load_cluster

        return load_cluster(self.path, cluster).mask

    def confusion(self) -> "DataFrame":
        """Count what the clusters' models say of all clients' held-out windows, in a simulation.

        Returns
        -------
        DataFrame
            Rows are true classes, columns predicted ones. Personal models are not kept.

        Raises
        ------
        RunError, DataError
            The run has no end, or its data is not on this machine.
        """
        from pandas import DataFrame, Index

        from caafp_app.export.confusion import confusion_of

        names, counts = confusion_of(self.path)
        return DataFrame(counts, Index(names, name="true"), Index(names, name="predicted"))

    def __repr__(self) -> str:
        accuracy = self.summary.get("accuracy", {}).get("personal", {}).get("mean")
        end = "not finished" if not self.summary else f"personal accuracy {accuracy}"
        return f"Run({str(self.path)!r}: {end})"


def run(
    preset: str = "caafp",
    *,
    say: Callable[[str], None] = print,
    superlink: str | None = None,
    num_supernodes: int | None = None,
    client_cpus: int = 1,
    client_gpus: float | None = None,
    **settings: bool | int | float | str,
) -> Run:
    """Train: check a preset and your settings, run them to the end, and return the run.

    Parameters
    ----------
    preset : str
        Name of a preset (``caafp``, ``paper-uci``, ``smoke`` ...), or path of a TOML file.
    say : callable
        Takes each line of the log.
    superlink : str, optional
        Run on real devices, by this connection of your Flower configuration.
    num_supernodes, client_cpus, client_gpus
        As the options of ``caafp run``.
    **settings : bool, int, float or str
        Over the preset, with ``_`` for ``-``: ``local_epochs=2``.

    Raises
    ------
    SettingsError, DataError
        Found before anything is started.
    RunError
        The run failed, or its results are on another machine.
    KeyboardInterrupt
        It was interrupted; what there is of it can be loaded.
    """
    given = {key.replace("_", "-"): value for key, value in settings.items()}
    machine = Machine(superlink, num_supernodes, client_cpus, client_gpus)
    prepared = prepare(preset, given, machine)
    for line in prepared.lines():
        say(line)
    end = start(prepared, say)
    where = f" (files in {end.results})" if end.results else ""
    if end.complaint:
        raise RunError(end.complaint + where)
    if end.results is None or not Path(end.results).is_dir():
        raise RunError(f"the run ended well; its files are on the server's machine{where}")
    return load_run(end.results)


def load_run(name: str | Path = "latest", output_dir: str | Path = "") -> Run:
    """Return a run by its path, by its name below `output_dir`, or the latest one.

    Raises
    ------
    SettingsError
        There is no such run.
    RunError
        A file of it cannot be read.
    """
    return Run(read_run(find_run(str(name), output_dir)))


def plot_rounds(*runs: Run) -> "Figure":
    """Return a figure of accuracy by round: see `bench.figures.of_bench.draw_lines`.

    Raises RunError if no round has one.
    """
    from caafp_app.bench.figures.of_bench import draw_lines

    return _drawn(draw_lines([(one.path.name, [one.files]) for one in runs]), "accuracies")


def plot_clients(run: Run) -> "Figure":
    """Return a figure of each client's accuracy with its cluster's and with its own model."""
    from caafp_app.bench.figures.style import drawing, labelled

    clients = sorted(run.files.clients, key=lambda client: (client.cluster, client.label))
    figure, axes = drawing(max(5.0, 0.35 * len(clients)), 4.0)
    for place, model in enumerate(("cluster", "personal")):
        values = [getattr(client, f"{model}_accuracy") for client in clients]
        known = [float("nan") if value is None else 100 * value for value in values]
        axes.plot(known, "os"[place], color=COLOURS[place], label=f"{model} model")
    axes.set_xticks(range(len(clients)), [client.label for client in clients], rotation=90)
    return labelled(figure, "", "accuracy, %")  # type: ignore[no-any-return]


def plot_masks(run: Run) -> "Figure":
    """Return a figure of how much the masks of each two clusters have in common.

    Raises RunError if the run has not left two masks of sparse models.
    """
    from caafp_app.bench.figures.of_run import draw_masks

    return _drawn(draw_masks(run.files), f"masks of two clusters in {run.path}")


def _drawn(figure: "Figure | None", what: str) -> "Figure":
    if figure is None:
        raise RunError(f"expected {what}, found none to draw")
    return figure
