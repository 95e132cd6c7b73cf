"""Three devices with recordings of their own, and the settings that go with them."""

from pathlib import Path

import numpy as np

SHAPE, CLASSES, WINDOWS = (128, 9), 6, 60
"""Of UCI HAR, whose model is that of the paper: 89 254 parameters, 357 kB in float32."""

SETTINGS: dict[str, str | int | float | bool] = {
    "dataset": "folder",
    "input-shape": "128,9",
    "classes": str(CLASSES),
    "min-available-nodes": 3,
    "clients-per-round": 3,
    "local-epochs": 1,
    "finetune-epochs": 1,
}


def write_devices(folder: Path, count: int = 3) -> list[Path]:
    """Write each device's windows to a file of its own: ``device-0.npz`` ...

    Classes differ in frequency, and devices in their noise.
    """
    paths = []
    for number in range(count):
        rng = np.random.default_rng(number)
        y = np.arange(WINDOWS) % CLASSES
        time = np.arange(SHAPE[0])[None, :, None] * (1 + y[:, None, None]) / 8
        phase = rng.uniform(0, 2 * np.pi, (WINDOWS, 1, SHAPE[1]))
        x = np.sin(time + phase) + rng.normal(0, 0.3, (WINDOWS, *SHAPE))
        paths.append(folder / f"device-{number}.npz")
        np.savez(paths[-1], X=x.astype(np.float32), y=y)
    return paths
