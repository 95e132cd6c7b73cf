"""How the rounds of a run are divided among its phases."""

from caafp_app.errors import SettingsError
from caafp_app.strategies.masks import Pruning


def check_room(total: int, parts: tuple[int, int, int]) -> None:
    """Refuse, by SettingsError, a division of `total` rounds without room for a mask update."""
    _, within, prune = parts
    if prune == 0 or within + prune < 2:
        raise SettingsError(
            "num_rounds: expected a round inside the clusters and another to prune in, found "
            f"{total}, divided into {' + '.join(map(str, parts))} (warm-up, inside, prune): take "
            "3 or more, give prune_rounds, or Pruning(sparsity=0.0)"
        )


def check_updates(parts: tuple[int, int, int], pruning: Pruning) -> None:
    """Refuse, by SettingsError, masks that could not evolve as they are asked to."""
    _, within, prune = parts
    if pruning.final > pruning.initial_sparsity and not prune:
        raise SettingsError(
            f"prune_rounds: expected at least 1, because sparsity {pruning.final:g} is reached "
            "in them, found 0; set sparsity to 0 (or to initial_sparsity) to prune nothing"
        )
    if pruning.final and prune == 1 and not within:
        raise SettingsError(
            "prune_rounds: expected at least 2 where cluster_rounds is 0, because a round in "
            "clusters comes before the first mask update and one after it, found 1"
        )


SHORT = 10
"""A run of fewer rounds, that nobody has divided, has one cluster and no personal models: there is
no time to learn of differences."""


def early_rounds(total: int, every: int) -> tuple[tuple[int, int, int], int]:
    """Divide rounds that nobody has divided, so that pruning starts early and goes in small steps.

    A fifth is warm-up (nothing in a run of fewer than `SHORT`), a twentieth inside the clusters,
    and the rest prunes, every sixth of all rounds or `every`: the last mask is left rounds to be
    trained. Returns the rounds of the three phases, and the rounds between mask updates.
    """
    warmup = 0 if total < SHORT else round(total / 5)
    within = max(1, total // 20)
    return (warmup, within, total - warmup - within), min(every, max(1, total // 6))


def default_sparsity(total: int, usual: float) -> float:
    """Return what a run of so many rounds prunes if nobody says: little where they are few.

    Weights that have hardly been trained show little of what they will be good for, and there is
    no time to mend what pruning breaks.
    """
    return 0.0 if total < 3 else min(usual, 0.015 * total)


def divide_rounds(
    total: int, warmup: int | None, within: int | None, prune: int | None
) -> tuple[int, int, int]:
    """Divide `total` rounds among the three phases.

    Raises SettingsError if the given ones do not add up to `total`.
    """
    given = (warmup, within, prune)
    parts = [part or 0 for part in given]
    open_ = [place for place, part in enumerate(given) if part is None]
    left = total - sum(parts)
    if left and not open_:
        raise SettingsError(
            f"warmup, cluster and prune rounds: expected {total} together (num_rounds), "
            f"found {warmup} + {within} + {prune}"
        )
    if left < 0:
        raise SettingsError(f"the phases have more rounds than num_rounds ({total})")
    shares = (0.3, 0.3, 0.4)
    whole = sum(shares[place] for place in open_)
    for place in open_[:-1]:
        parts[place] = int(left * shares[place] / whole + 0.5)
    for place in open_[-1:]:
        parts[place] = total - sum(parts)
    return parts[0], parts[1], parts[2]
