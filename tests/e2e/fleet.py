"""A SuperLink and SuperNodes of one's own, as processes on loopback, that leave nothing behind.

As in the field: the deployment runtime, a Flower home for each, and a process for every message
(``--isolation subprocess``, Flower's default). Everything started carries a mark and is ended by
its process id.
"""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caafp_app.launch.environment import flower_environment
from caafp_app.launch.follow import Outcome, follow, run_command
from caafp_app.launch.presets import to_toml
from caafp_app.launch.processes import MARK, Family
from caafp_app.launch.source import checkout
from caafp_app.launch.superlink import Connection, executable

HOST = "127.0.0.1"
STARTUP_SECONDS = 300.0
RUN_SECONDS = 900.0
_COLOURS = re.compile(r"\x1b\[[\d;]*m")

Values = Mapping[str, str | int | float | bool]
"""Keys and values of settings, or of what an operator types for a SuperNode: ``data-path`` ..."""


@dataclass(frozen=True)
class Security:
    """Options that make the connections secure, or say that they are not.

    `own` has options of each ``flower-supernode`` besides: its private key. `admit` is what the
    operator does before the SuperNodes start: registers their keys.
    """

    superlink: Sequence[str] = ("--insecure",)
    supernode: Sequence[str] = ("--insecure",)
    connection: Values = field(default_factory=lambda: {"insecure": True})
    own: Sequence[Sequence[str]] = ()
    admit: Callable[[Connection], None] = lambda _: None


class Daemon:
    """A process that stays, its Flower home and its log, both in a folder by its name.

    Without a home of its own it is a command of the operator's, whose home the environment names.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        *,
        own_home: bool = True,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = folder / f"{name}.log"
        self._environment = dict(environment)
        if own_home:
            (folder / name).mkdir()
            self._environment["FLWR_HOME"] = str(folder / name)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; anew after `kill`, then the log goes on."""
        with self.log.open("ab") as stream:
            self._process = subprocess.Popen(
                self.command,
                env=self._environment,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it at once, as a device that loses power; what it started sees that and ends too."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def await_line(self, words: str, seconds: float = STARTUP_SECONDS) -> None:
        """Wait until its log has these words; AssertionError, with the log, if they do not come."""
        deadline = time.monotonic() + seconds
        while words not in self.text():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"{self.name} did not come to {words!r}:\n{self.text()}")
            time.sleep(0.1)

    def await_end(self, seconds: float = STARTUP_SECONDS) -> int:
        """Wait until it ends by itself; return its exit status."""
        assert self._process is not None
        return self._process.wait(timeout=seconds)

    @property
    def pid(self) -> int:
        """Its process id, once it was started."""
        return self._process.pid if self._process is not None else 0

    def text(self) -> str:
        """Return its log so far, without the colours of a terminal."""
        return _COLOURS.sub("", self.log.read_text(encoding="utf-8", errors="replace"))

    def reap(self) -> None:
        """Take note of its death, so that no zombie stays."""
        if self._process is not None:
            self._process.wait(timeout=5.0)


@dataclass
class Fleet:
    """What is running: homes and logs in a folder, a family of all processes."""

    folder: Path
    address: str
    connection: Connection
    superlink: Daemon
    supernodes: list[Daemon]
    family: Family
    said: str = ""

    def caafp_run(self, settings: Values, seconds: float = RUN_SECONDS) -> Path:
        """Run our app by ``caafp run`` to its end, as an operator does; return its directory."""
        config = self.settings_file(settings)
        command = [sys.executable, "-m", "caafp_app.cli", "run", str(config)]
        done = subprocess.run(
            [*command, "--superlink", str(self.connection.name), "--json"],
            env={**self.connection.environment, "PYTHONPATH": str(checkout())},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        self.said = done.stderr
        assert done.returncode == 0, self.story()
        return Path(done.stdout.strip())

    def flwr_run(self, app: Path, settings: Values) -> Outcome:
        """Run another app by ``flwr run``, to its end."""
        lines: list[str] = []
        command = run_command(app, self.connection, self.settings_file(settings), None)
        outcome = follow(command, self.connection, lines.append)
        self.said = "\n".join(lines)
        return outcome

    def story(self) -> str:
        """Return the ends of all logs, for the message of a failed assertion."""
        parts = ["--- run", *self.said.splitlines()[-60:]]
        for daemon in (self.superlink, *self.supernodes):
            parts += [f"--- {daemon.name}", *daemon.text().splitlines()[-40:]]
        return "\n".join(parts)

    def settings_file(self, settings: Values) -> Path:
        config = self.folder / "run-config.toml"
        config.write_text(to_toml(settings), encoding="utf-8")
        return config


@contextlib.contextmanager
def fleet(
    folder: Path,
    nodes: Sequence[Values],
    *,
    security: Security | None = None,
    between: Callable[[int], contextlib.AbstractContextManager[int]] | None = None,
    warm: bool = False,
    device: Sequence[str] = (),
) -> Iterator[Fleet]:
    """Start a SuperLink and a SuperNode for each node-config; end them all on leaving.

    `between` takes the SuperLink's port and is a context of the port that SuperNodes are to use: a
    proxy's. `warm` starts ``caafp device`` for each, with the options `device`, and not
    ``flower-supernode``. All are registered when the block begins.
    """
    security = security or Security()
    mark = uuid.uuid4().hex
    operator = folder / "operator"
    operator.mkdir(parents=True)
    environment = flower_environment() | {MARK: mark, "FLWR_HOME": str(operator)}
    port = free_port()
    address = f"{HOST}:{port}"
    (operator / "config.toml").write_text(
        '[superlink]\ndefault = "fleet"\n\n[superlink.fleet]\n'
        + to_toml({"address": address, **security.connection}),
        encoding="utf-8",
    )
    command = [executable("flower-superlink"), *security.superlink]
    command += ["--host", HOST, "--port", str(port)]
    superlink = Daemon("superlink", command, folder, environment)
    connection = Connection(environment, "fleet")
    everyone = Fleet(folder, address, connection, superlink, [], Family(mark))
    with contextlib.ExitStack() as stack:
        stack.enter_context(sigterm_as_interrupt())
        stack.callback(_end, everyone)
        superlink.start()
        superlink.await_line("Uvicorn running on")
        security.admit(connection)
        towards = stack.enter_context(between(port)) if between else port
        for number, config in enumerate(nodes):
            command = supernode_command(config, towards, security, number, warm=warm)
            if warm:
                command[2:2] = device
            everyone.supernodes.append(Daemon(f"node-{number}", command, folder, environment))
            everyone.supernodes[-1].start()
        for node in everyone.supernodes:
            node.await_line("SuperNode ID:")
        yield everyone


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let a pytest that is told to end do so by way of its fixtures."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def supernode_command(
    config: Values, port: int, security: Security, number: int = 0, *, warm: bool = False
) -> list[str]:
    """Return the command of a SuperNode that calls a port of this machine."""
    # Flower's notation of a node-config: no blanks around the sign.
    typed = " ".join(line.replace(" = ", "=", 1) for line in to_toml(config).splitlines())
    own = security.own[number] if security.own else ()
    program = [executable("caafp"), "device"] if warm else [executable("flower-supernode")]
    command = [*program, *security.supernode, *own]
    command += ["--superlink", f"{HOST}:{port}", "--host", HOST, "--port", str(free_port())]
    return [*command, "--node-config", typed]


def _end(everyone: Fleet) -> None:
    assert everyone.family.end(), f"still running: {everyone.family.members()}"
    for daemon in (everyone.superlink, *everyone.supernodes):
        daemon.reap()
