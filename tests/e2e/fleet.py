"""A SuperLink and SuperNodes of one's own, as processes on loopback, that leave nothing behind.

As in the field: the deployment runtime, a folder of Flower's own for each, and a process for every
message (``--isolation subprocess``, Flower's default). Everything started carries a mark and is
ended by its id.
"""

import contextlib
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caafp_app.launch.follow import Outcome, follow, run_command
from caafp_app.launch.presets import to_toml
from caafp_app.launch.processes import MARK, Family
from caafp_app.launch.source import checkout
from caafp_app.launch.superlink import Connection, executable, flower_environment

HOST = "127.0.0.1"
STARTUP_SECONDS = 60.0

NodeConfig = Mapping[str, str | int | float | bool]
"""What the operator of a SuperNode types: ``data-path``, ``label``, ``partition-id`` ..."""


@dataclass(frozen=True)
class Security:
    """Options that make the connections secure, or say that they are not.

    Attributes
    ----------
    superlink, supernode : sequence of str
        Options of ``flower-superlink``, and of every ``flower-supernode``.
    connection : mapping
        Keys of the connection in the operator's Flower configuration.
    """

    superlink: Sequence[str] = ("--insecure",)
    supernode: Sequence[str] = ("--insecure",)
    connection: Mapping[str, str | bool] = field(default_factory=lambda: {"insecure": True})


class Daemon:
    """A process of the fleet, and its log.

    Parameters
    ----------
    name : str
        Names its folder below that of the fleet.
    command : sequence of str
    folder : Path
        Of the fleet.
    environment : mapping
    """

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = folder / f"{name}.log"
        home = folder / name
        home.mkdir()
        self._environment = {**environment, "FLWR_HOME": str(home)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it anew after `kill`; the log goes on."""
        with self.log.open("ab") as stream:
            self._process = subprocess.Popen(
                self.command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it at once, as when a device loses power; what it started ends by itself."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait(self, ready: Callable[[], bool]) -> None:
        """Wait until `ready`, and fail with the log if it never is."""
        deadline = time.monotonic() + STARTUP_SECONDS
        while not ready():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"{self.name} did not come up:\n{self.text()}")
            time.sleep(0.1)

    def text(self) -> str:
        """Return its log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


@dataclass
class Fleet:
    """What is running.

    Attributes
    ----------
    folder : Path
        Logs, and what runs leave.
    connection : Connection
        For ``flwr`` and ``caafp``.
    superlink, supernodes : Daemon
    family : Family
        All processes.
    """

    folder: Path
    connection: Connection
    superlink: Daemon
    supernodes: list[Daemon]
    family: Family
    lines: list[str] = field(default_factory=list)

    def run(self, settings: Mapping[str, str | int | float | bool], app: Path) -> Outcome:
        """Run an app by ``flwr run`` with these settings, to its end.

        Returns
        -------
        Outcome
            Its lines are in `lines`.
        """
        config = self.folder / "run-config.toml"
        config.write_text(to_toml(settings), encoding="utf-8")
        self.lines = []
        command = run_command(app, self.connection, config, None)
        return follow(command, self.connection, self.lines.append)

    def story(self) -> str:
        """Return the ends of all logs, for the message of a failed assertion."""
        parts = ["--- flwr run", *self.lines[-60:]]
        for daemon in (self.superlink, *self.supernodes):
            parts += [f"--- {daemon.name}", *daemon.text().splitlines()[-40:]]
        return "\n".join(parts)


@contextlib.contextmanager
def fleet(
    folder: Path,
    nodes: Sequence[NodeConfig],
    *,
    security: Security | None = None,
    between: Callable[[int], contextlib.AbstractContextManager[int]] | None = None,
) -> Iterator[Fleet]:
    """Start a SuperLink and a SuperNode for each node-config; end them all on leaving.

    Parameters
    ----------
    folder : Path
        Empty; logs and Flower's folders go there.
    nodes : sequence of mapping
        A node-config for each SuperNode.
    security : Security, optional
        Left out: none at all.
    between : callable, optional
        Given the SuperLink's port, a context manager of the port that SuperNodes are to use: of a
        proxy.

    Yields
    ------
    Fleet
        Of which all SuperNodes are registered.
    """
    security = security or Security()
    mark = uuid.uuid4().hex
    family = Family(mark)
    operator = folder / "operator"
    operator.mkdir(parents=True)
    environment = flower_environment() | {MARK: mark, "FLWR_HOME": str(operator)}
    port = free_port()
    superlink = Daemon(
        "superlink",
        [executable("flower-superlink"), *security.superlink, "--host", HOST, "--port", str(port)],
        folder,
        environment,
    )
    (operator / "config.toml").write_text(
        '[superlink]\ndefault = "fleet"\n\n[superlink.fleet]\n'
        + to_toml({"address": f"{HOST}:{port}", **security.connection}),
        encoding="utf-8",
    )
    with contextlib.ExitStack() as stack:
        stack.callback(_end, family)
        superlink.start()
        superlink.wait(lambda: _answers(port))
        towards = stack.enter_context(between(port)) if between else port
        supernodes = [
            Daemon(f"node-{k}", _supernode(config, towards, security), folder, environment)
            for k, config in enumerate(nodes)
        ]
        for node in supernodes:
            node.start()
        for node in supernodes:
            node.wait(lambda node=node: "SuperNode ID:" in node.text())  # type: ignore[misc]
        connection = Connection(environment, "fleet")
        yield Fleet(folder, connection, superlink, supernodes, family)
    assert not family.members()


def app_folder() -> Path:
    """Return the folder of our own app."""
    root = checkout()
    assert root is not None
    return root


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _supernode(config: NodeConfig, port: int, security: Security) -> list[str]:
    # Flower's own notation: no blanks around the sign.
    typed = " ".join(line.replace(" = ", "=", 1) for line in to_toml(config).splitlines())
    command = [executable("flower-supernode"), *security.supernode]
    command += ["--superlink", f"{HOST}:{port}", "--host", HOST, "--port", str(free_port())]
    return [*command, "--node-config", typed]


def _answers(port: int) -> bool:
    with (
        contextlib.suppress(urllib.error.URLError, OSError),
        urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=1.0) as answer,
    ):
        return bool(answer.status == 200)
    return False


def _end(family: Family) -> None:
    assert family.end(), f"still running: {family.members()}"
