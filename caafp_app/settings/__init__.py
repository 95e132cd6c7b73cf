"""Settings of a run: one frozen, validated dataclass per group, built once from the run config.

A field's name is the key of ``[tool.flwr.app.config]`` with ``_`` for ``-``, unique over all
groups.
"""

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
