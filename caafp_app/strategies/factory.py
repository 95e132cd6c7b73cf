"""From settings to the strategy they name, whoever wrote it.

A strategy's arguments are filled by their names: a class that has an argument ``sparsity`` gets the
setting of that name. What no setting gives is the class's own default, or stands in the setting
``strategy-args``.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from caafp_app.errors import SettingsError
from caafp_app.protocol.identity import read_known_devices
from caafp_app.registry import NETWORKS, STRATEGIES, hint
from caafp_app.runner.options import WireFormat
from caafp_app.runs.checkpoint import Checkpoints
from caafp_app.runs.observer import Observer
from caafp_app.settings import ClusterSettings, PruneSettings, Settings
from caafp_app.settings.knob import key_of
from caafp_app.strategies.masks import Pruning
from caafp_app.strategies.rounds import check_updates
from caafp_app.strategies.strategy import MethodStrategy

_PLUMBING = ("observer", "checkpoints", "stop", "class_names")
_SETTINGS_ONLY = ("known_devices",)


def find_class(name: str) -> type[MethodStrategy]:
    """Return the class of a registered name, or of a path as ``package.module:Class``.

    Raises SettingsError if there is none, it is no `MethodStrategy`, or it lacks a method.
    """
    found = STRATEGIES[name]
    base = f"{MethodStrategy.__module__}.{MethodStrategy.__qualname__}"
    if not (isinstance(found, type) and issubclass(found, MethodStrategy)):
        told = f"a value of type {type(found).__name__}"
        if isinstance(found, type):
            bases = (f"{base.__module__}.{base.__qualname__}" for base in found.__bases__)
            told = f"a class derived from {', '.join(bases)}"
        raise SettingsError(
            f"strategy: expected a subclass of {base} at {name!r}, found {told}; derive it "
            "from that, or from FedAvg or another class of caafp_app.strategies"
        )
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise SettingsError(
            f"strategy: expected {name!r} to define {missing}, found a class without; see {base}"
        )
    return found


def make_strategy(
    settings: Settings,
    observer: Observer | None = None,
    checkpoints: Checkpoints | None = None,
    stop: Callable[[], bool] | None = None,
    class_names: tuple[str, ...] | None = None,
) -> MethodStrategy:
    """Build the strategy that the settings name; what is None here is the class's own default.

    Raises SettingsError if it cannot be found, an argument of ``strategy-args`` is not one of it,
    or one that has no default is not given.
    """
    cls = find_class(settings.run.strategy)
    takes = _arguments(cls)
    given = {name: value for name, value in _offers(settings).items() if name in takes}
    if isinstance(given.get("sparsity"), str):
        raise SettingsError(
            f"sparsity: {given['sparsity']!r} is a rule of strategy 'caafp'; expected a number for "
            f"{settings.run.strategy!r}"
        )
    for name, changes in _nested_offers(settings).items():
        if name in takes:
            given[name] = replace(takes[name], **changes)
    for name, value in settings.run.strategy_arguments.items():
        _take_argument(cls, takes, given, name, value)
    missing = [name for name, default in takes.items() if default is MISSING and name not in given]
    if missing:
        raise SettingsError(
            f"strategy: expected a value for {', '.join(missing)} of {cls.__name__}, found none; "
            f"give it a default, or set strategy-args='{missing[0]}=...'"
        )
    plumbing = dict(zip(_PLUMBING, (observer, checkpoints, stop, class_names), strict=True))
    given |= {name: part for name, part in plumbing.items() if part is not None}
    return cls(**given)


def check_strategy(settings: Settings) -> MethodStrategy:
    """Make the strategy and its plan, and compare its demands with the settings; nothing runs.

    Raises SettingsError as `make_strategy`, and where the rounds do not add up, or the network has
    no filters to cut.
    """
    strategy = make_strategy(settings)
    pruning, rounds = getattr(strategy, "pruning", None), settings.rounds
    if isinstance(pruning, Pruning):
        parts = (rounds.warmup_rounds, rounds.cluster_rounds, rounds.prune_rounds)
        check_updates(parts, pruning)
    strategy.plan(rounds.total)
    network = NETWORKS[settings.model.model]
    if strategy.cuts_filters and not getattr(network, "chain", False):
        raise SettingsError(
            f"model: strategy {settings.run.strategy!r} removes whole filters here, which takes a "
            "network whose layers form a chain (`chain = True` in its class), such as har-cnn or "
            f"digits-cnn; found {settings.model.model!r}"
        )
    return strategy


def unused_settings(name: str) -> tuple[str, ...]:
    """Return the settings of clusters, pruning and levels that a strategy has no argument for."""
    takes = _arguments(find_class(name)).keys()
    unused = []
    for argument, group in (("clustering", ClusterSettings), ("pruning", PruneSettings)):
        if argument not in takes:
            unused += [key_of(one.name) for one in fields(group) if one.name not in takes]
    if "deadline" not in takes:
        unused.append("deadline")
    prunes = {"sparsity", "pruning"} & takes
    return tuple(key for key in unused if not (prunes and key == "spare-layers"))


def _offers(settings: Settings) -> dict[str, Any]:
    """Return what the settings say, by the names of arguments."""
    rounds, pruning, wire = settings.rounds, settings.pruning, settings.wire
    folder = rounds.known_devices
    return {
        **vars(pruning),
        **vars(rounds),
        "seed": settings.run.seed,
        "spare_first": pruning.spares_first,
        "spare_last": pruning.spares_last,
        "wire": WireFormat(wire.down_dtype, wire.up_dtype, wire.rest_dtype),
        "one_exchange": True,
        "spare_below": 0,
        "split": "validation" if settings.data.validation_fraction > 0 else "test",
        "robust": True,
        "known_devices": read_known_devices(Path(folder).expanduser()) if folder else None,
    }


def _nested_offers(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return what the settings say of arguments that are dataclasses, by their fields."""
    known = {field.name for field in fields(Pruning)}
    pruning = {name: value for name, value in vars(settings.pruning).items() if name in known}
    return {
        "clustering": vars(settings.clustering),
        "pruning": {**pruning, "every": settings.pruning.prune_every},
    }


def _take_argument(
    cls: type[MethodStrategy],
    takes: Mapping[str, Any],
    given: dict[str, Any],
    name: str,
    value: object,
) -> None:
    """Put one of ``strategy-args`` into `given`: an argument, or a field of one."""
    key = name.replace("-", "_")
    if key in takes and not is_dataclass(takes[key]) and key not in (*_PLUMBING, *_SETTINGS_ONLY):
        given[key] = _checked(name, value, takes[key])
        return
    fields_of: dict[str, tuple[str, Any]] = {}
    for argument in takes:
        default = given.get(argument, takes[argument])
        if is_dataclass(default) and not isinstance(default, type):
            fields_of |= {field.name: (argument, default) for field in fields(default)}
    if key not in fields_of:
        known = sorted(set(fields_of) | (takes.keys() - {*_PLUMBING, *_SETTINGS_ONLY}))
        raise SettingsError(
            f"strategy-args: expected arguments of {cls.__name__}, found {name!r}"
            f"{hint(key, known)}; it takes {', '.join(known)}"
        )
    argument, default = fields_of[key]
    checked = _checked(name, value, getattr(default, key))
    given[argument] = replace(default, **{key: checked})


def _arguments(cls: type[MethodStrategy]) -> dict[str, Any]:
    """Return the arguments of a class and their defaults; `MISSING` where there is none.

    A class that takes ``**kwargs`` is thought to hand them on: it takes all fields that it has
    from the classes that it derives from.
    """
    parameters = inspect.signature(cls).parameters.values()
    found = {
        one.name: MISSING if one.default is one.empty else one.default
        for one in parameters
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    }
    hands_on = any(one.kind is one.VAR_KEYWORD for one in parameters)
    for field in fields(cls):
        if hands_on and field.init:
            found.setdefault(field.name, field.default)
        if field.name in found and callable(field.default_factory):
            found[field.name] = field.default_factory()
    return found


def _checked(name: str, value: object, default: object) -> object:
    """Return a value of the default's type; a whole number stands for a float."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    kind = type(default)
    if kind in (bool, int, float, str) and type(value) is not kind:
        raise SettingsError(
            f"strategy-args: {name}: expected {kind.__name__} (default {default!r}), "
            f"found {value!r}"
        )
    return value
