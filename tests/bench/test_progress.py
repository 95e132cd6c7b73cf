"""What the bar of a bench shows: how much is done, the time gone and left, and what goes on."""

import io

import pytest
from rich.console import Console

from caafp_app.cli import progress
from caafp_app.cli.progress import bench_progress


class Clock:
    """Seconds as a test says."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def console_of(
    monkeypatch: pytest.MonkeyPatch, *, terminal: bool
) -> tuple[Console, io.StringIO, Clock]:
    """Put a console in the place of this process's own; what it writes, and its clock."""
    written, clock = io.StringIO(), Clock()
    console = Console(file=written, width=120, force_terminal=terminal, record=True, get_time=clock)
    monkeypatch.setattr(progress, "Console", lambda: console)
    return console, written, clock


def test_it_shows_what_is_done_and_the_time_gone_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    console, _, clock = console_of(monkeypatch, terminal=True)
    with bench_progress(6) as (say, show):
        for done in (1.0, 2.0, 2.5):
            clock.now = 1000.0 + 600 * done  # a run takes ten minutes
            show(done, "caafp 42, fedavg 42")
        say("fedsnip 42: [red] 90.1 %")
    shown = console.export_text()
    assert "fedsnip 42: [red] 90.1 %\n" in shown
    # The last that is drawn; 3.5 runs are left of 6.
    words = " ".join(shown.split())
    assert words.endswith("2.5 of 6 runs, 0:25:00 gone, 0:35:00 left; now caafp 42, fedavg 42")


def test_a_long_run_does_not_make_it_forget_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    console, *_, clock = console_of(monkeypatch, terminal=True)
    with bench_progress(4) as (_, show):
        for done in (0.5, 1.0):
            clock.now = 1000.0 + 7200 * done  # two hours a run: rich's own window is 30 s
            show(done, "slow 1")
    assert "6:00:00 left; now slow 1" in " ".join(console.export_text().split())


@pytest.mark.parametrize(("terminal", "runs"), [(False, 6), (True, 0)])
def test_no_bar_in_a_file_or_without_runs(
    terminal: bool, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, written, _ = console_of(monkeypatch, terminal=terminal)
    with bench_progress(runs) as (say, show):
        show(0.0, "caafp 42")
        say("caafp 42: 90.1 %, and more than fits into a line" + " of so many words" * 8)
    assert "runs," not in written.getvalue()
    assert written.getvalue().count("\n") == 1
