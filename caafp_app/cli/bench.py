"""``caafp bench``: many runs from one file, side by side in tables and figures."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from caafp_app.cli.ending import FAILED, REPEAT, ending
from caafp_app.cli.options import argument, flag, option

if TYPE_CHECKING:
    from caafp_app.bench.execute import Job


def bench(
    file: Annotated[str, argument("BENCH-OR-FILE", "A bench of the app, or a TOML file of cases.")],
    pairs: Annotated[
        list[str] | None,
        argument(
            "[key=value]...",
            "Settings of all cases, over the file's; seed=N runs that one seed.",
        ),
    ] = None,
    jobs: Annotated[
        int, option("Runs at once; they share the cores of this machine.", True, min=1)
    ] = 1,
    in_process: Annotated[
        bool,
        flag(
            "--in-process", "Simulate without SuperLink and `flwr run`: the same numbers, sooner."
        ),
    ] = False,
    only: Annotated[
        list[str] | None, option("Run this case; may be repeated.", metavar="CASE")
    ] = None,
    force: Annotated[
        bool, flag("--force", "Repeat finished runs, in place of the old ones.")
    ] = False,
    output: Annotated[
        str, option("Where results go.", "bench/<name> in the app's home", metavar="DIR")
    ] = "",
    dry_run: Annotated[bool, flag("--dry-run", "Check, list the runs, start nothing.")] = False,
) -> None:
    """Compare methods: run many cases and seeds, and write one table and figures.

    [bold]caafp bench smoke --jobs 2[/]                         every strategy once

    [bold]caafp bench uci data-dir=~/uci-har.zip --jobs 2[/]    the paper's table on real recordings

    [bold]caafp bench uci seed=42 --only caafp data-dir=...[/]  a part of it

    [bold]caafp bench my.toml --output results[/]               cases of your own

    Finished runs are kept: the same command goes on where it stopped, or only writes tables and
    figures anew. A run that fails does not stop the others.
    """
    with ending(REPEAT):
        from caafp_app.bench.execute import check_queue, client_cpus, execute
        from caafp_app.bench.file import read_bench
        from caafp_app.bench.place import BenchFolder
        from caafp_app.bench.write import write_figures, write_tables
        from caafp_app.cli.progress import bench_progress

        plan = read_bench(file, pairs or [])
        folder = BenchFolder.of(plan, output)
        wanted = [(case, seed) for seed in plan.seeds for case in plan.only(only or [])]
        if not force:
            folder.check(wanted)
        queue = [job for job in wanted if force or not folder.has(*job)]
        client_cpus(jobs)
        for note in check_queue(queue, folder, fetch=not dry_run):
            typer.echo(f"note: {note}", err=True)
        if dry_run:
            for case, seed in wanted:
                state = "to run" if (case, seed) in queue else "finished"
                typer.echo(f"{case.name} seed {seed}: {state}")
            return
        failures = []
        ended_runs = 0
        with folder.opened(plan), bench_progress(len(queue)) as (say, show):

            def look(running: "list[Job]") -> None:
                done = ended_runs + sum(folder.progress(*job) for job in running)
                show(done, ", ".join(f"{case.name} {seed}" for case, seed in running))

            endings = execute(queue, folder, jobs=jobs, in_process=in_process, look=look)
            with closing(endings):
                for ended in endings:
                    ended_runs += 1
                    say(
                        f"{ended_runs}/{len(queue)} {ended.case.name}, seed {ended.seed}: "
                        f"{ended.complaint or 'finished'} ({ended.seconds:.0f} s)"
                    )
                    if ended.complaint:
                        failures.append(ended)
                    write_tables(plan, folder)
            results = write_tables(plan, folder)
            write_figures(folder, results)
    typer.echo((folder.path / "table.md").read_text(encoding="utf-8"))
    typer.echo(f"Results: {folder.path}")
    if failures:
        names = ", ".join(f"{ended.case.name} seed {ended.seed}" for ended in failures)
        typer.echo(f"caafp: {len(failures)} of {len(queue)} runs failed: {names}", err=True)
        raise typer.Exit(FAILED)
