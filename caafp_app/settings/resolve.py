"""All settings of a run: read once from Flower's run configuration, checked, and written back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self, cast

from caafp_app.errors import SettingsError
from caafp_app.registry import hint, is_path
from caafp_app.settings.course import RoundSettings, RunSettings, WireSettings
from caafp_app.settings.data import DataSettings
from caafp_app.settings.knob import Scalar, checked, key_of
from caafp_app.settings.method import ClusterSettings, ModelSettings, PruneSettings, TrainSettings
from caafp_app.settings.removed import REMOVED

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


def check_value(key: str, value: object) -> None:
    """Raise SettingsError where no run could have this value of the setting `key`."""
    for cls in GROUPS.values():
        for item in fields(cls):
            if key_of(item.name) == key:
                checked(key, value, type(item.default), item.metadata["rule"])


@dataclass(frozen=True)
class Settings:
    """The settings of one run, valid in themselves and together."""

    run: RunSettings = field(default_factory=RunSettings)
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    rounds: RoundSettings = field(default_factory=RoundSettings)
    clustering: ClusterSettings = field(default_factory=ClusterSettings)
    pruning: PruneSettings = field(default_factory=PruneSettings)
    wire: WireSettings = field(default_factory=WireSettings)

    def __post_init__(self) -> None:
        rounds, clusters, clients = self.rounds, self.clustering.fixed, self.data.known_clients
        if rounds.evaluate_every > rounds.total:
            raise SettingsError(
                f"evaluate-every: expected at most the {rounds.total} rounds of the run, or 0 for "
                f"none, found {rounds.evaluate_every}"
            )
        # `clusters = 0` makes two at least; how many more is not known before the updates are.
        fewest = clusters or 2
        if fewest * rounds.cluster_floor > rounds.clients_per_round:
            raise SettingsError(
                f"clients-per-round: expected at least {fewest * rounds.cluster_floor} "
                f"({fewest} clusters x cluster-floor {rounds.cluster_floor}), "
                f"found {rounds.clients_per_round}"
            )
        if clients is not None and clusters > clients:
            raise SettingsError(
                f"clusters: expected at most the {clients} clients of the run, found {clusters}"
            )

    @classmethod
    def from_run_config(cls, config: Mapping[str, object]) -> Self:
        """Build the settings from flat kebab-case keys, as ``context.run_config`` has them.

        Raises SettingsError for a key that is unknown or removed, and values that may not be.
        """
        group_of = {knob.key: knob.group for knob in knobs()}
        found: dict[str, dict[str, object]] = {group: {} for group in GROUPS}
        for key, value in config.items():
            if key in REMOVED:
                raise SettingsError(f"{key}: no setting any more; {REMOVED[key]}")
            if key not in group_of:
                raise SettingsError(
                    f"unknown setting {key!r}{hint(key, group_of)} (`caafp settings` lists all)"
                )
            found[group_of[key]][key.replace("-", "_")] = value
        return cls(**{group: GROUPS[group](**values) for group, values in found.items()})

    def paths(self) -> Iterator[tuple[str, str]]:
        """Yield the settings that name an object by its path, with the path."""
        for group in GROUPS:
            values = getattr(self, group)
            for item in fields(values):
                value = getattr(values, item.name)
                if item.metadata["rule"].paths and is_path(value):
                    yield key_of(item.name), value

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
