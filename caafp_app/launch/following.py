"""Settings that follow others: a value that nobody gave does not stand in the way of one given.

With ``sparsity=0.5`` over a preset that starts at 0.7 nobody named ``initial-sparsity``: it
follows.
"""

import math
from collections.abc import Callable, Collection, MutableMapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """The setting `key` is at most `most` of the values of its `leaders`; None: any."""

    key: str
    leaders: tuple[str, ...]
    most: Callable[..., int | float | None]


RULES = (
    # What a model bears is found from a dense one.
    Rule("initial-sparsity", ("sparsity",), lambda s: 0.0 if isinstance(s, str) else s),
    Rule("prune-every", ("prune-rounds",), lambda rounds: rounds or None),
    Rule("evaluate-every", ("warmup-rounds", "cluster-rounds", "prune-rounds"), lambda *n: sum(n)),
    Rule("min-replies", ("clients-per-round",), lambda clients: clients),
    Rule("cluster-floor", ("clients-per-round", "clusters"), lambda n, k: n // (k or 2)),
    Rule("synthetic-groups", ("synthetic-users",), lambda users: users),
    Rule(
        "clusters",
        ("synthetic-users", "dataset", "partition"),
        lambda users, data, part: users if (data, part) == ("synthetic", "natural") else None,
    ),
    Rule(
        "clusters",
        ("num-clients", "partition"),
        lambda clients, part: (clients or None) if part != "natural" else None,
    ),
)


def follow(values: MutableMapping[str, object], given: Collection[str]) -> list[str]:
    """Lower, in place, what was not `given` and exceeds what was; return a note for each."""
    notes = []
    for rule in RULES:
        named = [name for name in rule.leaders if name in given]
        if rule.key in given or not named:
            continue
        try:
            most, found = rule.most(*(values[name] for name in rule.leaders)), values[rule.key]
        except (KeyError, TypeError):
            continue  # the check of the settings will say what is wrong
        if not isinstance(found, int | float) or not isinstance(most, int | float):
            continue  # no number, or any, or what a user gave in the place of one
        if not 0 <= most < found or not math.isfinite(most):
            continue
        values[rule.key] = type(found)(most)
        why = ", ".join(f"{name}={values[name]}" for name in named)
        notes.append(f"{rule.key} is {values[rule.key]}, not {found}, because of {why}")
    return notes
