"""Three devices with recordings of their own, and the settings that go with them."""

from pathlib import Path

import numpy as np

from tests.e2e import guide

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


def write_walks(folder: Path, number: int = 0, samples: int = 1400) -> Path:
    """Write the recording of a device as the guide describes it; return the folder.

    Who walks swings at 2 Hz, who sits does not; both are noisy.
    """
    folder.mkdir(parents=True)
    (folder / "dataset.toml").write_text(guide.blocks()["form"], encoding="utf-8")
    head = guide.blocks()["recording"].splitlines()[0]
    rng = np.random.default_rng(number)
    swing = np.sin(2 * np.pi * 2 * np.arange(samples) / 50)[:, None] * [1.0, 0.5, 0.2]
    rows = [head]
    for label, signal in (("walking", swing), ("sitting", 0 * swing)):
        values = signal + rng.normal(0, 0.5, swing.shape)
        rows += [",".join([label, *(f"{value:.3f}" for value in row)]) for row in values]
    (folder / "walk.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder
