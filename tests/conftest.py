"""What all tests share: a home of their own, and one profile of hypothesis."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# One thread per process, as on a client: several workers with several threads each would wait for
# one another. Set before torch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadline: two cores that also run Ray make any single example slow now and then.
settings.register_profile("caafp", deadline=None, max_examples=50)
settings.load_profile("caafp")

DAEMONS = ("superlink", "superexec", "supernode", "raylet", "gcs_server")


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep results and caches of tests out of the user's own ``CAAFP_HOME``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAAFP_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def connections(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the connections of the pages in a Flower configuration; no port has to be open."""
    folder = tmp_path_factory.mktemp("flwr")
    tables = [f'[superlink.{name}]\naddress = ":local:"\n' for name in ("devices", "my-devices")]
    (folder / "config.toml").write_text("".join(tables), encoding="utf-8")
    monkeypatch.setenv("FLWR_HOME", str(folder))


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Fail the session at its end if a server, node or Ray daemon of a test still runs."""
    mark = f"CAAFP_TESTS={os.getpid()}-{time.time_ns()}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*mark.split("="))
        yield
    deadline = time.monotonic() + 10.0
    while (left := daemons(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, f"expected the tests to end what they start, found {left}"


def daemons(mark: str) -> list[str]:
    """Return id and command of each running daemon with this mark in its environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or is somebody else's
            marked = mark.encode() in (process / "environ").read_bytes()
            command = (
                (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
            if marked and any(name in command for name in DAEMONS):
                found.append(f"{process.name}: {command[:200]}")
    return found
