"""Groups formed by the warm-up's own updates: nobody is asked once more for them."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from caafp_app.datasets.synthetic import planted_groups
from tests.strategies.support import members_of, prepare, run

BY_ROUNDS = {"clusters": "auto", "strategy-args": "grouping='rounds'", "synthetic-users": 12}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("by_rounds", [True, False])
def test_planted_groups_are_found_without_or_by_an_exchange(seed: int, by_rounds: bool) -> None:
    changes: dict[str, Any] = {"cluster-rounds": 1, "prune-rounds": 0, "sparsity": 0.0}
    changes |= {"seed": seed, "data-seed": seed, "warmup-rounds": 5 if by_rounds else 2}
    changes |= {"synthetic-windows": 80 if by_rounds else 120, "clients-per-round": 8}
    how = BY_ROUNDS if by_rounds else {"synthetic-users": 12, "clusters": 0, "local-epochs": 2}
    setup = prepare({**how, **changes})
    setup.strategy.personalise = False
    ended = setup.start()
    planted = planted_groups(setup.settings.data)
    placed = sorted(ended.seen.labels)  # by rounds: who was in one of the warm-up
    assert len(placed) >= (9 if by_rounds else 12)
    found = [ended.seen.labels[label] for label in placed]
    agreement = adjusted_rand_score([planted[int(label[-2:])] for label in placed], found)
    assert agreement >= (1.0 if by_rounds else 0.9)
    asked = [record for record in ended.seen.rounds if record.phase == "cluster"]
    assert bool(asked) != by_rounds


def test_trainings_are_those_of_the_rounds_and_the_personal_phase() -> None:
    """R f n + n at most: 8 rounds of 4, and 12 clients once."""
    ended = run({**BY_ROUNDS, "clients-per-round": 4})
    phases = ended.ledger.by_phase()
    told = {phase: traffic.messages["down"] for phase, traffic in phases.items()}
    told.pop("describe")  # who are you? Nobody trains for it
    assert set(told) == {"warm-up", "cluster-warm-up", "prune", "personalise"}
    assert (sum(told.values()), told["personalise"]) == (8 * 4 + 12, 12)


def test_who_was_in_no_round_is_placed_when_it_is_first_drawn() -> None:
    changes = {"synthetic-windows": 80, "warmup-rounds": 2, "cluster-rounds": 12}
    changes |= {"prune-rounds": 0, "sparsity": 0.0, "clients-per-round": 6, "clusters": 3}
    ended = run({**BY_ROUNDS, **changes})
    assert len(ended.seen.labels) < 12
    planted = planted_groups(ended.settings.data)
    members = members_of(ended.result)
    labels = sorted(members)
    assert adjusted_rand_score(planted, [members[label] for label in labels]) == 1.0


def test_without_a_warm_up_all_train_once_as_published() -> None:
    ended = run({**BY_ROUNDS, "warmup-rounds": 0, "clusters": 2})
    assert len(ended.asked()[1, "cluster"]) == 12
    assert np.unique(list(members_of(ended.result).values())).size == 2
