"""A TCP proxy that counts: the second opinion on what the ledger says.

It stands between SuperNodes and SuperLink and counts every byte of the sockets in both directions:
HTTP's heads, signatures, protobuf, polls and heartbeats. Of what passes it knows one thing: on a
connection of HTTP/1.1 without pipelining, the first bytes up after bytes that came down begin a
request, and its first line names the path. So every byte belongs to a call.
"""

import contextlib
import socket
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

HOST = "127.0.0.1"
_BLOCK = 1 << 16


@dataclass
class Call:
    """A request and its response: the last part of its path, and bytes by direction."""

    path: str
    up: int = 0
    down: int = 0

    @property
    def total(self) -> int:
        """Bytes of both directions."""
        return self.up + self.down


class CountingProxy:
    """Passes on and counts.

    Parameters
    ----------
    target : int
        The port on this machine that it stands for.

    Attributes
    ----------
    port : int
        Where it listens.
    calls : list of Call
        In the order in which they began.
    """

    def __init__(self, target: int) -> None:
        self.calls: list[Call] = []
        self._target = target
        self._listener = socket.create_server((HOST, 0))
        self._open: set[socket.socket] = set()
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> "CountingProxy":
        """Start listening."""
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Cut all connections."""
        # Closing alone does not wake the thread that waits in accept().
        for connection in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            client,
            socket.create_connection((HOST, self._target)) as server,
        ):
            self._open |= {client, server}
            calls: list[Call] = []  # of this connection; the last is going on
            back = threading.Thread(target=_pass_down, args=(server, client, calls), daemon=True)
            back.start()
            for block in _blocks(client):
                if not calls or calls[-1].down:
                    calls.append(Call(_path(block)))
                    self.calls.append(calls[-1])
                calls[-1].up += len(block)
                server.sendall(block)
            server.shutdown(socket.SHUT_WR)
            back.join()
            self._open -= {client, server}


def total(calls: Iterable[Call]) -> int:
    """Return the bytes of calls, both directions."""
    return sum(call.total for call in calls)


def table(calls: Iterable[Call]) -> str:
    """Return number of calls and bytes by path, as text."""
    sums: dict[str, tuple[int, int, int]] = {}
    for call in calls:
        count, up, down = sums.get(call.path, (0, 0, 0))
        sums[call.path] = count + 1, up + call.up, down + call.down
    rows = [f"{'call':26}{'number':>8}{'bytes up':>12}{'bytes down':>12}"]
    rows += [f"{path:26}{n:8}{up:12}{down:12}" for path, (n, up, down) in sorted(sums.items())]
    return "\n".join(rows)


def _pass_down(server: socket.socket, client: socket.socket, calls: list[Call]) -> None:
    with contextlib.suppress(OSError):
        for block in _blocks(server):
            calls[-1].down += len(block)
            client.sendall(block)
        client.shutdown(socket.SHUT_RDWR)


def _blocks(connection: socket.socket) -> Iterator[bytes]:
    while block := connection.recv(_BLOCK):
        yield block


def _path(block: bytes) -> str:
    """Return ``pull-object`` of ``POST /v1/fleet/pull-object HTTP/1.1 ...``."""
    words = block.split(b"\r\n", 1)[0].split()
    return words[1].rsplit(b"/", 1)[-1].decode() if len(words) == 3 else "?"
