"""What is chosen by name: one table per kind, open to other packages.

To add a network, a data set, a strategy or any other kind of part: write one file, and add one line
to its table below. A package outside adds its own without touching this one, in one of two ways:

- an entry point in its `pyproject.toml`: ``[project.entry-points."caafp_app.networks"]`` with
  ``mine = "my_package.net:MyNet"``; the setting is then ``model = "mine"``;
- the path of the object in place of a name: ``model = "my_package.net:MyNet"``.

This module imports none of the parts. A setting is checked against the names before torch, pandas
or Ray is imported.
"""

import difflib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from caafp_app.errors import SettingsError

PATH_FORM = "package.module:Name"
"""How the path of an object is written."""

_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
# A folder's name has at most 120 characters. It has two plain names in it, a time and a seed.
_LONGEST_NAME = 40


class Registry(Mapping[str, Any]):
    """The parts of one kind, by name. A part is imported when it is first asked for.

    `kind` is what they are called in error messages, such as ``strategy``. Other packages add
    theirs to the entry-point group ``caafp_app.<group>``. `parts` are the paths of the built-in
    ones, in the form `PATH_FORM`.
    """

    def __init__(self, kind: str, group: str, parts: Mapping[str, str]) -> None:
        self.kind = kind
        self.group = f"caafp_app.{group}"
        self._paths = dict(parts)

    @property
    def builtin(self) -> tuple[str, ...]:
        """The names of this package's own parts."""
        return tuple(self._paths)

    def __iter__(self) -> Iterator[str]:
        yield from self._paths
        yield from (name for name in self._foreign if name not in self._paths)

    def __len__(self) -> int:
        return len(tuple(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._paths or name in self._foreign

    def __getitem__(self, name: str) -> Any:
        """Return the part of a name, or of a path.

        Raises SettingsError if no part has this name, or it cannot be imported.
        """
        path = self._paths.get(name)
        if path is None and name in self._foreign:
            path = self._foreign[name].value
        if path is None:
            if not is_path(name):
                raise SettingsError(
                    f"{self.kind}: expected one of {', '.join(self)} or {PATH_FORM}, found "
                    f"{name!r}{hint(name, self)}"
                )
            path = name
        return load(self.kind, path)

    def accepts(self, name: str) -> bool:
        """Tell whether `name` is a known name, or has the form of a path; imports nothing."""
        return name in self or is_path(name)

    @cached_property
    def _foreign(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}


def is_path(text: str) -> bool:
    """Tell whether `text` has the form `PATH_FORM`, in ASCII identifiers."""
    return _PATH.fullmatch(text) is not None


def load(kind: str, path: str) -> Any:
    """Import the object that `path` names; `kind` is for the message of the SettingsError."""
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(
            f"{error.name}."
        )
        if missing:
            raise _module_missing(kind, path, f"none ({error})") from error
        raise SettingsError(
            f"{kind}: expected to import {module_name!r}, found: {error}; install what it needs"
        ) from error
    try:
        return getattr(module, name)
    except AttributeError:
        public = [key for key in vars(module) if not key.startswith("_")]
        raise SettingsError(
            f"{kind}: expected {name!r} in {module_name}, found none{hint(name, public)}"
        ) from None


def check_installed(kind: str, path: str) -> None:
    """Look for the outermost package of a path, and import nothing; a name is always found."""
    top = path.partition(":")[0].partition(".")[0]
    if is_path(path) and top not in sys.modules and not importlib.util.find_spec(top):
        raise _module_missing(kind, path, "none")


def _module_missing(kind: str, path: str, found: str) -> SettingsError:
    return SettingsError(
        f"{kind}: expected the module {path.partition(':')[0]!r} of {path!r} on the path of this "
        f"Python, found {found}; install it, or put its folder on PYTHONPATH (the app that Flower "
        "ships holds caafp_app alone)"
    )


def plain_name(name: str) -> str:
    """Return a part of a file's name: of a path the object's name in lower case; else `name`."""
    return name.partition(":")[2].lower()[:_LONGEST_NAME] if is_path(name) else name


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `word`; None where nothing is like it."""
    by_lower = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[matches[0]] if matches else None


def hint(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or an empty string."""
    name = nearest(word, known)
    return f"; did you mean {name!r}?" if name else ""


STRATEGIES = Registry(
    "strategy",
    "strategies",
    {
        "caafp": "caafp_app.strategies.caafp:CAAFP",
        "fedavg": "caafp_app.strategies.fedavg:FedAvg",
        "fedsnip": "caafp_app.strategies.fedsnip:FedSNIP",
        "heterofl": "caafp_app.strategies.heterofl:HeteroFL",
        "cahfp": "caafp_app.strategies.cahfp:CAHFP",
        "efficientfl": "caafp_app.strategies.efficientfl:EfficientFL",
        "fedchar": "caafp_app.strategies.fedchar:FedCHAR",
        "clusterfl": "caafp_app.strategies.clusterfl:ClusterFL",
    },
)
SCORES = Registry(
    "score",
    "scores",
    {
        "magnitude": "caafp_app.pruning.scores:magnitude",
        "coherence": "caafp_app.pruning.scores:coherence",
        "coherence-paper": "caafp_app.pruning.scores:coherence_paper",
        "consistency": "caafp_app.pruning.scores:consistency",
        "curvature": "caafp_app.pruning.scores:curvature",
        "staleness": "caafp_app.pruning.staleness:staleness",
    },
)
SUMS = Registry(
    "sum",
    "sums",
    {
        "moves": "caafp_app.pruning.sums:Moves",
        "squares": "caafp_app.pruning.sums:Squares",
        "signs": "caafp_app.pruning.sums:Signs",
    },
)
AGGREGATIONS = Registry(
    "aggregation",
    "aggregations",
    {
        "mean": "caafp_app.runner.aggregation:mean",
        "trimmed-mean": "caafp_app.runner.aggregation:trimmed_mean",
        "median": "caafp_app.runner.aggregation:median",
        "multi-krum": "caafp_app.runner.aggregation:multi_krum",
        "geometric-median": "caafp_app.runner.aggregation:geometric_median",
    },
)
ALLOCATIONS = Registry(
    "allocation",
    "allocations",
    {
        "uniform": "caafp_app.pruning.allocation:uniform",
        "erk": "caafp_app.pruning.allocation:erk",
        "global": "caafp_app.pruning.allocation:global_",
        "quota": "caafp_app.pruning.allocation:quota",
    },
)
SCHEDULES = Registry(
    "schedule",
    "schedules",
    {
        "one-shot": "caafp_app.pruning.schedule:one_shot",
        "linear": "caafp_app.pruning.schedule:linear",
        "cubic": "caafp_app.pruning.schedule:cubic",
    },
)
CODECS = Registry(
    "codec",
    "codecs",
    {
        "float32": "caafp_app.protocol.codec:FLOAT32",
        "float16": "caafp_app.protocol.codec:FLOAT16",
        "int8": "caafp_app.protocol.quantise:INT8",
    },
)
NETWORKS = Registry(
    "model",
    "networks",
    {
        "har-cnn": "caafp_app.models.har_cnn:HarCNN",
        "digits-cnn": "caafp_app.models.digits_cnn:DigitsCNN",
        "deep-conv-lstm": "caafp_app.models.deep_conv_lstm:DeepConvLSTM",
        "resnet1d": "caafp_app.models.resnet1d:ResNet1d",
        "transformer": "caafp_app.models.transformer:TransformerEncoder",
        "sensor-fusion": "caafp_app.models.sensor_fusion:SensorFusion",
    },
)
DATASETS = Registry(
    "dataset",
    "datasets",
    {
        "synthetic": "caafp_app.datasets.synthetic:SyntheticSource",
        "digits": "caafp_app.datasets.digits:DigitsSource",
        "uci-har": "caafp_app.datasets.uci_har:UciHarSource",
        "wisdm": "caafp_app.datasets.wisdm:WisdmSource",
        "npz": "caafp_app.datasets.npz:NpzSource",
        "folder": "caafp_app.datasets.folder:FolderSource",
        "hf": "caafp_app.datasets.hugging_face:HuggingFaceSource",
    },
)
TRACKERS = Registry(
    "track",
    "trackers",
    {
        "tensorboard": "caafp_app.runs.tensorboard:TensorBoardObserver",
        "mlflow": "caafp_app.runs.mlflow:MLflowObserver",
    },
)
OPTIMISERS = Registry(
    "optimizer",
    "optimizers",
    {
        "adam": "caafp_app.training.optimizers:Adam",
        "sgd": "caafp_app.training.optimizers:Momentum",
        "prunadag": "caafp_app.training.optimizers:PrunAdag",
    },
)
