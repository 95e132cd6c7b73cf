"""One setting: its default, its bounds and its sentence, where they cannot drift apart."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias, TypeVar

from caafp_app.errors import SettingsError
from caafp_app.registry import PATH_FORM, Registry, hint, is_path

Scalar: TypeAlias = bool | int | float | str
T = TypeVar("T", bool, int, float, str)

LARGEST = 2**63 - 1
"""Whole numbers are at most so large: TOML and Flower's messages have 64 bits."""

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


@dataclass(frozen=True)
class Rule:
    """What one setting means and which values it may take.

    A string takes the names of `choices`; with a registry a path as well, unless `names_only`,
    because what is chosen travels as a name. Bounds `low` and `high` are allowed themselves,
    `above` and `below` are not. `words`, such as ``auto``, may stand in place of a number.
    """

    comment: str
    choices: tuple[str, ...] | Registry = ()
    names_only: bool = False
    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    words: tuple[str, ...] = ()

    @property
    def paths(self) -> bool:
        """Whether an object's path, see `registry.PATH_FORM`, will do as well as a name."""
        return isinstance(self.choices, Registry) and not self.names_only

    def expected(self, kind: type) -> str:
        """Say in words what a value of this setting has to be; of a registry, its own names."""
        names = self.choices.builtin if isinstance(self.choices, Registry) else self.choices
        if names:
            return "one of " + ", ".join(names + (PATH_FORM,) * self.paths)
        bounds = {
            "of at least": self.low,
            "above": self.above,
            "at most": self.high,
            "below": self.below,
        }
        told = [f"{word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound)]
        return ", or ".join((" ".join((_KINDS[kind], " and ".join(told))).strip(), *self.words))

    def allows(self, value: Scalar) -> bool:
        """Tell whether ``value``, already of the right type, is allowed."""
        if isinstance(value, str):
            return not self.choices or value in self.choices or (self.paths and is_path(value))
        if isinstance(value, bool):
            return True
        within = self.low <= value <= self.high and self.above < value < self.below
        return within and math.isfinite(value)


def knob(default: T, comment: str, **rule: Any) -> T:
    """Declare a dataclass field that is a setting; its default's type is the setting's.

    `rule` has the other fields of `Rule`.
    """
    declared: T = field(default=default, metadata={"rule": Rule(comment, **rule)})
    return declared


def key_of(name: str) -> str:
    """Return the kebab-case key of a field name: ``prune_every`` becomes ``prune-every``."""
    return name.replace("_", "-")


def checked(key: str, value: object, kind: type, rule: Rule) -> Scalar:
    """Return ``value`` as the setting ``key`` holds it: a whole number may stand for a number."""
    if isinstance(value, str) and value in rule.words:
        return value
    if type(value) is int and abs(value) > LARGEST:
        raise SettingsError(f"{key}: expected {rule.expected(kind)}, below 2^63, found {value}")
    if kind is float and type(value) is int:
        value = float(value)
    # `type(...) is`, not isinstance: True is an int in Python, but not a number of clients.
    if type(value) is not kind or not isinstance(value, bool | int | float | str):
        raise SettingsError(f"{key}: expected {rule.expected(kind)}, found {value!r}")
    if not rule.allows(value):
        tip = hint(value, rule.choices) if isinstance(value, str) else ""
        raise SettingsError(f"{key}: expected {rule.expected(kind)}, found {value!r}{tip}")
    return value


@dataclass(frozen=True)
class Group:
    """A frozen dataclass whose fields are knobs, checked as it is made."""

    def __post_init__(self) -> None:
        for item in fields(self):
            rule = item.metadata["rule"]
            value = checked(key_of(item.name), getattr(self, item.name), type(item.default), rule)
            # Frozen for its users; here a whole number becomes the float that it stands for.
            object.__setattr__(self, item.name, value)
