"""What ``caafp run`` will do, settled before anything is started."""

import importlib.util
import os
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from caafp_app.datasets import source_of
from caafp_app.errors import RunError, SettingsError
from caafp_app.launch.presets import to_toml
from caafp_app.registry import check_installed
from caafp_app.runs.place import default_home, find_run
from caafp_app.runs.tensorboard import require_tensorboard
from caafp_app.settings import Settings


@dataclass(frozen=True)
class Simulation:
    """How many clients Flower simulates, and what each may use of this machine.

    Attributes
    ----------
    supernodes : int
        Simulated clients.
    client_cpus : int
        Cores that one client occupies while it works; so many run at once as that allows.
    client_gpus : float
        Share of a GPU, likewise.
    client_logs : bool
        Whether what clients log is streamed too.
    """

    supernodes: int
    client_cpus: int = 1
    client_gpus: float = 0.0
    client_logs: bool = False

    def federation_config(self) -> str:
        """Return the value of ``flwr run --federation-config``."""
        return (
            f"num-supernodes={self.supernodes} "
            f"client-resources-num-cpus={self.client_cpus} "
            f"client-resources-num-gpus={float(self.client_gpus)} "
            f"init-args-log-to-driver={'true' if self.client_logs else 'false'}"
        )


def count_supernodes(settings: Settings, asked: int | None) -> int:
    """Return the number of SuperNodes of a simulation: as asked, or one per client of the data.

    Raises
    ------
    SettingsError
        The data does not say how many clients there are, or there are too few for the settings.
    DataError
        The data cannot be read.
    """
    data = settings.data
    if data.dataset == "folder":
        raise SettingsError(
            "dataset 'folder' is read by real devices (--superlink NAME); a simulation has none. "
            "Expected another dataset, such as npz"
        )
    found = asked if asked is not None else _clients(settings)
    for key, least in (
        ("clusters", settings.clustering.clusters),
        ("min-available-nodes", settings.rounds.min_available_nodes),
    ):
        if found < least:
            raise SettingsError(f"{key}: expected at most the {found} SuperNodes, found {least}")
    return found


def _clients(settings: Settings) -> int:
    known = settings.data.known_clients
    if known is not None:
        return known
    if settings.data.partition != "natural":
        raise SettingsError(
            f"num-clients: partition {settings.data.partition!r} needs to know how many clients to "
            "make; expected num-clients=N or --num-supernodes N, found neither"
        )
    return source_of(settings.data.dataset).population(settings.data)


def gpu_share(settings: Settings, asked: float | None, client_cpus: int) -> float:
    """Return the share of a GPU per client: as asked, or so that all cores can work at once."""
    if asked is not None:
        return asked
    if settings.train.device != "cuda":
        return 0.0
    return round(1.0 / max(1, (os.cpu_count() or 1) // client_cpus), 4)


def placed(settings: Settings, now: datetime) -> tuple[Settings, Path]:
    """Fix where a local run leaves its results, so that the caller knows it beforehand.

    The app works in another folder than the caller: relative paths are made absolute here.

    Returns
    -------
    Settings
        With ``output-dir``, ``run-name``, ``data-dir`` and ``known-devices`` filled in.
    Path
        The run directory; it does not exist yet, unless it is of a run to resume.

    Raises
    ------
    SettingsError
        There is no run to resume.
    """
    run, data = settings.run, settings.data
    home = Path(run.output_dir).expanduser() if run.output_dir else default_home()
    home = home.resolve()
    data_dir = str(Path(data.data_dir).expanduser().resolve()) if data.data_dir else ""
    data = replace(data, data_dir=data_dir)
    if settings.rounds.known_devices:
        folder = Path(settings.rounds.known_devices).expanduser().resolve()
        rounds = replace(settings.rounds, known_devices=str(folder))
        settings = replace(settings, rounds=rounds)
    if run.resume_from:
        results = find_run(run.resume_from, home)
        run = replace(run, output_dir=str(home), resume_from=str(results))
        return replace(settings, run=run, data=data), results
    stamp = now.strftime("%Y%m%d-%H%M%S")
    wanted = run.run_name or f"{stamp}-{run.strategy_name}-{data.dataset_name}-{run.seed}"
    name, number = wanted, 1
    while (home / "runs" / name).exists():
        number += 1
        name = f"{wanted}-{number}"
    run = replace(run, output_dir=str(home), run_name=name)
    return replace(settings, run=run, data=data), home / "runs" / name


def check_machine(settings: Settings, results: Path) -> None:
    """Look for Ray and the modules that settings name, read the data, make the folder of the runs.

    All of it before anything is started.

    What is wrong with them is then told once and at once, not by every client; what was parsed or
    downloaded is in the cache when the clients come.

    Parameters
    ----------
    settings : Settings
        Of a simulation, from `placed`.
    results : Path
        The run directory; it is not made.

    Raises
    ------
    DataError
        The data cannot be read.
    SettingsError
        There cannot be a run directory, or a module that a setting names is nowhere to be found.
    RunError
        Flower's simulation is not installed, or TensorBoard, which is asked for.
    """
    if settings.run.engine == "ray" and importlib.util.find_spec("ray") is None:
        raise RunError(
            "engine 'ray' needs Ray, found none; install the extra 'simulation' (`pip install "
            '"caafp-app[simulation]"`, or `make setup` in a clone), set engine=batched, which '
            "needs none, or run on real devices by --superlink NAME"
        )
    if settings.run.tensorboard:
        require_tensorboard()
    for key, path in settings.paths():
        check_installed(key, path)
    if settings.data.dataset != "synthetic":
        source_of(settings.data.dataset).windows(settings.data)
    try:
        results.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(results.parent, os.W_OK | os.X_OK)
        reason = "" if writable else "not to be written to"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise SettingsError(
            f"output-dir: expected a folder that can be written, found {results.parent}: {reason}"
        )


def write_run_config(settings: Settings, folder: Path) -> Path:
    """Write all settings to a TOML file for ``flwr run --run-config``, and return its path."""
    path = folder / "run-config.toml"
    path.write_text(to_toml(settings.to_dict()), encoding="utf-8")
    return path
