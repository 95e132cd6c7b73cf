"""``package.module:Class``: how a setting names a strategy of the user's own.

Settings are read on clients too, which must not import it: what stands here looks at the text, and
imports nothing.
"""

import re

from caafp_app.errors import SettingsError

EXAMPLE = "package.module:Class"

_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
# With time, data set and seed it stays below the length that a folder's name may have.
_LONGEST_NAME = 60


def is_class_path(text: str) -> bool:
    """Tell whether `text` has the form of `EXAMPLE`, in ASCII identifiers."""
    return _PATH.fullmatch(text) is not None


def split(path: str) -> tuple[str, str]:
    """Return the names of the module and of the class."""
    module, _, name = path.partition(":")
    return module, name


def plain_name(strategy: str) -> str:
    """Return a part of a file's name: of a class its own name, in lower case; else the name."""
    return split(strategy)[1].lower()[:_LONGEST_NAME] if is_class_path(strategy) else strategy


def module_missing(path: str, found: str) -> SettingsError:
    """Return the error of a module that is not on the path of this Python.

    Parameters
    ----------
    path : str
        What was named, module and class.
    found : str
        What was found in its place.
    """
    return SettingsError(
        f"strategy: expected the module {split(path)[0]!r} of {path!r} on the path of the server's "
        f"Python, found {found}; install it there, or put its folder on PYTHONPATH (the app that "
        "Flower ships holds caafp_app alone)"
    )
