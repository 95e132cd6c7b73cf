"""How every command ends: an error in one line on stderr, and the exit status of its kind."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from caafp_app.errors import CaafpError, SettingsError
from caafp_app.safe_text import printable

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
"""Exit statuses."""
SIGNALLED = 128
"""A process that a signal has told to end exits with this and the signal's number."""
EXTRAS = {
    "sklearn": "server",
    "scipy": "server",
    "pandas": "server",
    "ray": "simulation",
    "flwr_datasets": "simulation",
    "matplotlib": "simulation",
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "optuna": "tune",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
}
"""Which extra brings a package that a device does without."""
REPEAT = "; run the same command again to go on"
"""Of a command that keeps what it has finished."""


@contextmanager
def ending(then: str = "") -> Iterator[None]:
    """Turn the package's errors, Ctrl-C and signals into a line on stderr and an exit status.

    `then` is added to the line of a command that was stopped.
    """
    try:
        yield
    except CaafpError as error:
        # It may quote a file of somebody else's, whose lines must not look like ours.
        lines = [printable(line) for line in str(error)[:10_000].splitlines()]
        typer.echo("caafp: " + "\n  ".join(lines), err=True)
        raise typer.Exit(MISUSED if isinstance(error, SettingsError) else FAILED) from error
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        typer.echo(
            f"caafp: expected {missing} to be installed, found it missing: python -m pip install "
            f"'caafp-app[{EXTRAS[missing]}]', or '.[{EXTRAS[missing]}]' in a clone",
            err=True,
        )
        raise typer.Exit(MISUSED) from error
    except RuntimeError as error:
        # pathlib's, for "~" where this user has no home directory, and for links in a circle
        if not any(words in str(error) for words in ("home directory", "Symlink loop")):
            raise
        typer.echo(f"caafp: expected a path, found: {error}; write the whole path", err=True)
        raise typer.Exit(MISUSED) from error
    except KeyboardInterrupt as interrupt:
        typer.echo(f"caafp: stopped{then}", err=True)
        raise typer.Exit(INTERRUPTED) from interrupt
    except SystemExit as told:
        if isinstance(told.code, int) and told.code > SIGNALLED:
            typer.echo(f"caafp: stopped{then}", err=True)
        raise
