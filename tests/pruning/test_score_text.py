import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.errors import SettingsError
from caafp_app.pruning.score_text import parse_score


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("magnitude", (("magnitude", 1.0),)),
        (
            "0.5 magnitude + 0.25 coherence + 0.25 consistency",
            (("magnitude", 0.5), ("coherence", 0.25), ("consistency", 0.25)),
        ),
        ("2 coherence-paper+magnitude", (("coherence-paper", 2.0), ("magnitude", 1.0))),
        (" .5  my.scores:mine ", (("my.scores:mine", 0.5),)),
        ("0 magnitude + 1 consistency", (("magnitude", 0.0), ("consistency", 1.0))),
    ],
)
def test_a_score_is_a_weighted_sum_of_names(
    text: str, terms: tuple[tuple[str, float], ...]
) -> None:
    assert parse_score(text) == terms


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "a sum as"),
        ("magnitude +", "a sum as"),
        ("-1 magnitude", "a sum as"),
        ("0.5magnitude", "a sum as"),
        ("1e5 magnitude", "a sum as"),
        ("nan magnitude", "a sum as"),
        ("magnitude * 2", "a sum as"),
        ("magnitud", "did you mean 'magnitude'"),
        ("magnitude + 2 magnitude", "'magnitude' twice"),
        ("0 magnitude + 0.0 coherence", "a weight above 0"),
    ],
)
def test_what_is_no_score_is_refused(text: str, part: str) -> None:
    with pytest.raises(SettingsError, match=f"^score: expected .*{part}"):
        parse_score(text)


@given(st.text(alphabet="0123456789.+-eE magnitudecohrspy:\n", max_size=60))
def test_any_text_gives_finite_weights_or_one_error(text: str) -> None:
    with contextlib.suppress(SettingsError):
        weights = [weight for _, weight in parse_score(text)]
        assert all(0 <= weight < math.inf for weight in weights)
        assert any(weights)
