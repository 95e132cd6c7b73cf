"""Looking at arguments when they are given: what is of another kind is refused at once."""

import operator
from collections.abc import Collection
from dataclasses import fields
from numbers import Integral, Real
from types import UnionType
from typing import Any, get_args

import numpy as np

from caafp_app.errors import SettingsError

_KINDS: dict[Any, tuple[Any, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a string"),
    bool: ((bool, np.bool_), "true or false"),
    type(None): (type(None), "None"),
}


def check_arguments(given: Any, counts: Collection[str] = ()) -> None:
    """Raise SettingsError if a field of a dataclass has a value of another type, or NaN.

    Numbers named by `counts` have to be at least 0. Whole numbers of numpy become Python's, the
    only ones that a message takes. Fields of other types, such as functions, may be anything.
    """
    for one in fields(given):
        value = getattr(given, one.name)
        kinds = get_args(one.type) if isinstance(one.type, UnionType) else (one.type,)
        if value is one.default or not all(k in _KINDS or _is_ours(k) for k in kinds):
            continue
        known = [_KINDS.get(kind, (kind, f"a {kind.__name__}")) for kind in kinds]
        fits = any(isinstance(value, kind) for kind, _ in known)
        number = isinstance(value, Real) and not isinstance(value, bool)
        low = number and one.name in counts and value < 0
        nan = number and value != value
        if not fits or low or nan or (isinstance(value, bool) and bool not in kinds):
            least = " of at least 0" if number and one.name in counts else ""
            told = " or ".join(name for _, name in known)
            raise SettingsError(f"{one.name}: expected {told}{least}, found {value!r:.80}")
        if isinstance(value, Integral) and number:
            object.__setattr__(given, one.name, operator.index(value))


def _is_ours(kind: Any) -> bool:
    return isinstance(kind, type) and kind.__module__.startswith("caafp_app.")
