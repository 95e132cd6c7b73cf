"""A TCP proxy that counts: the second opinion on what the ledger says.

It stands between SuperNodes and SuperLink and counts every byte of the sockets in both directions:
HTTP's request lines and headers, signatures, protobuf, polls and heartbeats. It knows one thing of
what passes: on a connection of HTTP/1.1 without pipelining, the first bytes up after bytes that
came down begin a request, and its first line names the path. So each byte belongs to a call.
"""

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_HOST = "127.0.0.1"
_BLOCK = 1 << 16


@dataclass
class Call:
    """One request and its response: the last part of its path, and bytes by direction."""

    path: str
    up: int = 0
    down: int = 0

    @property
    def total(self) -> int:
        """Bytes of both directions."""
        return self.up + self.down


class CountingProxy:
    """Counts what passes. Its calls are in `calls`, in the order in which they began."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.calls: list[Call] = []
        self._target = target
        self._listener = socket.create_server((_HOST, 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> "CountingProxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def since(self, start: int) -> list[Call]:
        """Return the calls from number `start` on."""
        return self.calls[start:]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed: the end
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), socket.create_connection(self._target) as server:
            self._open |= {client, server}
            current = [Call("")]
            back = threading.Thread(target=self._pass_down, args=(server, client, current))
            back.start()
            with client:
                for block in _blocks(client):
                    with self._lock:
                        if current[0].down or not current[0].path:
                            current[0] = Call(_path(block))
                            self.calls.append(current[0])
                        current[0].up += len(block)
                    server.sendall(block)
                with contextlib.suppress(OSError):
                    server.shutdown(socket.SHUT_WR)
                back.join()
            self._open -= {client, server}

    def _pass_down(self, server: socket.socket, client: socket.socket, current: list[Call]) -> None:
        with contextlib.suppress(OSError):
            for block in _blocks(server):
                with self._lock:
                    current[0].down += len(block)
                client.sendall(block)
            client.shutdown(socket.SHUT_RDWR)


def by_path(calls: list[Call]) -> dict[str, tuple[int, int, int]]:
    """Sum up: number of calls, bytes up and bytes down by path."""
    count, up, down = Counter[str](), Counter[str](), Counter[str]()
    for call in calls:
        count[call.path] += 1
        up[call.path] += call.up
        down[call.path] += call.down
    return {path: (count[path], up[path], down[path]) for path in sorted(count)}


def _blocks(connection: socket.socket) -> Iterator[bytes]:
    while block := connection.recv(_BLOCK):
        yield block


def _path(block: bytes) -> str:
    """Return ``pull-object`` of ``POST /v1/fleet/pull-object HTTP/1.1 ...``."""
    words = block.split(b"\r\n", 1)[0].split()
    return words[1].rsplit(b"/", 1)[-1].decode() if len(words) == 3 else "?"
