"""``caafp export``: a cluster's model as a file that something else runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caafp_app.cli.ending import ending
from caafp_app.cli.options import OutputDir, argument, option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caafp_app.export import Exported, Trained

_HONEST = (
    "Zeros do not make dense kernels faster: torch and ONNX Runtime multiply by them. A sparse "
    "file is smaller; a faster network needs whole filters gone (granularity=filter)."
)


Formats = Annotated[
    list[str] | None,
    option(
        "safetensors, sparse, pt2, onnx or onnx-int8; may be given several times.",
        "safetensors",
        *("--format", "-f"),
        metavar="NAME",
    ),
]


def export(
    run: Annotated[
        str,
        argument("RUN", "Run directory, or the name of a run below --output-dir; `latest` is one."),
    ],
    cluster: Annotated[
        int | None, option("Whose model.", "the only cluster, or 0", metavar="K")
    ] = None,
    level: Annotated[
        float, option("The part that devices of this level train.", True, metavar="SHARE")
    ] = 1.0,
    format_: Formats = None,
    output: Annotated[
        Path | None, option("Where to.", "export in the run", "--output", "-o", metavar="DIR")
    ] = None,
    output_dir: OutputDir = "",
) -> None:
    """Export a cluster's model; check it against torch; say its size and speed.

    [bold]caafp export latest --cluster 0 --format onnx[/]

    [bold]caafp export latest -f safetensors -f sparse -f pt2[/]

    onnx needs the extra 'export'. The paths are printed last, a line each.
    """
    with ending():
        import torch

        from caafp_app.export import export_cluster
        from caafp_app.runs.place import find_run

        torch.set_num_threads(1)
        trained, made = export_cluster(
            find_run(run, output_dir), cluster, format_ or ["safetensors"], output, level
        )
        tell(trained, made)


def tell(trained: "Trained", made: "Sequence[Exported]") -> None:
    """Say size, agreement and speed, a line for each file on stderr; then the paths."""
    size = sum(array.size for array in trained.arrays.values())
    dense = 4 * trained.full_size
    lines = [
        f"{trained.name}: {size} numbers of {trained.full_size}, density {trained.density:.2f}, "
        f"{len(trained.class_names)} classes",
        f"{'format':<12} {'bytes':>9} {'of dense':>8} {'difference':>10} {'same class':>10} "
        f"{'1 window':>9} {'256':>9}",
    ]
    lines += [
        f"{one.format:<12} {one.nbytes:>9} {one.nbytes / dense:>8.2f} {one.difference:>10.1e} "
        f"{one.agreement:>10.1%} {1e3 * one.one:>6.2f} ms {1e3 * one.batch:>6.2f} ms"
        for one in made
    ]
    for line in (*lines, "Times: this CPU, one thread, median. " + _HONEST):
        typer.echo(line, err=True)
    for one in made:
        typer.echo(str(one.path))
