"""Where the app's own files are: a checkout, or an installed package.

``flwr run`` wants a folder with a ``pyproject.toml``; from an installed package one is made.
"""

import shutil
import tomllib
from pathlib import Path
from typing import Any

from caafp_app.errors import RunError

PACKAGE = Path(__file__).resolve().parent.parent
PROJECT = "caafp-app"


def checkout() -> Path | None:
    """Return the folder of the checkout that this package is imported from, None if installed."""
    root = PACKAGE.parent
    description = root / "pyproject.toml"
    if not description.is_file():
        return None
    project = tomllib.loads(description.read_text(encoding="utf-8")).get("project", {})
    return root if project.get("name") == PROJECT else None


def presets_folder() -> Path:
    """Return the folder of the presets, ``*.toml``."""
    root = checkout()
    return (root if root else PACKAGE) / "conf"


def description_file() -> Path:
    """Return the ``pyproject.toml`` that describes the Flower app; RunError if there is none."""
    root = checkout()
    path = root / "pyproject.toml" if root else PACKAGE / "flower_app.toml"
    if not path.is_file():
        raise RunError(
            f"expected the app's description at {path}, found nothing; install caafp-app again, or "
            "run from a checkout"
        )
    return path


def default_config() -> dict[str, Any]:
    """Return ``[tool.flwr.app.config]``: what ``flwr run .`` would use."""
    description = tomllib.loads(description_file().read_text(encoding="utf-8"))
    config: dict[str, Any] = description["tool"]["flwr"]["app"]["config"]
    return config


def app_folder(scratch: Path) -> Path:
    """Return a folder that ``flwr run`` accepts: the checkout, or a copy made in `scratch`."""
    root = checkout()
    if root is not None:
        return root
    folder = scratch / PROJECT
    shutil.copytree(
        PACKAGE,
        folder / PACKAGE.name,
        ignore=shutil.ignore_patterns("__pycache__", "conf", "*.toml"),
    )
    shutil.copyfile(description_file(), folder / "pyproject.toml")
    return folder
