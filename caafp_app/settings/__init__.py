"""Settings of a run: a validated dataclass per group; a field is a key with ``_`` for ``-``."""

from caafp_app.settings.course import RoundSettings, RunSettings, WireSettings
from caafp_app.settings.data import DataSettings
from caafp_app.settings.knob import Scalar
from caafp_app.settings.method import (
    AUTO,
    ClusterSettings,
    ModelSettings,
    PruneSettings,
    TrainSettings,
)
from caafp_app.settings.resolve import GROUPS, Knob, Settings, knobs

__all__ = [
    "AUTO",
    "GROUPS",
    "ClusterSettings",
    "DataSettings",
    "Knob",
    "ModelSettings",
    "PruneSettings",
    "RoundSettings",
    "RunSettings",
    "Scalar",
    "Settings",
    "TrainSettings",
    "WireSettings",
    "knobs",
]
