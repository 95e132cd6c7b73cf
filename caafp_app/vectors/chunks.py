"""Long vectors piece by piece, so that what a step touches stays in the cache.

It also keeps temporary vectors short: on large models a fresh one of full length costs more than
the arithmetic on it.
"""

from collections.abc import Iterator

CHUNK = 131_072
"""Elements of a piece: steps are few enough that their calls cost nothing."""


def chunks(size: int, most: int = CHUNK) -> Iterator[slice]:
    """Cut ``range(size)`` into slices of at most `most` elements."""
    for start in range(0, size, most):
        yield slice(start, min(size, start + most))
