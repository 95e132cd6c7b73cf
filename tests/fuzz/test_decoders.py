"""Some thousand mutated messages against both decoders; `make fuzz` runs a hundred thousand."""

import pytest

from tests.fuzz.decoders import an_answer, fuzz, serve

QUICK = 1000


@pytest.mark.parametrize("seed", [101, 102])
def test_only_our_own_errors_come_out(seed: int) -> None:
    told = fuzz(seed, QUICK)
    assert told.outcomes.total() == QUICK
    # Mutations that hit nothing would show nothing.
    for side in ("server", "client"):
        taken = told.outcomes[f"{side} taken"]
        assert 0.02 * QUICK < taken < 0.35 * QUICK, told.outcomes


def test_what_is_not_mutated_is_taken() -> None:
    import numpy as np

    rng = np.random.default_rng(1)
    assert {serve(*an_answer(rng)) for _ in range(50)} == {"taken"}
