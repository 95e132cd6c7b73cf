"""``caafp``: the app's own command line. Thin: ``flwr run`` stays the way to run."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from caafp_app.errors import CaafpError, SettingsError
from caafp_app.launch.plan import Simulation, count_supernodes, gpu_share
from caafp_app.launch.presets import merged, preset_names, to_toml
from caafp_app.launch.start import deploy, simulate
from caafp_app.settings import Scalar, knobs

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Clustered, sparse, personalised federated learning on Flower.",
)

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


@app.command()
def run(
    preset: Annotated[
        str,
        typer.Argument(
            metavar="PRESET-OR-FILE",
            help="A preset of the app, or a TOML file of flat settings.",
            show_default=False,
        ),
    ],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Settings over the preset's; `caafp settings` lists them.",
            show_default=False,
        ),
    ] = None,
    num_supernodes: Annotated[
        int | None,
        typer.Option(min=1, help="Simulated clients.", show_default="one per user of the data"),
    ] = None,
    client_cpus: Annotated[
        int, typer.Option(min=1, help="Cores that a client occupies; the others wait.")
    ] = 1,
    client_gpus: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Share of a GPU that a client occupies.",
            show_default="with device=cuda one over the cores, else 0",
        ),
    ] = None,
    client_logs: Annotated[
        bool, typer.Option("--client-logs", help="Stream what clients log, too.")
    ] = False,
    superlink: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Run on real SuperNodes, by this connection of your own Flower configuration; "
            "nothing is started here.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, print settings and command, start nothing.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="For scripts: the path of the run directory on stdout, all else on stderr.",
        ),
    ] = False,
) -> None:
    """Train: check a preset and your settings, run them by [bold]flwr run[/], end with its success.

    PRESET-OR-FILE is a preset of the app (caafp, paper-uci, paper-wisdm, smoke ...) or a TOML file
    of flat settings. Each key=value wins over it; `caafp settings` lists the keys.

    [bold]caafp run smoke[/]                                 every phase once, in half a minute

    [bold]caafp run caafp sparsity=0.8 seed=7[/]             a preset with settings of your own

    [bold]caafp run paper-uci data-dir=~/uci-har.zip[/]      real recordings

    [bold]caafp run my.toml --superlink my-devices[/]        real devices

    A simulation gets a SuperLink of its own, which is ended, with all it started, when the run
    ends or you press Ctrl-C. Results go to runs/ below the setting output-dir.
    """

    def say(line: str) -> None:
        typer.echo(line, err=as_json)

    try:
        settings = merged(preset, pairs or [])
        if superlink is None:
            cpus = client_cpus
            simulation = Simulation(
                count_supernodes(settings, num_supernodes),
                cpus,
                gpu_share(settings, client_gpus, cpus),
                client_logs,
            )
            end = simulate(settings, simulation, say, dry_run)
        else:
            if num_supernodes is not None:
                raise SettingsError(
                    "--num-supernodes: expected it or --superlink, whose SuperNodes are real; "
                    "found both"
                )
            end = deploy(settings, superlink, say, dry_run)
    except CaafpError as error:
        typer.echo(f"caafp: {error}", err=True)
        raise typer.Exit(MISUSED if isinstance(error, SettingsError) else FAILED) from error
    except KeyboardInterrupt as interrupt:
        typer.echo("caafp: stopped", err=True)
        raise typer.Exit(INTERRUPTED) from interrupt
    if end.complaint:
        typer.echo(f"caafp: {end.complaint}", err=True)
    if end.results is not None:
        typer.echo(end.results if as_json else f"Results: {end.results}")
    if end.complaint:
        raise typer.Exit(FAILED)


@app.command("settings")
def list_settings(
    toml: Annotated[
        bool, typer.Option("--toml", help="As TOML, to start a file of your own from.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As Markdown, for the table of the README.")
    ] = False,
) -> None:
    """List every setting: its default, what it may be, what it does."""
    if toml or markdown:
        typer.echo(settings_toml() if toml else settings_markdown(), nl=False)
        return
    table = Table(title="Settings", title_justify="left", header_style="bold")
    for column in ("setting", "default", "expected", "what it does"):
        table.add_column(column, overflow="fold", no_wrap=column == "setting")
    group = None
    for knob in knobs():
        if group not in (None, knob.group):
            table.add_section()
        group = knob.group
        row = (knob.key, _literal(knob.default), knob.expected, knob.comment)
        table.add_row(*map(_plain, row))
    Console().print(table)
    typer.echo("Presets: " + ", ".join(preset_names()))


def _literal(value: Scalar) -> str:
    """Return a value as TOML has it."""
    return to_toml({"": value}).partition("= ")[2].strip()


def _plain(text: str) -> str:
    """Keep rich from reading square brackets as markup."""
    return text.replace("[", r"\[")


def settings_toml() -> str:
    """Return the lines of ``[tool.flwr.app.config]``: groups, keys, defaults, comments."""
    lines: list[str] = []
    group = None
    for knob in knobs():
        if knob.group != group:
            lines += ["", f"# {knob.group}"] if lines else [f"# {knob.group}"]
            group = knob.group
        line = to_toml({knob.key: knob.default}).rstrip("\n")
        names = knob.expected.removeprefix("one of ")
        choices = f" ({names})" if names != knob.expected else ""
        lines.append(f"{line}  # {knob.comment}{choices}")
    return "\n".join(lines) + "\n"


def settings_markdown() -> str:
    """Return the settings as a Markdown table, a row for each, groups in bold."""
    lines = ["| setting | default | may be | what it does |", "|---|---|---|---|"]
    group = None
    for knob in knobs():
        if knob.group != group:
            lines.append(f"| **{knob.group}** | | | |")
            group = knob.group
        comment = knob.comment.replace("|", r"\|").replace("<", r"\<")
        expected = knob.expected.removeprefix("one of ")
        lines.append(f"| `{knob.key}` | `{_literal(knob.default)}` | {expected} | {comment} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Start the command line."""
    app(prog_name="caafp")


if __name__ == "__main__":
    main()
