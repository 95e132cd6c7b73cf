"""Our app with a component of the test's own, for what the app itself has no need to show."""

import shutil
from pathlib import Path

from caafp_app.launch.source import PACKAGE, description_file


def variant(folder: Path, module: str, **components: str) -> Path:
    """Copy the app to a folder for ``flwr run``, with components of a module of the test's own.

    `module` is the source of ``caafp_app.variant``. `components` name an object in it for
    ``serverapp`` or ``clientapp``.
    """
    package = folder / PACKAGE.name
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "*.toml"))
    (package / "variant.py").write_text(module, encoding="utf-8")
    description = description_file().read_text(encoding="utf-8")
    for component, name in components.items():
        ours = f'{component} = "{PACKAGE.name}.{component.replace("app", "_app")}:app"'
        assert ours in description
        theirs = f'{component} = "{PACKAGE.name}.variant:{name}"'
        description = description.replace(ours, theirs)
    (folder / "pyproject.toml").write_text(description, encoding="utf-8")
    return folder
