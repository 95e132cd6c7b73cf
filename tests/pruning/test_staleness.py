"""Ages of pruned weights, and what these lend to growth: against plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.errors import SettingsError
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.pruning.evidence import Evidence
from caafp_app.pruning.score_text import parse_score
from caafp_app.pruning.staleness import older, with_bonus
from caafp_app.runner.model import SparseModel
from caafp_app.strategies import Pruning

MASKS = st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=6)


@given(MASKS)
def test_an_age_is_the_number_of_updates_since_a_weight_was_active(masks: list[list[bool]]) -> None:
    ages = None
    for mask in masks:
        ages = older(ages, np.array(mask))
    for place, age in enumerate(ages.tolist()):
        column = [mask[place] for mask in reversed(masks)]
        assert age == (column.index(True) if True in column else len(column))


def test_ages_end_where_their_numbers_do() -> None:
    assert older(np.array([65535], np.uint16), np.array([False])).tolist() == [65535]


def test_the_bonus_is_by_age_and_of_nothing_it_is_nothing() -> None:
    gradient = np.array([1.0, -2.0, 0.0, 3.0])
    ages = np.array([4, 2, 4, 0], np.uint16)
    assert with_bonus(gradient, ages, 0.5).tolist() == [1.5, -2.5, 0.0, 3.0]
    assert with_bonus(gradient, np.zeros(4, np.uint16), 9.0).tolist() == gradient.tolist()


def test_what_was_pruned_for_longest_grows_first() -> None:
    arrays = {"w": np.arange(1.0, 11.0, dtype=np.float32).reshape(2, 5)}
    layout = Layout.of(arrays)
    mask = Mask(layout, np.arange(10) < 5)
    model = SparseModel.dense(layout, layout.flatten(arrays)).with_mask(mask)
    gradient = np.where(mask.bits, 0.0, 1.0) * np.array([0] * 5 + [1.0, 1.1, 1.0, 0.9, 0.0])
    ages = np.array([0] * 5 + [1, 1, 1, 4, 4], np.uint16)

    def grown(score: str) -> list[int]:
        pruning = Pruning(score=score, sparsity=0.5, regrow=0.2)
        after = pruning.evolve(model, Evidence(5), gradient, 0.5, ages).mask.bits
        return np.flatnonzero(after & ~mask.bits).tolist()

    assert grown("magnitude") == [6]
    assert grown("magnitude + 0.1 staleness") == [6]  # 1.1 (1 + .025) against .9 (1 + .1)
    assert grown("magnitude + staleness") == [8]
    kept = Pruning(score="magnitude + staleness").scores(model, Evidence(5))
    plain = Pruning(score="magnitude").scores(model, Evidence(5))
    assert np.argsort(kept).tolist() == np.argsort(plain).tolist()
    assert Pruning(score="2 magnitude + staleness").bonus == 0.5
    assert Pruning().bonus == 0.0


def test_staleness_alone_is_no_score() -> None:
    with pytest.raises(SettingsError, match="besides that of staleness"):
        parse_score("staleness")
