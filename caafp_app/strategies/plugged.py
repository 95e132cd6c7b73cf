"""A strategy of the user's own: its class imported by the path that names it, checked, and made.

Only a server does this. To import a module is to run it; whoever starts a run may do so anyway,
since the apps themselves come with it.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from caafp_app.errors import SettingsError
from caafp_app.registry import load
from caafp_app.settings import Settings
from caafp_app.strategies.phased import PhasedStrategy

_BASE = "caafp_app.strategies.PhasedStrategy"


def find_class(path: str) -> type[PhasedStrategy]:
    """Import the class that `path` names, as ``package.module:Class``.

    Raises
    ------
    SettingsError
        There is no such module or class, it is no `PhasedStrategy`, or it lacks one of the methods
        that a strategy must have.
    """
    found = load("strategy", path)
    if not _is_strategy(found):
        raise SettingsError(
            f"strategy: expected a subclass of {_BASE} at {path!r}, found {_told(found)}; derive "
            "it from that, or from FedAvg or another class of caafp_app.strategies"
        )
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise SettingsError(
            f"strategy: expected {path!r} to define {missing}, found a class without; see "
            "caafp_app.strategies.hooks for what it returns"
        )
    strategy: type[PhasedStrategy] = found
    return strategy


def make_plugged(path: str, settings: Settings, shared: Mapping[str, Any]) -> PhasedStrategy:
    """Make the strategy that `path` names.

    Parameters
    ----------
    path : str
        As of `find_class`.
    settings : Settings
        For a class with a classmethod ``from_settings(settings, shared)``, which makes it then.
    shared : mapping
        The keywords that all strategies share; any other class is called with them.

    Raises
    ------
    SettingsError
        As of `find_class`; or it cannot be called so, or makes something else.
    """
    found = find_class(path)
    own: Callable[..., object] | None = getattr(found, "from_settings", None)
    if own is not None:
        _check_call(own, f"{path}.from_settings", "a classmethod (settings, shared)", settings, {})
        made = own(settings, dict(shared))
    else:
        takes = "a constructor that all keywords shared by strategies can be given to"
        _check_call(found, path, takes, **shared)
        made = found(**shared)
    if not isinstance(made, PhasedStrategy):
        raise SettingsError(
            f"strategy: expected {path}.from_settings to return a {_BASE}, found {_told(made)}"
        )
    return made


def _is_strategy(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, PhasedStrategy)


def _check_call(call: Callable[..., object], name: str, takes: str, *args: Any, **kw: Any) -> None:
    """Refuse what cannot be called so; what goes wrong inside of the call is its own error."""
    signature = inspect.signature(call)
    try:
        signature.bind(*args, **kw)
    except TypeError as error:
        raise SettingsError(
            f"strategy: expected {takes}, found {name}{signature}: {error}; take **kwargs, hand "
            "them on to super().__init__, and give arguments of your own a default, or define "
            "the classmethod from_settings(settings, shared)"
        ) from error


def _told(found: object) -> str:
    """Say what something is: a class by its bases, a value by its type."""
    if not isinstance(found, type):
        return f"a value of type {type(found).__name__}"
    bases = ", ".join(f"{base.__module__}.{base.__qualname__}" for base in found.__bases__)
    return f"a class derived from {bases}"
