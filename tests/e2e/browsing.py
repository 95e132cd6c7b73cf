"""A page in headless Chromium: as it is in the end, or while it goes on.

``CHROMIUM`` names the program where it is not on the path.
"""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
QUIET = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--enable-logging=stderr", "--v=0"),
)
STARTUP_SECONDS = 120.0


def dumped(url: str, folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """The page as the browser has it in the end, and what the browser said."""
    if BROWSER is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} on the path, and CHROMIUM not set")
    command = [BROWSER, *QUIET, *more, f"--user-data-dir={folder / 'profile'}", "--dump-dom", url]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=STARTUP_SECONDS, check=False
    )


@dataclass
class Page:
    """One page of a browser that is open, over its own protocol."""

    socket: ClientConnection
    log: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def find(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        number = next(self._numbers)
        asked = {"expression": expression, "returnByValue": True}
        self.socket.send(json.dumps({"id": number, "method": "Runtime.evaluate", "params": asked}))
        while (answer := json.loads(self.socket.recv(timeout=60.0))).get("id") != number:
            pass
        return answer["result"]["result"].get("value")

    @property
    def text(self) -> str:
        """What a person reads."""
        return str(self.find("document.body.innerText"))

    def await_text(self, words: str, seconds: float) -> float:
        """Wait until a person reads these words; return when, in seconds since 1970."""
        deadline = time.monotonic() + seconds
        while words not in (found := self.text):
            assert time.monotonic() < deadline, f"expected {words!r} on the page, found:\n{found}"
            time.sleep(0.2)
        return time.time()

    @property
    def complaints(self) -> list[str]:
        """What the browser's console said."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if "CONSOLE" in line]


@contextlib.contextmanager
def browsed(url: str, folder: Path) -> Iterator[Page]:
    """Open a page in a browser of its own, whose profile and log are in a folder."""
    assert BROWSER is not None
    profile, log = folder / "profile", folder / "browser.log"
    told = profile / "DevToolsActivePort"
    command = [BROWSER, *QUIET, f"--user-data-dir={profile}", "--remote-debugging-port=0", url]
    with log.open("wb") as stream, subprocess.Popen(command, stderr=stream) as process:
        try:
            deadline = time.monotonic() + STARTUP_SECONDS
            while not told.is_file() or not (place := _page(told, url)):
                assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
                time.sleep(0.2)
            with connect(place, max_size=None, proxy=None) as socket:
                yield Page(socket, log)
        finally:
            process.kill()


def _page(told: Path, url: str) -> str:
    """Return the address of the page's socket; empty while it is not open."""
    port = told.read_text(encoding="utf-8").partition("\n")[0]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/json", timeout=30.0) as answer:
        pages = json.load(answer)
    found = [p["webSocketDebuggerUrl"] for p in pages if p["type"] == "page" and p["url"] == url]
    return found[0] if found else ""
