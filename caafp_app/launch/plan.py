"""What ``caafp run`` will do, settled before anything is started."""

import os
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from caafp_app.datasets import source_of
from caafp_app.errors import SettingsError
from caafp_app.runs.place import default_home, find_run
from caafp_app.settings import Settings


@dataclass(frozen=True)
class Machine:
    """Where a run takes place: on the devices of a connection `superlink`, or in a simulation.

    A simulated client occupies `client_cpus` cores and a share `client_gpus` of a GPU while it
    works; so many run at once as that allows. None stands for one client for each of the data, and
    for a share that follows the cores with ``device=cuda``. `client_logs`: what they log is shown.
    """

    superlink: str | None = None
    supernodes: int | None = None
    client_cpus: int = 1
    client_gpus: float | None = None
    client_logs: bool = False

    def federation_config(self) -> str:
        """Return the value of ``flwr run --federation-config``."""
        return (
            f"num-supernodes={self.supernodes or 0} "
            f"client-resources-num-cpus={self.client_cpus} "
            f"client-resources-num-gpus={float(self.client_gpus or 0.0)} "
            f"init-args-log-to-driver={'true' if self.client_logs else 'false'}"
        )


def count_supernodes(settings: Settings, asked: int | None) -> int:
    """Return the number of SuperNodes of a simulation: as asked, or one per client of the data."""
    data = settings.data
    if data.dataset == "folder":
        raise SettingsError(
            "dataset 'folder' is read by real devices (--superlink NAME); a simulation has none. "
            "Expected another dataset, such as npz"
        )
    found = asked if asked is not None else _clients(settings)
    for key, least in (
        ("clusters", settings.clustering.fixed),
        ("min-available-nodes", settings.rounds.min_available_nodes),
    ):
        if found < least:
            raise SettingsError(
                f"{key}: expected at most the number of clients, {found}, found {least}; set {key}="
            )
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


def about_seats(settings: Settings, asked: int) -> list[str]:
    """Return a note where a simulation has more or fewer SuperNodes than its data has clients."""
    divided = settings.data.partition != "natural"
    clients = settings.data.num_clients or asked if divided else _clients(settings)
    if asked > clients:
        return [f"{asked - clients} of {asked} SuperNodes take no part: the data has {clients}"]
    left = f"the data of {clients - asked} of {clients} clients is not used: there are {asked}"
    return [f"{left} SuperNodes"] if asked < clients else []


def gpu_share(settings: Settings, asked: float | None, client_cpus: int) -> float:
    """Return the share of a GPU per client: as asked, or so that all cores can work at once."""
    if asked is not None:
        return asked
    if settings.train.device != "cuda":
        return 0.0
    return round(1.0 / max(1, (os.cpu_count() or 1) // client_cpus), 4)


def check_share(settings: Settings, client_cpus: int, client_gpus: float | None) -> list[str]:
    """Refuse a client that would wait for ever for more of this machine than there is.

    Returns a note where a share of a GPU changes nothing. Raises SettingsError if the client is to
    occupy more cores or GPUs than this machine has, and Ray runs here alone; or the share is none
    that Ray takes: 0 to 1, or a whole number.
    """
    asked = 0.0 if client_gpus is None else client_gpus
    if not (0.0 <= asked <= 1.0 or (asked.is_integer() and asked > 0)):
        raise SettingsError(
            f"--client-gpus: expected a share from 0 to 1, or a whole number, found {asked:g}"
        )
    if settings.run.engine != "ray":
        return ["--client-gpus has no effect: engine is not ray"] if asked else []
    cores = os.cpu_count() or 1
    if not os.environ.get("RAY_ADDRESS"):
        if not 1 <= client_cpus <= cores:
            raise SettingsError(
                f"--client-cpus: expected at most the {cores} cores here, found {client_cpus}"
            )
        if asked:
            import torch

            if asked > (there := torch.cuda.device_count()):
                raise SettingsError(
                    f"--client-gpus: expected at most the {there} GPUs that torch "
                    f"{torch.__version__} can use here, found {asked:g}; leave it out, or install "
                    "a torch for this GPU"
                )
    if asked and settings.train.device != "cuda":
        return [f"--client-gpus holds a GPU that device={settings.train.device} does not use"]
    return []


def named(settings: Settings, now: datetime) -> Settings:
    """Give a run a name, where it has none: ``<time>-<strategy>-<dataset>-<seed>``."""
    run = settings.run
    if run.run_name or run.resume_from:
        return settings
    dataset = settings.data.dataset_name
    name = f"{now:%Y%m%d-%H%M%S}-{run.strategy_name}-{dataset}-{run.seed}"
    return replace(settings, run=replace(run, run_name=name))


def placed(settings: Settings, now: datetime) -> tuple[Settings, Path]:
    """Say where a local run leaves its results: a folder that does not exist yet, or one to resume.

    The app works in another folder than the caller: relative paths are made absolute here. Raises
    SettingsError if there is no run to resume, or no home directory.
    """
    settings = named(settings, now)
    run, data = settings.run, settings.data
    home = Path(run.output_dir).expanduser() if run.output_dir else default_home()
    home = home.resolve()
    if data.data_dir and (data.dataset != "hf" or Path(data.data_dir).expanduser().exists()):
        data = replace(data, data_dir=str(Path(data.data_dir).expanduser().resolve()))
    if settings.rounds.known_devices:
        folder = Path(settings.rounds.known_devices).expanduser().resolve()
        rounds = replace(settings.rounds, known_devices=str(folder))
        settings = replace(settings, rounds=rounds)
    if run.resume_from:
        results = find_run(run.resume_from, home)
        run = replace(run, output_dir=str(home), resume_from=str(results))
        return replace(settings, run=run, data=data), results
    name, number = run.run_name, 1
    while (home / "runs" / name).exists():
        number += 1
        name = f"{run.run_name}-{number}"
    run = replace(run, output_dir=str(home), run_name=name)
    return replace(settings, run=run, data=data), home / "runs" / name
