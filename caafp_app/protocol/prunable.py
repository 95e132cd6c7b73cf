"""Which of a model's arrays may be pruned: by default those with two or more axes."""

import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from caafp_app.errors import SettingsError
from caafp_app.protocol.entry import FLOATS

PrunableRule = Callable[[str, tuple[int, ...]], bool] | Iterable[str] | None
"""``rule(name, shape) -> bool``, names and globs, or None for the default."""


def prunable_names(
    arrays: Mapping[str, NDArray[Any]],
    rule: PrunableRule = None,
    *,
    spare_first: bool = False,
    spare_last: bool = False,
    spare_below: int = 0,
) -> frozenset[str]:
    """Choose the prunable ones of `arrays`; empty and not floating arrays never are.

    Parameters
    ----------
    rule : callable, iterable of str, or None
        ``rule(name, shape) -> bool``, or names and globs such as ``"conv*.weight"``, each of which
        has to match a floating array. None: arrays of two or more axes and at least `spare_below`
        numbers.
    spare_first, spare_last : bool
        Leave the first / last array that `rule` accepts dense.
    """
    candidates = {
        name: tuple(array.shape)
        for name, array in arrays.items()
        if array.dtype.name in FLOATS and array.size
    }
    accepts = _as_function(rule, candidates, spare_below)
    chosen = [name for name, shape in candidates.items() if accepts(name, shape)]
    start = int(spare_first)
    return frozenset(chosen[start : max(len(chosen) - int(spare_last), start)])


def _as_function(
    rule: PrunableRule, candidates: Mapping[str, tuple[int, ...]], spare_below: int
) -> Callable[[str, tuple[int, ...]], bool]:
    if rule is None:
        return lambda name, shape: len(shape) >= 2 and math.prod(shape) >= spare_below
    if callable(rule):
        return rule
    alone = isinstance(rule, str) or not isinstance(rule, Iterable)
    given: list[object] = [rule] if alone else list(rule)
    patterns = [pattern for pattern in given if isinstance(pattern, str)]
    if len(patterns) < len(given):
        raise SettingsError(
            f"prunable: expected names, globs, or a function of name and shape, found {rule!r:.80}"
        )
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in candidates):
            known = ", ".join(candidates) or "none"
            raise SettingsError(
                f"prunable={pattern!r} matches none of the model's floating arrays: {known}"
            )
    return lambda name, shape: any(fnmatch.fnmatchcase(name, p) for p in patterns)
