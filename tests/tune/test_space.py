import pytest

from caafp_app.errors import SettingsError
from caafp_app.tune.space import Range, read_space


def test_ranges_choices_and_what_is_fixed() -> None:
    space, fixed = read_space(
        ["learning-rate=0.0003..0.01", "local-epochs=1..5", "allocation=uniform,erk",
         "sparsity=0.5,0.7", "seed=7", "dataset=uci-har"]
    )  # fmt: skip
    assert space == {
        "learning-rate": Range(0.0003, 0.01),
        "local-epochs": Range(1, 5),
        "allocation": ("uniform", "erk"),
        "sparsity": (0.5, 0.7),
    }
    assert fixed == {"seed": 7, "dataset": "uci-har"}
    assert Range(0.0003, 0.01).logarithmic
    assert not Range(1, 5).logarithmic


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["seed=7"], "expected a setting to search over"),
        (["learning-rte=0.1..0.2"], "did you mean 'learning-rate'"),
        (["learning-rate=0.2..0.1"], "low below high"),
        (["local-epochs=1.5..2"], "expected low..high"),
        (["allocation=1..2"], "expected choices"),
        (["sparsity=0.5,0.5"], "different values"),
        (["sparsity=0.5..1.5"], "sparsity: expected .* below 1, .* found 1.5"),
        (["allocation=uniform,erc"], "did you mean 'erk'"),
        (["local-epochs=1..2", "local-epochs=1..3"], "local-epochs: expected once"),
    ],
)
def test_what_is_no_space_is_refused(pairs: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_space(pairs)
