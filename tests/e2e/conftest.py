"""One fleet for all tests of devices: it takes longer to start than most of them to run."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.devices import write_devices
from tests.e2e.fleet import Fleet, fleet
from tests.e2e.proxy import CountingProxy


@dataclass(frozen=True)
class Devices:
    """Three SuperNodes with folder data behind a counting proxy."""

    fleet: Fleet
    proxy: CountingProxy
    folder: Path


@pytest.fixture(scope="session")
def devices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devices]:
    """Start SuperLink, proxy and three SuperNodes; afterwards none of their processes is left."""
    folder = tmp_path_factory.mktemp("devices")
    nodes = [{"data-path": str(path)} for path in write_devices(folder)]
    proxies: list[CountingProxy] = []

    @contextlib.contextmanager
    def between(port: int) -> Iterator[int]:
        with CountingProxy(port) as proxy:
            proxies.append(proxy)
            yield proxy.port

    with fleet(folder / "fleet", nodes, between=between) as running:
        yield Devices(running, proxies[0], folder)
        # Without this the next check would prove nothing.
        assert len(running.family.members()) >= 8
    assert running.family.members() == set()
