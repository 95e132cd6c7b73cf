"""What a search varies: ``key=low..high`` and ``key=a,b,c``."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from caafp_app.errors import SettingsError
from caafp_app.launch.presets import parse_pairs
from caafp_app.registry import hint
from caafp_app.settings import Scalar, knobs
from caafp_app.settings.resolve import check_value

_RANGE = re.compile(r"\s*([-+.\deE]+?)\s*\.\.\s*([-+.\deE]+)\s*")
_LOGARITHMIC = 10.0


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; on a logarithmic scale where they span much."""

    low: int | float
    high: int | float

    @property
    def logarithmic(self) -> bool:
        """Whether small steps count more at the low end: high is 10 times low, or more."""
        return self.low > 0 and self.high >= _LOGARITHMIC * self.low


Choices: TypeAlias = tuple[Scalar, ...]
Space: TypeAlias = dict[str, Range | Choices]


def read_space(pairs: Iterable[str]) -> tuple[Space, dict[str, object]]:
    """Take apart what is searched (``key=low..high``, ``key=a,b,c``) and what is fixed."""
    kinds = {knob.key: type(knob.default) for knob in knobs()}
    commas = {"input-shape", "classes", "channels", "track", "strategy-args"}
    space: Space = {}
    fixed: list[str] = []
    for pair in pairs:
        key, _, text = (part.strip() for part in pair.partition("="))
        match = _RANGE.fullmatch(text)
        if not match and ("," not in text or key in commas):
            fixed.append(pair)
            continue
        if key not in kinds:
            raise SettingsError(f"unknown setting {key!r}{hint(key, kinds)}")
        if key in space:
            raise SettingsError(f"{key}: expected once, found twice")
        part = _range(key, match, kinds[key]) if match else _choices(key, text)
        for value in (part.low, part.high) if isinstance(part, Range) else part:
            check_value(key, value)
        space[key] = part
    if not space:
        raise SettingsError(
            "expected a setting to search over, as learning-rate=0.0003..0.01 (a range) or "
            "local-epochs=1,2,4 (choices), found none"
        )
    return space, parse_pairs(fixed)


def _range(key: str, match: re.Match[str], kind: type) -> Range:
    if kind not in (int, float):
        raise SettingsError(f"{key}: expected choices, as {key}=a,b, found a range")
    try:
        low, high = kind(match[1]), kind(match[2])
    except ValueError as error:
        raise SettingsError(f"{key}: expected low..high, found {match[0]!r}") from error
    if not low < high:
        raise SettingsError(f"{key}: expected low..high with low below high, found {match[0]!r}")
    return Range(low, high)


def _choices(key: str, text: str) -> Choices:
    values = [parse_pairs([f"{key}={part}"])[key] for part in text.split(",")]
    choices = tuple(value for value in values if isinstance(value, bool | int | float | str))
    if len(set(choices)) < len(values) or len(values) < 2:
        raise SettingsError(f"{key}: expected different values with commas between, found {text!r}")
    return choices


def contains(space: Space, values: Mapping[str, Scalar]) -> bool:
    """Tell whether the values of all keys lie in the space."""
    return all(
        part.low <= values[key] <= part.high  # type: ignore[operator]
        if isinstance(part, Range)
        else values[key] in part
        for key, part in space.items()
    )
