"""Settings of a run: a validated dataclass per group; a field is a key with ``_`` for ``-``."""

from caafp_app.settings.data import DataSettings as DataSettings
from caafp_app.settings.knob import Scalar as Scalar
from caafp_app.settings.method import AUTO as AUTO
from caafp_app.settings.method import ClusterSettings as ClusterSettings
from caafp_app.settings.method import PruneSettings as PruneSettings
from caafp_app.settings.method import TrainSettings as TrainSettings
from caafp_app.settings.resolve import GROUPS as GROUPS
from caafp_app.settings.resolve import Knob as Knob
from caafp_app.settings.resolve import Settings as Settings
from caafp_app.settings.resolve import knobs as knobs
