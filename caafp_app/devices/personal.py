"""One personal model in its folder: weights and card; never sent. `kept` holds those of all runs.

One file, ``personal.safetensors``, holds the weights and, as its metadata, the card: what the
model takes, what it tells apart, and how good it was. So the two cannot come apart, and the file
is whole or the old one. ``personal.json`` beside it is the card for people.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.datasets.base import ClientData
from caafp_app.datasets.form import read_form
from caafp_app.datasets.resolve import NodeConfig
from caafp_app.errors import DataError, ProtocolError, RunError, reading
from caafp_app.runs.files import write_json
from caafp_app.runs.tensors import PRIVATE, read_tensors, write_tensors
from caafp_app.settings import Settings

MODEL, CARD = "personal.safetensors", "personal.json"
OWN_FILE = "own.safetensors"
"""The second model of a device, trained beside its cluster's in each round of one run."""
VERSION = 2
_MAX_BYTES = 2**30
_KEY = "caafp"


@dataclass(frozen=True)
class Card:
    """What there is to know of a personal model besides its weights.

    Attributes
    ----------
    label, model : str
        The client's, and of the network.
    input_shape : tuple of int
        Of a window, ``(time, channels)``.
    class_names : tuple of str
        In the order of the network's outputs.
    channels : tuple of str
        In the order of the windows' last axis; empty where nobody named them.
    sampling_rate : float
        Hz; 0 where nobody said.
    mean, deviation : tuple of float
        Of each channel, by which windows are scaled first; empty where they are not.
    sparsity : float
        Share of the prunable weights that are pruned.
    train_examples, test_examples : int
        Windows that it learnt from, and was judged on.
    cluster_accuracy, personal_accuracy : float or None
        On the device's own test windows, before and after fine-tuning; None without any.
    finetune_epochs : int or None
        That it was fine-tuned, where the client found how many: 0, it is the cluster's model.
    written : str
        When, in UTC.
    run, run_name : str
        Its id in Flower, as ``flwr ls`` shows it; ``run-name``, empty where nobody named it.
    version : int
        Of this file's form.
    """

    label: str
    model: str
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    channels: tuple[str, ...] = ()
    sampling_rate: float = 0.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    sparsity: float = 0.0
    train_examples: int = 0
    test_examples: int = 0
    cluster_accuracy: float | None = None
    personal_accuracy: float | None = None
    finetune_epochs: int | None = None
    written: str = ""
    run: str = ""
    run_name: str = ""
    version: int = VERSION

    @classmethod
    def from_json(cls, text: str, where: Path) -> Self:
        """Read what `keep_personal` wrote; raise DataError if it is anything else."""
        with reading(f"the model card in {where}", DataError):
            values = json.loads(text)
            if values["version"] != VERSION:
                raise DataError(
                    f"{where}: expected version {VERSION}, found {values['version']}; personalise "
                    "again, or use the version of this app that wrote it"
                )
            given: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in values.items()
            }
            card = cls(**given)
            card._check()
            return card

    def _check(self) -> None:
        """Raise TypeError where a value that a model is built from is of no use for it."""
        own = (self.label, self.model, self.run, self.run_name, self.written)
        texts = (*own, *self.class_names, *self.channels)
        scores = (self.cluster_accuracy or 0.0, self.personal_accuracy or 0.0)
        numbers = (self.sampling_rate, *self.mean, *self.deviation, *scores)
        sizes = all(isinstance(size, int) and 0 < size < 10**6 for size in self.input_shape)
        if not (
            sizes
            and len(self.input_shape)
            and len(self.class_names)
            and all(isinstance(text, str) for text in texts)
            and all(isinstance(number, int | float) for number in numbers)
            and len(self.mean) == len(self.deviation)
            and len(self.mean) in (0, self.input_shape[-1])
        ):
            raise TypeError("a value of another kind than this version writes")


def card_of(
    settings: Settings,
    node_config: NodeConfig,
    data: ClientData,
    arrays: Mapping[str, NDArray[Any]],
    mask: Mapping[str, NDArray[np.bool_]] | None,
    metrics: Mapping[str, int | float],
    run: str = "",
) -> Card:
    """Describe a personal model: what it takes and tells apart, and how good it was.

    Raises ProtocolError if the weights hold NaN or infinity.
    """
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ProtocolError("training diverged: the personal model holds NaN or infinity")
    form = read_form(Path(str(node_config["data-path"])).expanduser())
    bits = [layer.reshape(-1) for layer in (mask or {}).values()]
    scaling = data.scaling
    return Card(
        data.label,
        settings.model.model,
        data.input_shape,
        data.class_names,
        settings.data.names_of_channels or form.channels,
        settings.data.sampling_rate or form.sampling_rate,
        () if scaling is None else tuple(scaling.mean.tolist()),
        () if scaling is None else tuple(scaling.deviation.tolist()),
        1.0 - float(np.concatenate(bits).mean()) if bits else _cut_away(settings, data, arrays),
        len(data.train_y),
        len(data.test_y),
        _known(metrics, "cluster-accuracy"),
        _known(metrics, "personal-accuracy"),
        None if (epochs := metrics.get("finetune-epochs")) is None else int(epochs),
        run=run,
        run_name=settings.run.run_name,
    )


def _cut_away(settings: Settings, data: ClientData, arrays: Mapping[str, NDArray[Any]]) -> float:
    """Return the share of the network's weights that a smaller network lacks."""
    from caafp_app.models import build_model  # imports torch

    whole = build_model(settings.model.model, data.input_shape, len(data.class_names), seed=0)
    weights = sum(p.numel() for p in whole.parameters() if p.ndim > 1)
    left = sum(array.size for array in arrays.values() if array.ndim > 1)
    return max(1.0 - left / weights, 0.0) if weights else 0.0


def _known(metrics: Mapping[str, int | float], name: str) -> float | None:
    value = metrics.get(name, math.nan)
    return float(value) if math.isfinite(value) else None


def keep_personal(folder: Path, arrays: Mapping[str, NDArray[Any]], card: Card) -> None:
    """Write a personal model and its card, for their owner alone to read; or raise RunError."""
    written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    values = {**asdict(card), "written": written}
    # A mode holds for the last folder of a path alone.
    with _kept(folder.parent, folder, what="the personal model"):
        write_tensors(folder / MODEL, arrays, {_KEY: json.dumps(values)}, mode=PRIVATE)
        write_json(folder / CARD, values, private=True)


@contextmanager
def _kept(*folders: Path, what: str) -> Iterator[None]:
    """Make folders that their owner alone can read, and say what cannot be kept in the last."""
    try:
        for folder in folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except (OSError, RunError) as error:
        raise RunError(
            f"state-dir {folders[-1]}: expected to keep {what} there, found: {error}"
        ) from error


def load_personal(folder: Path) -> tuple[dict[str, NDArray[Any]], Card]:
    """Read what `keep_personal` wrote; raise DataError if there is none, or it is damaged."""
    path = folder / MODEL
    if not path.is_file():
        raise DataError(
            f"{path}: expected the personal model of this device, found nothing; a run leaves it "
            "after its personalise phase, in the state-dir of the SuperNode's node-config"
        )
    try:
        arrays, metadata = read_tensors(path, limit=_MAX_BYTES)
    except RunError as error:
        raise DataError(f"{path}: expected a model that is whole, found {error}") from error
    return arrays, Card.from_json(metadata.get(_KEY, ""), path)


def keep_own(state: Path, arrays: Mapping[str, NDArray[Any]], run: str) -> None:
    """Write the second model of a run into a ``state-dir``, for its owner alone."""
    with _kept(state, what="this device's own model"):
        write_tensors(state / OWN_FILE, arrays, {"run": run}, mode=PRIVATE)


def load_own(state: Path, run: str) -> dict[str, NDArray[Any]]:
    """Return what `keep_own` wrote for this run; empty if there is none, or it is damaged."""
    try:
        arrays, told = read_tensors(state / OWN_FILE, limit=_MAX_BYTES)
    except RunError:
        return {}
    return arrays if told.get("run") == run else {}
