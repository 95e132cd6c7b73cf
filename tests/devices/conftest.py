"""A device's data, and a conversation with the ClientApp that keeps a personal model of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

CLASSES = ("sit", "stand", "walk")
CONFIG: dict[str, Any] = {
    "dataset": "folder",
    "input-shape": "16,3",
    "classes": ",".join(CLASSES),
    "local-epochs": 1,
    "finetune-epochs": 40,
    "finetune-learning-rate": 0.01,
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Windows that are easily told apart, of two of three classes, with a dataset.toml."""
    folder = tmp_path / "walks"
    folder.mkdir()
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = rng.normal(0, 0.1, (40, 16, 3)) + y[:, None, None] * 2.0 - 0.5
    np.savez(folder / "walks.npz", X=x.astype(np.float32), y=y)
    (folder / "dataset.toml").write_text(
        'classes = ["sit", "walk"]\nchannels = ["x", "y", "z"]\nsampling-rate = 50\n',
        encoding="utf-8",
    )
    return folder
