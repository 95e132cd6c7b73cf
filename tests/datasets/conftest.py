"""Data sets for the tests: the real recordings where they are at hand, and small ones made here."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CAAFP_HOME that nothing has been written to."""
    path = tmp_path / "home"
    monkeypatch.setenv("CAAFP_HOME", str(path))
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the real recordings are not there (shared/data beside the checkout)")
    return SHARED


@pytest.fixture(scope="session")
def unpacker(shared_data: Path) -> ModuleType:
    """The script that rebuilds the published UCI HAR layout."""
    spec = importlib.util.spec_from_file_location("unpacker", shared_data / "unpack_uci_har.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def uci_folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the real UCI HAR recordings in the published layout."""
    dest = tmp_path_factory.mktemp("uci")
    subprocess.run([sys.executable, shared_data / "unpack_uci_har.py", dest], check=True)
    return dest


@pytest.fixture
def npz_file(tmp_path: Path) -> Path:
    """Four users (3, 5, 8, 21), three classes, 40 windows each; every value tells its window."""
    rng = np.random.default_rng(5)
    user = rng.permutation(np.repeat([3, 5, 8, 21], 40))
    y = rng.integers(0, 3, len(user))
    x = rng.normal(size=(len(user), 6, 2)).astype(np.float32)
    x[:, 0, 0] = np.arange(len(user))
    path = tmp_path / "windows.npz"
    np.savez(path, X=x, y=y, user=user, label_names=np.array(["sit", "stand", "walk"]))
    return path
