import pytest

from caafp_app.errors import SettingsError
from caafp_app.launch.following import follow
from caafp_app.launch.presets import combined, parse_pairs, read_preset


@pytest.mark.parametrize(
    ("preset", "pairs", "key", "value"),
    [
        ("caafp", ["sparsity=0.5"], "initial-sparsity", 0.5),
        ("caafp", ["sparsity=0"], "initial-sparsity", 0.0),
        ("caafp", ["sparsity=auto"], "initial-sparsity", 0.0),
        ("caafp", ["prune-rounds=2"], "prune-every", 2),
        ("caafp", ["synthetic-users=2"], "synthetic-groups", 2),
        ("smoke", ["synthetic-users=1", "clients-per-round=1"], "clusters", 1),
        ("paper-uci", ["partition=iid", "num-clients=2"], "clusters", 2),
    ],
)
def test_what_was_not_given_follows_what_was(
    preset: str, pairs: list[str], key: str, value: float
) -> None:
    settings, notes = combined(read_preset(preset), parse_pairs(pairs))
    assert settings.to_dict()[key] == value
    assert any(note.startswith(f"{key} is {value}, not ") for note in notes)


def test_what_was_given_or_fits_stays() -> None:
    with pytest.raises(SettingsError, match="initial-sparsity: expected at most sparsity"):
        combined(read_preset("caafp"), parse_pairs(["sparsity=0.5", "initial-sparsity=0.6"]))
    values: dict[str, object] = {"sparsity": 0.8, "initial-sparsity": 0.7}
    assert follow(values, {"sparsity"}) == []
    assert values["initial-sparsity"] == 0.7
