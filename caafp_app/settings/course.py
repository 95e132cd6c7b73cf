"""Settings of a run's course: what is run, in which rounds, with whom, and how it travels."""

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from caafp_app import registry
from caafp_app.errors import SettingsError
from caafp_app.registry import PATH_FORM, TRACKERS, hint
from caafp_app.settings.knob import Group, Scalar, knob

# One plain name, so that a run cannot leave the folder of the runs.
_FOLDER = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.+=@,-]{0,118}[A-Za-z0-9_+=@-])?")

_FORM = "the inside of a TOML inline table, as \"sharing=0.4, linkage='complete'\""


def parse_arguments(text: str) -> Mapping[str, Scalar]:
    """Return the arguments of the inside of a TOML inline table by name, ``-`` becoming ``_``.

    Raises SettingsError if it is none, a name is no name of an argument, or a value is no finite
    scalar.
    """
    try:
        parsed = tomllib.loads(f"arguments = {{{text}}}")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"strategy-args: expected {_FORM}, found {text!r} ({error})") from error
    if len(parsed) != 1:  # the text closed the table, and began another key
        raise SettingsError(f"strategy-args: expected {_FORM}, found {text!r}")
    found: dict[str, Scalar] = {}
    for key, value in parsed["arguments"].items():
        name = key.replace("-", "_")
        if not name.isidentifier() or name.startswith("_") or name in found:
            raise SettingsError(
                f"strategy-args: expected names of arguments, each once, found {key!r}"
            )
        if not isinstance(value, bool | int | float | str) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            raise SettingsError(
                f"strategy-args: expected {key} to be a finite number, true, false or a string, "
                f"found {value!r}"
            )
        found[name] = value
    return found


@dataclass(frozen=True)
class RunSettings(Group):
    """What is run, from which seed, and where its results go."""

    strategy: str = knob("caafp", "the method, or a class of your own", choices=registry.STRATEGIES)
    strategy_args: str = knob(
        "", "arguments of its constructor, as \"sharing=0.4, linkage='complete'\""
    )
    seed: int = knob(42, "weights, sampling, local shuffling; fixes a run", low=0)
    output_dir: str = knob("", "results go to runs/ below it; empty: $CAAFP_HOME or ~/.caafp")
    run_name: str = knob("", "folder of the run; empty: <time>-<strategy>-<dataset>-<seed>")
    engine: str = knob(
        "ray", "what runs simulated clients; batched: without Ray", choices=("ray", "batched")
    )
    track: str = knob("", 'trackers that record the run in its folder, as "tensorboard,mlflow"')
    checkpoint_every: int = knob(1, "rounds between checkpoints; 0: none", low=0)
    resume_from: str = knob("", "run to go on with: its folder, name, or latest; empty: none")

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_arguments(self.strategy_args)
        if self.run_name and (not _FOLDER.fullmatch(self.run_name) or self.run_name == "latest"):
            raise SettingsError(
                "run-name: expected a folder's name (letters, digits and . _ - + = @ , inside, at "
                f"most 120) other than 'latest', found {self.run_name!r}"
            )
        unknown = [name for name in self.trackers if not TRACKERS.accepts(name)]
        if unknown or len(set(self.trackers)) < len(self.trackers):
            raise SettingsError(
                f"track: expected names of {', '.join(TRACKERS)}, or {PATH_FORM}, each once, with "
                f"commas between, found {self.track!r}{hint((*unknown, '')[0], TRACKERS)}"
            )

    @property
    def trackers(self) -> tuple[str, ...]:
        """The names in ``track``."""
        return tuple(name.strip() for name in self.track.split(",")) if self.track.strip() else ()

    @property
    def strategy_name(self) -> str:
        """The strategy as a part of a file's name: see `registry.plain_name`."""
        return registry.plain_name(self.strategy)

    @property
    def strategy_arguments(self) -> Mapping[str, Scalar]:
        """``strategy-args`` by name; the strategy says which it knows."""
        return parse_arguments(self.strategy_args)


@dataclass(frozen=True)
class RoundSettings(Group):
    """How many rounds each phase has, and who takes part in one."""

    warmup_rounds: int = knob(15, "rounds of one dense model, before clustering", low=0)
    cluster_rounds: int = knob(15, "dense rounds inside the clusters", low=0)
    prune_rounds: int = knob(20, "rounds in which the masks evolve", low=0)
    clients_per_round: int = knob(10, "clients sampled for a round", low=1)
    cluster_floor: int = knob(0, "at least so many of each cluster in a round", low=0)
    evaluate_every: int = knob(0, "rounds between evaluations of all clients; 0: none", low=0)
    min_available_nodes: int = knob(1, "SuperNodes to wait for", low=1)
    round_timeout: float = knob(600.0, "seconds to wait for a reply", above=0.0)
    deadline: float = knob(
        0.0, "seconds a round may take a device before its level falls; 0: none", low=0.0
    )
    average_last: int = knob(0, "rounds whose models are averaged at the end; 0: none", low=0)
    min_replies: int = knob(
        0, "replies that a round needs; then it leaves out who is much slower; 0: any", low=0
    )
    known_devices: str = knob(
        "", "folder of the devices' public keys, LABEL.pub; empty: the first key seen for a label"
    )
    unseen_users: str = knob(
        "", "users kept out of training and scored at the end: how many, or labels with commas"
    )
    aggregation: str = knob("mean", "of the updates in a cluster", choices=registry.AGGREGATIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.total == 0:
            raise SettingsError(
                "warmup-rounds + cluster-rounds + prune-rounds: expected at least 1, found 0"
            )
        if self.min_replies > self.clients_per_round:
            raise SettingsError(
                f"min-replies: expected at most clients-per-round ({self.clients_per_round}), "
                f"found {self.min_replies}"
            )

    @property
    def total(self) -> int:
        """Rounds of training in the whole run."""
        return self.warmup_rounds + self.cluster_rounds + self.prune_rounds


@dataclass(frozen=True)
class WireSettings(Group):
    """In which number format the arrays travel."""

    down_dtype: str = knob(
        "float32", "weights to the clients", choices=registry.CODECS, names_only=True
    )
    up_dtype: str = knob(
        "float32", "updates from the clients", choices=registry.CODECS, names_only=True
    )
    rest_dtype: str = knob("float32", "biases and norms, both ways", choices=("float32", "float16"))
