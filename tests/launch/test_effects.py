import pytest

from caafp_app.launch.effects import IDLE, without_effect
from caafp_app.settings import Settings


@pytest.mark.parametrize(
    ("config", "clients", "note"),
    [
        ({"partition-alpha": 0.1}, 12, "partition-alpha has no effect: partition is not dirichlet"),
        ({"shards-per-client": 3}, 12, "shards-per-client has no effect"),
        ({"average-last": 100}, 12, "average-last=100 has the effect of 50"),
        ({"clients-per-round": 100}, 12, "clients-per-round=100 has the effect of 12"),
        ({"strategy": "fedavg", "sparsity": 0.5}, 12, "sparsity has no effect"),
        ({"initial-mask": "snip"}, 12, "initial-mask has no effect"),
        ({"dataset": "wisdm", "synthetic-users": 7}, 36, "synthetic-users has no effect"),
    ],
)
def test_a_setting_without_effect_is_noted(
    config: dict[str, str | int | float], clients: int, note: str
) -> None:
    notes = without_effect(Settings.from_run_config(config), clients)
    assert any(found.startswith(note) for found in notes), notes


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"partition": "dirichlet", "num-clients": 5, "partition-alpha": 0.1},
        {"initial-sparsity": 0.5, "initial-mask": "snip", "average-last": 5},
    ],
)
def test_those_with_an_effect_are_not(config: dict[str, str | int | float]) -> None:
    assert without_effect(Settings.from_run_config(config), 12) == []


def test_every_rule_names_a_setting() -> None:
    known = Settings().to_dict().keys()
    assert [idle.keys for idle in IDLE if known.isdisjoint(idle.keys)] == []
