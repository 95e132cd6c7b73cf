"""How far a bench is: a bar with time left on a terminal, a line per run anywhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Say = Callable[[str], None]
Show = Callable[[float, str], None]


@contextmanager
def bench_progress(runs: int) -> Iterator[tuple[Say, Show]]:
    """Show the progress of so many runs until the block ends.

    The first of what is handed out prints a line above the bar. The second takes how many runs are
    done, parts of those that go on included, and what goes on.
    """
    console = Console()
    bar = Progress(
        BarColumn(),
        TextColumn("{task.completed:.1f} of {task.total:.0f} runs,"),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left; now {task.fields[now]}"),
        console=console,
        disable=not console.is_terminal or not runs,
        # Runs take minutes: the speed is that of the last hours, not of the last seconds.
        speed_estimate_period=4 * 3600.0,
    )
    with bar:
        task = bar.add_task("", total=runs, now="starting")

        def say(line: str) -> None:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        def show(done: float, now: str) -> None:
            bar.update(task, completed=done, now=now)

        yield say, show
