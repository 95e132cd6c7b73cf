"""When masks change, and to which sparsity: the plan of a run's rounds.

A schedule is registered by name (`caafp_app.registry.SCHEDULES`): a function from the share of mask
updates that are done, in (0, 1), to the share of the way to the final sparsity that is gone.
"""

from dataclasses import dataclass
from enum import StrEnum

from caafp_app.errors import SettingsError
from caafp_app.registry import SCHEDULES


class Phase(StrEnum):
    """The phases of a run.

    ``TRAIN`` (rounds that are all alike), ``WARM_UP``, ``CLUSTER_WARM_UP`` and ``PRUNE`` have
    numbered rounds, the others are one exchange.
    """

    DESCRIBE = "describe"
    SALIENCY = "saliency"
    TRAIN = "train"
    WARM_UP = "warm-up"
    CLUSTER = "cluster"
    ELECTION = "election"
    CLUSTER_WARM_UP = "cluster-warm-up"
    PRUNE = "prune"
    PERSONALISE = "personalise"


@dataclass(frozen=True)
class RoundPlan:
    """What happens in one round.

    `mask_update`: masks change at its end, to the target `sparsity`, in force after the round.
    `gradients`: clients send gradients at inactive weights, because masks change and something is
    inactive. `statistics`: the replies enter the statistics of the next mask update.
    """

    round: int
    phase: Phase
    mask_update: bool
    sparsity: float
    gradients: bool
    statistics: bool


def target_sparsity(step: int, steps: int, initial: float, final: float, kind: str) -> float:
    """Return the sparsity after mask update ``step`` of ``steps``, in [initial, final].

    Law: initial at step 0, final at the last step, monotone between; 0 <= initial <= final < 1.
    """
    if not 0.0 <= initial <= final < 1.0:
        raise SettingsError(
            "expected 0 <= initial sparsity <= final sparsity < 1, found an initial of "
            f"{initial} and a final of {final}"
        )
    if not (0 <= step <= steps and steps >= 1):
        raise SettingsError(f"expected a step between 0 and steps >= 1, found {step} of {steps}")
    if step == 0:
        return initial
    progress: float = SCHEDULES[kind](step / steps)
    if progress >= 1.0 or step == steps:
        return final
    return min(initial + (final - initial) * progress, final)


def one_shot(done: float) -> float:
    """Go all the way with the first mask update."""
    return 1.0


def linear(done: float) -> float:
    """Go the same way with each mask update."""
    return done


def cubic(done: float) -> float:
    """Go most of the way early (Zhu, Gupta, "To prune, or not to prune", 2017)."""
    return 1.0 - (1.0 - done) ** 3


def even_plan(
    rounds: int, *, phase: Phase = Phase.TRAIN, sparsity: float = 0.0, first: int = 1
) -> tuple[RoundPlan, ...]:
    """Plan rounds that are all alike, numbered from `first`; no mask changes by plan."""
    return tuple(
        RoundPlan(first + i, phase, False, sparsity, gradients=False, statistics=False)
        for i in range(rounds)
    )


def build_plan(
    warmup: int,
    cluster: int,
    prune: int,
    every: int,
    initial: float,
    final: float,
    kind: str,
) -> tuple[RoundPlan, ...]:
    """Plan the numbered rounds of a run.

    Clients are clustered after round ``warmup``; 0 means from the initial weights. Masks belong to
    clusters, so they change at the end of rounds in clusters only: first at the end of round
    ``warmup + cluster``, or of the first round in clusters where ``cluster`` is 0; then every
    ``every`` rounds, as long as a round is left to train with the new mask. The paper's 15 + 15 +
    20 rounds, every 5, give rounds 30, 35, 40 and 45. With an initial sparsity masks change from
    the first round in clusters on. Without rounds of pruning, or with a final sparsity of 0, they
    never do.

    Statistics come from the ``every`` rounds before a mask update, the last of which brings the
    gradients too, unless the model is still dense. Raises SettingsError if a value is outside its
    range, or pruning is asked for and no mask update fits in.
    """
    total = warmup + cluster + prune
    if min(warmup, cluster, prune) < 0 or total < 1 or every < 1:
        raise SettingsError(
            "expected numbers of rounds that are not negative, at least 1 in all, and at least 1 "
            f"between mask updates, found {warmup} + {cluster} + {prune}, every {every}"
        )
    target_sparsity(0, 1, initial, final, kind)  # the ranges, also where nothing is pruned
    updates = _update_rounds(warmup, cluster, prune, every, sparse=initial > 0.0, final=final)
    collecting = {
        number
        for update in updates
        for number in range(max(update - every, warmup) + 1, update + 1)
    }
    sparsity = initial
    plan = []
    for number in range(1, total + 1):
        phase = Phase.PRUNE
        if number <= warmup + cluster:
            phase = Phase.WARM_UP if number <= warmup else Phase.CLUSTER_WARM_UP
        mask_update = number in updates
        gradients = mask_update and sparsity > 0.0
        if mask_update:
            step = updates.index(number) + 1
            sparsity = target_sparsity(step, len(updates), initial, final, kind)
        plan.append(
            RoundPlan(number, phase, mask_update, sparsity, gradients, number in collecting)
        )
    return tuple(plan)


def _update_rounds(
    warmup: int, cluster: int, prune: int, every: int, *, sparse: bool, final: float
) -> tuple[int, ...]:
    if prune == 0 or final == 0.0:
        return ()
    first = warmup + (1 if sparse else max(cluster, 1))
    total = warmup + cluster + prune
    if first >= total:
        raise SettingsError(
            "expected a round in clusters before the first mask update and one after it, found "
            f"{cluster} rounds in clusters and {prune} of pruning: give it 2 rounds of pruning, or "
            "rounds in clusters"
        )
    return tuple(range(first, total, every))
