"""A SuperLink of one's own, for one simulation, that leaves nothing behind.

``flwr run`` would start one that stays alive, shares port and folder with every other run of the
user, and installs the app's dependencies anew.
"""

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from caafp_app.errors import RunError
from caafp_app.launch.environment import LOOPBACK
from caafp_app.launch.processes import guarded, signals_as_exceptions

STARTUP_SECONDS = 180.0
_ATTEMPTS = 3
_HOST = LOOPBACK[0]
# Ray puts sockets below its folder; their paths may not be longer than about 107 bytes.
_LONGEST_RAY_FOLDER = 40
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Connection:
    """How ``flwr`` reaches a SuperLink: by a name in the Flower configuration, or the default."""

    environment: dict[str, str]
    name: str | None = None

    def command(self, verb: str, *words: str, flags: Iterable[str] = ()) -> list[str]:
        """Return a ``flwr`` command line: its verb and words, this connection, its flags."""
        name = [self.name] if self.name else []
        return [executable("flwr"), verb, *words, *name, *flags]


def executable(name: str) -> str:
    """Return the path of a command of Flower's: beside this Python, or on the path."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise RunError(
            f"expected the command {name!r} beside {sys.executable} or on PATH, found none"
        )
    return found


@contextlib.contextmanager
def private_superlink() -> Iterator[Connection]:
    """Start a SuperLink for simulations; end it, and all it started, on leaving.

    It is the default connection of the environment that is yielded. Raises RunError, with the end
    of its log, if it did not come up.
    """
    home = Path(tempfile.mkdtemp(prefix="caafp-"))
    started: list[subprocess.Popen[bytes]] = []
    try:
        with guarded(home) as environment, signals_as_exceptions():
            environment["FLWR_HOME"] = str(home / "flwr")
            if len(str(home)) <= _LONGEST_RAY_FOLDER:
                environment["RAY_TMPDIR"] = str(home)
            _start(home, environment, started)
            yield Connection(environment)
    finally:
        for process in started:
            # It is dead; this takes note of it, so that no zombie stays.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1.0)


def _start(home: Path, environment: dict[str, str], started: list[subprocess.Popen[bytes]]) -> None:
    log_file = home / "superlink.log"
    (home / "flwr").mkdir()
    # A free port may be taken by another before the SuperLink has it: then try again.
    for _ in range(_ATTEMPTS):
        port = _free_port()
        process = _popen(port, log_file, environment)
        started.append(process)
        if _is_up(process, port):
            (home / "flwr" / "config.toml").write_text(
                f'[superlink]\ndefault = "private"\n\n'
                f'[superlink.private]\naddress = "{_HOST}:{port}"\ninsecure = true\n',
                encoding="utf-8",
            )
            return
        if process.poll() is None:
            process.kill()
            break
    tail = log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
    raise RunError(
        f"expected a SuperLink to answer within {STARTUP_SECONDS:.0f} s, found none; "
        "the end of its log:\n" + "\n".join(tail)
    )


def _popen(port: int, log_file: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [executable("flower-superlink"), "--insecure", "--simulation"]
    command += ["--host", _HOST, "--port", str(port)]
    with log_file.open("ab") as stream:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            # Ctrl-C in the terminal must reach us alone: we end it in order.
            start_new_session=True,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _is_up(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + STARTUP_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            _DIRECT.open(f"http://{_HOST}:{port}/health", timeout=1.0) as answer,
        ):
            # Whoever answers has to be ours, not one that took the port before.
            return bool(answer.status == 200) and process.poll() is None
        time.sleep(0.1)
    return False
