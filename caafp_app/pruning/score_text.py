"""A score as a setting writes it: a weighted sum of registered scores."""

import re

from caafp_app.errors import SettingsError
from caafp_app.registry import PATH_FORM, SCORES, hint

DEFAULT_SCORE = "0.5 magnitude + 0.25 coherence + 0.25 consistency"
"""The paper's weights."""

RIVALS = (DEFAULT_SCORE, "magnitude", "consistency", "curvature")
"""What ``score="auto"`` lets clients choose between; the first wins where none is better."""

STALENESS = "staleness"
"""The term that says nothing of active weights: see `pruning.staleness`."""

_TERM = re.compile(r"(?:(\d+(?:\.\d*)?|\.\d+)\s+)?([A-Za-z_][\w.:-]*)", re.ASCII)


def rivals_of(text: str) -> tuple[str, ...]:
    """Return the scores that a setting leaves to be chosen from: itself, or of ``auto`` all."""
    return RIVALS if text == "auto" else (text,)


def parse_score(text: str) -> tuple[tuple[str, float], ...]:
    """Return the names of the scores and their weights, in the order of the text.

    The text is as ``"0.5 magnitude + 0.25 coherence + 0.25 consistency"``; a name without a weight
    has 1, and may be the path of a score function, which is not imported.

    Raises SettingsError if it is no such sum, a name is unknown or comes twice, or all weights are
    0.
    """
    terms: list[tuple[str, float]] = []
    for part in text.split("+"):
        match = _TERM.fullmatch(part.strip())
        if match is None:
            raise SettingsError(
                'score: expected a sum as "0.5 magnitude + 0.25 coherence + 0.25 consistency", or '
                f"one name, found {text!r}"
            )
        name = match[2]
        if not SCORES.accepts(name):
            raise SettingsError(
                f"score: expected names of {', '.join(SCORES)} or {PATH_FORM}, found "
                f"{name!r}{hint(name, SCORES)}"
            )
        if name in dict(terms):
            raise SettingsError(f"score: expected each name once, found {name!r} twice")
        terms.append((name, float(match[1] or 1.0)))
    if not any(weight for name, weight in terms if name != STALENESS):
        raise SettingsError(
            f"score: expected a weight above 0 besides that of staleness, found none in {text!r}"
        )
    return tuple(terms)
