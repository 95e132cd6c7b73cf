"""A federation that is set up by the commands of docs/deploy.md, as they stand there.

SuperLink with TLS and node authentication, nginx before it where there is one, devices with
recordings and keys of their own. Everything lies below one folder, ``CAAFP_HOME`` included.
"""

import contextlib
import os
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from caafp_app import cli
from caafp_app.launch.source import checkout
from caafp_app.launch.superlink import Connection, executable
from tests.e2e import guide
from tests.e2e.devices import write_walks
from tests.e2e.fleet import HOST, Daemon, Fleet, Security, fleet, supernode_command
from tests.e2e.front import front, nginx

NAMES = ["pi-1", "pi-2", "pi-3"]
SAMPLES = 3000
"""Of each class on a device: 45 windows, 9 of them to test by."""


@dataclass(frozen=True)
class Guided:
    """What is running, and where its keys are; the port is nginx's, where there is one."""

    fleet: Fleet
    folder: Path
    keys: Path
    port: int

    def state(self, name: str) -> Path:
        """Return where a device keeps what it learnt."""
        return self.folder / "home" / "personal" / name

    def walks(self, name: str) -> Path:
        """Return the recordings that a device trains with."""
        return self.folder / "walks" / name

    def flwr(self, words: list[str]) -> str:
        """Run a command of Flower's; return what it said."""
        return flwr(words, self.fleet.connection)

    def start(self, words: list[str], name: str) -> Daemon:
        """Start a command of ours as the operator, in the background."""
        environment = {**self.fleet.connection.environment, "PYTHONPATH": str(checkout())}
        command = [executable(words[0]), *words[1:]]
        started = Daemon(name, command, self.fleet.folder, environment, own_home=False)
        started.start()
        return started

    def new_device(self, name: str) -> Daemon:
        """Add a device by steps 1 to 6 of the guide."""
        write_walks(self.walks(name), len(self.fleet.supernodes), SAMPLES)
        caafp(guide.words("device-keys", {"~/caafp-keys": str(self.keys), "pi-1": name}))
        register(self.keys, name, self.fleet.connection)
        own = Security(own=[_own(self.keys, name)], supernode=[])
        config = {"data-path": str(self.walks(name)), "label": name}
        command = supernode_command(config, self.port, own, warm=True)
        environment = self.fleet.connection.environment
        self.fleet.supernodes.append(Daemon(name, command, self.fleet.folder, environment))
        self.fleet.supernodes[-1].start()
        return self.fleet.supernodes[-1]


def caafp(words: list[str]) -> str:
    """Run a command of ours that is over at once; return what it said."""
    result = CliRunner().invoke(cli.app, words[1:])
    assert result.exit_code == 0, result.output
    return result.output


def flwr(words: list[str], operator: Connection) -> str:
    """Run a command of Flower's; return what it said."""
    done = subprocess.run(
        [executable(words[0]), *words[1:]],
        env=operator.environment,
        capture_output=True,
        text=True,
        timeout=120.0,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def register(keys: Path, name: str, operator: Connection) -> None:
    """Let a device in."""
    replaced = {"~/caafp-keys": str(keys), "pi-1": name, "devices": str(operator.name)}
    flwr(guide.words("register", replaced), operator)


def _own(keys: Path, name: str) -> list[str]:
    words = guide.words("supernode", {"~/caafp-keys": str(keys), "pi-1.key": f"{name}.key"})
    return guide.options(words[1:], "--superlink", "--node-config")


@contextlib.contextmanager
def guided(folder: Path) -> Iterator[Guided]:
    """Follow the guide: keys, SuperLink, registration, three devices."""
    keys = folder / "keys"
    here = {"~/caafp-keys": str(keys)}
    caafp(guide.words("server-keys", {**here, "SERVER": HOST}))
    for number, name in enumerate(NAMES):
        caafp(guide.words("device-keys", {**here, "pi-1": name}))
        write_walks(folder / "walks" / name, number, SAMPLES)
    superlink = guide.words("superlink", {**here, "~/superlink.db": str(folder / "superlink.db")})
    (connection,) = tomllib.loads(
        guide.blocks()["connection"].replace("/home/me/caafp-keys", str(keys))
    )["superlink"].values()
    del connection["address"]

    def admit(operator: Connection) -> None:
        for name in NAMES:
            register(keys, name, operator)

    security = Security(
        superlink=guide.options(superlink),
        supernode=[],
        connection=connection,
        own=[_own(keys, name) for name in NAMES],
        admit=admit,
    )
    nodes = [{"data-path": str(folder / "walks" / name), "label": name} for name in NAMES]
    ports: list[int] = []

    @contextlib.contextmanager
    def between(port: int) -> Iterator[int]:
        with contextlib.ExitStack() as stack:
            if nginx():
                port = stack.enter_context(front(folder / "nginx", keys, port, dict(os.environ)))
            ports.append(port)
            yield port

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAAFP_HOME", str(folder / "home"))
        with fleet(
            folder / "fleet", nodes, security=security, between=between, warm=True
        ) as running:
            yield Guided(running, folder, keys, ports[0])
    assert running.family.members() == set()
