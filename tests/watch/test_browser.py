"""The page in headless Chromium: it follows a run that goes on, and complains of nothing."""

import re
import threading
from pathlib import Path

import pytest
import uvicorn

from caafp_app.runs.live import LiveLog
from caafp_app.watch import web
from caafp_app.watch.view import View, Watcher
from tests.e2e.browsing import dumped
from tests.e2e.fleet import free_port
from tests.left_run import leave_run


class Going(Watcher):
    """Each look finds that the run has gone on."""

    looks = 0

    def look(self, now: float | None = None) -> View:
        """Let the second device answer before the third look."""
        Going.looks += 1
        if Going.looks == 3:
            LiveLog(self.folder).on_answer("user-01", True, "")
        return super().look(now)


def test_the_page_follows_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = leave_run(tmp_path / "walks", finished=False)
    log = LiveLog(folder)
    log.on_present({"user-00": 11, "user-01": 12, "lost-1": 13})
    log.on_asked(["user-00", "user-01"], "prune", 6, 4e9)
    log.on_answer("user-00", True, "")
    log.on_present({"user-00": 11, "user-01": 12})
    monkeypatch.setattr(web, "Watcher", Going)
    port = free_port()
    config = uvicorn.Config(web.build(folder), host=web.HOST, port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        url = f"http://{web.HOST}:{port}/"
        done = dumped(url, tmp_path, "--virtual-time-budget=5000")
    finally:
        server.should_exit = True
        thread.join(timeout=20)
    page = done.stdout
    assert "CONSOLE" not in done.stderr
    looks = re.search(r'data-looks="(\d+)"', page)
    assert looks, done.stderr[-2000:]
    assert int(looks[1]) >= 2
    assert "prune, round 6 of 6: 2 of 2 answered" in page
    assert "lost-1 is away" in page
    assert "<td>away</td>" in page
    assert page.count("<svg") >= 3
