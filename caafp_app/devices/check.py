"""A device's data looked at before it takes part.

What a run refuses is an error here too, in the same words; what it does badly with is a remark.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from caafp_app.datasets.base import ClientData
from caafp_app.datasets.form import Form, read_form
from caafp_app.datasets.resolve import NodeConfig, load_client
from caafp_app.datasets.survey import about_size
from caafp_app.settings import DataSettings

FEW = 10
"""Windows of a class below which little is learnt of it."""
UNEVEN = 20.0
"""Times that the commonest class may be as common as the rarest."""


@dataclass(frozen=True)
class DataReport:
    """What is there: `train` and `test` are windows by class name, of all classes of the run.

    `remarks` are what is allowed and may be a mistake.
    """

    label: str
    shape: tuple[int, ...]
    form: Form
    train: Mapping[str, int]
    test: Mapping[str, int]
    remarks: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Length of a window; 0 where the sampling rate is not known."""
        return self.shape[0] / self.form.sampling_rate if self.form.sampling_rate else 0.0


def check_data(settings: DataSettings, node_config: NodeConfig) -> DataReport:
    """Load a device's data as a run would, with the errors of a run, and look at it."""
    data = load_client(settings, node_config)
    form = read_form(Path(str(node_config["data-path"])).expanduser())
    train, test = (
        dict(zip(data.class_names, np.bincount(y, minlength=len(data.class_names)), strict=True))
        for y in (data.train_y, data.test_y)
    )
    counts = {name: int(train[name]) for name in data.class_names}
    held = {name: int(test[name]) for name in data.class_names}
    remarks = [*_about_classes(counts, held), *_about_values(data, form)]
    return DataReport(data.label, data.input_shape, form, counts, held, remarks)


def _about_classes(train: Mapping[str, int], test: Mapping[str, int]) -> list[str]:
    remarks = []
    absent = [name for name, count in train.items() if not count]
    if absent:
        remarks.append(
            f"no windows of {', '.join(absent)}: fine if this device never sees them; its personal "
            "model will forget them"
        )
    few = [name for name, count in train.items() if 0 < count < FEW]
    if few:
        remarks.append(f"fewer than {FEW} windows to learn {', '.join(few)} from: record more")
    untested = [name for name, count in train.items() if count and not test[name]]
    if untested:
        remarks.append(f"no windows to test {', '.join(untested)} by: accuracy says nothing of it")
    there = [count for count in train.values() if count]
    if there and max(there) > UNEVEN * min(there):
        remarks.append(
            f"the commonest class has {max(there) / min(there):.0f} times the windows of the "
            "rarest: a model does well by naming the commonest"
        )
    return remarks


def _about_values(data: ClientData, form: Form) -> list[str]:
    remarks = []
    flat = data.train_x.reshape(-1, data.train_x.shape[-1])
    names = form.channels or tuple(f"channel {k}" for k in range(flat.shape[1]))
    still = [names[k] for k in np.flatnonzero(flat.min(axis=0) == flat.max(axis=0))]
    if still:
        remarks.append(f"{', '.join(still)} never changes: is the sensor connected?")
    remarks += about_size(np.sqrt(np.mean(np.square(flat, dtype=np.float64), axis=0)))
    distinct = len(np.unique(data.train_x.reshape(len(data.train_x), -1), axis=0))
    if distinct < len(data.train_x):
        remarks.append(
            f"{len(data.train_x) - distinct} of {len(data.train_x)} training windows are repeated"
        )
    return remarks
