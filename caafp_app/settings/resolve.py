"""All settings of a run: read once from Flower's run configuration, checked, and written back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self, cast

from caafp_app.errors import SettingsError
from caafp_app.settings.course import RoundSettings, RunSettings, WireSettings
from caafp_app.settings.data import DataSettings
from caafp_app.settings.knob import Scalar, key_of
from caafp_app.settings.method import ClusterSettings, ModelSettings, PruneSettings, TrainSettings
from caafp_app.settings.names import CHAINS, hint

GROUPS: dict[str, type[Any]] = {
    "run": RunSettings,
    "data": DataSettings,
    "model": ModelSettings,
    "train": TrainSettings,
    "rounds": RoundSettings,
    "clustering": ClusterSettings,
    "pruning": PruneSettings,
    "wire": WireSettings,
}


REPLACED = {"tensorboard": 'write track="tensorboard"'}
"""Settings of earlier releases, and what to write now."""


class Knob(NamedTuple):
    """One setting as a person reads it: its group, key, default, and what it may be."""

    group: str
    key: str
    default: Scalar
    expected: str
    comment: str


def knobs() -> Iterator[Knob]:
    """Yield every setting, group by group, in the order of their declaration."""
    for group, cls in GROUPS.items():
        for item in fields(cls):
            rule, default = item.metadata["rule"], cast(Scalar, item.default)
            expected = rule.expected(type(default))
            yield Knob(group, key_of(item.name), default, expected, rule.comment)


@dataclass(frozen=True)
class Settings:
    """The settings of one run, valid in themselves and together.

    Raises
    ------
    SettingsError
        Two groups contradict each other: what was expected, what was found.
    """

    run: RunSettings = field(default_factory=RunSettings)
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    rounds: RoundSettings = field(default_factory=RoundSettings)
    clustering: ClusterSettings = field(default_factory=ClusterSettings)
    pruning: PruneSettings = field(default_factory=PruneSettings)
    wire: WireSettings = field(default_factory=WireSettings)

    def __post_init__(self) -> None:
        """Check what concerns more than one group."""
        _check_rounds(self)
        _check_clusters(self)
        _check_filters(self)
        _check_aggregation(self)

    @classmethod
    def from_run_config(cls, config: Mapping[str, object]) -> Self:
        """Build the settings from flat kebab-case keys, as ``context.run_config`` has them.

        Parameters
        ----------
        config : Mapping[str, bool | int | float | str]
            Keys that are left out take their defaults.

        Returns
        -------
        Settings
            Every value checked.

        Raises
        ------
        SettingsError
            A key is unknown (the nearest known one is named), a value has another type or is not
            allowed, or values contradict each other.
        """
        group_of = {knob.key: knob.group for knob in knobs()}
        found: dict[str, dict[str, object]] = {group: {} for group in GROUPS}
        for key, value in config.items():
            if key in REPLACED:
                raise SettingsError(f"{key}: this setting has gone; {REPLACED[key]}")
            if key not in group_of:
                raise SettingsError(
                    f"unknown setting {key!r}{hint(key, group_of)} (`caafp settings` lists all)"
                )
            found[group_of[key]][key.replace("-", "_")] = value
        return cls(**{group: GROUPS[group](**values) for group, values in found.items()})

    def to_dict(self) -> dict[str, Scalar]:
        """Return all values under their flat kebab-case keys: the inverse of `from_run_config`."""
        return {
            knob.key: getattr(getattr(self, knob.group), knob.key.replace("-", "_"))
            for knob in knobs()
        }

    def changes(self) -> dict[str, Scalar]:
        """Return the values that differ from their defaults, under their flat kebab-case keys."""
        mine = self.to_dict()
        return {knob.key: mine[knob.key] for knob in knobs() if mine[knob.key] != knob.default}


def _check_rounds(settings: Settings) -> None:
    rounds, pruning = settings.rounds, settings.pruning
    if settings.run.strategy == "caafp":
        _check_pruning(rounds, pruning)
    if rounds.evaluate_every > rounds.total:
        raise SettingsError(
            f"evaluate-every: expected at most the {rounds.total} rounds of the run, or 0 for "
            f"none, found {rounds.evaluate_every}"
        )


def _check_pruning(rounds: RoundSettings, pruning: PruneSettings) -> None:
    """Refuse masks that could not evolve; the other methods have no rounds for that."""
    if pruning.sparsity > pruning.initial_sparsity and not rounds.prune_rounds:
        raise SettingsError(
            f"prune-rounds: expected at least 1, because sparsity {pruning.sparsity:g} is reached "
            "in them, found 0; set sparsity to 0 (or to initial-sparsity) to prune nothing"
        )
    if rounds.prune_rounds and pruning.prune_every > rounds.prune_rounds:
        raise SettingsError(
            f"prune-every: expected at most prune-rounds ({rounds.prune_rounds}), "
            f"found {pruning.prune_every}"
        )
    if pruning.sparsity and rounds.prune_rounds == 1 and not rounds.cluster_rounds:
        raise SettingsError(
            "prune-rounds: expected at least 2 where cluster-rounds is 0, because a round in "
            "clusters comes before the first mask update and one after it, found 1"
        )


def _check_aggregation(settings: Settings) -> None:
    """Refuse a robust mean where no mean is taken."""
    if settings.run.strategy == "clusterfl" and settings.rounds.aggregation != "mean":
        raise SettingsError(
            f"aggregation: expected mean, found {settings.rounds.aggregation}: in clusterfl every "
            "client has a model of its own, and there is nothing to take a mean of"
        )


def _check_filters(settings: Settings) -> None:
    """Refuse to cut filters of a network whose layers do not form a chain."""
    if settings.run.strategy == "caafp" and settings.pruning.granularity == "filter":
        key = "granularity 'filter'"
    elif settings.run.strategy == "efficientfl":
        key = "strategy 'efficientfl'"
    else:
        return
    if settings.model.model not in CHAINS:
        raise SettingsError(
            f"model: {key} cuts whole filters, which takes a plain chain of layers; expected one "
            f"of {', '.join(CHAINS)}, found {settings.model.model!r}"
        )


def _check_clusters(settings: Settings) -> None:
    clustering, rounds = settings.clustering, settings.rounds
    # `clusters = 0` makes two at least; how many more is not known before the updates are.
    fewest = clustering.clusters or 2
    if fewest * rounds.cluster_floor > rounds.clients_per_round:
        raise SettingsError(
            f"clients-per-round: expected at least {fewest * rounds.cluster_floor} "
            f"({fewest} clusters x cluster-floor {rounds.cluster_floor}), "
            f"found {rounds.clients_per_round}"
        )
    clients = settings.data.known_clients
    if clients is None:
        return
    if clustering.clusters > clients:
        raise SettingsError(
            f"clusters: expected at most the {clients} clients of the run, "
            f"found {clustering.clusters}"
        )
    if clustering.clusters * clustering.min_cluster_size > clients:
        raise SettingsError(
            f"min-cluster-size: {clustering.clusters} clusters of at least "
            f"{clustering.min_cluster_size} need "
            f"{clustering.clusters * clustering.min_cluster_size} clients, found {clients}"
        )
