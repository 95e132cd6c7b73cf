import pytest

from caafp_app.launch.effects import IDLE, without_effect
from caafp_app.settings import Settings
from caafp_app.strategies.factory import unused_settings


@pytest.mark.parametrize(
    ("config", "clients", "note"),
    [
        ({"partition-alpha": 0.1}, 12, "partition-alpha has no effect: partition is not dirichlet"),
        ({"shards-per-client": 3}, 12, "shards-per-client has no effect"),
        ({"average-last": 100}, 12, "average-last=100 has the effect of 50"),
        ({"clients-per-round": 100}, 12, "clients-per-round=100 has the effect of 12"),
        ({"initial-mask": "snip"}, 12, "initial-mask has no effect"),
        ({"dataset": "wisdm", "synthetic-users": 7}, 36, "synthetic-users has no effect"),
    ],
)
def test_a_setting_without_effect_is_noted(
    config: dict[str, str | int | float], clients: int, note: str
) -> None:
    notes = without_effect(Settings.from_run_config(config), clients=clients)
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
    assert without_effect(Settings.from_run_config(config), clients=12) == []


def test_a_setting_that_the_strategy_has_no_argument_for_is_noted_once() -> None:
    settings = Settings.from_run_config({"strategy": "fedavg", "sparsity": 0.5, "regrow": 0.2})
    (note,) = without_effect(settings, unused_settings("fedavg"))
    assert note == "sparsity, regrow have no effect: strategy 'fedavg' has no argument for it"


def test_only_settings_that_the_user_named_are_noted() -> None:
    settings = Settings.from_run_config({"partition-alpha": 0.1, "shards-per-client": 3})
    (note,) = without_effect(settings, given={"shards-per-client"})
    assert note == "shards-per-client has no effect: partition is not shards"


def test_every_rule_names_a_setting() -> None:
    known = Settings().to_dict().keys()
    assert [idle.keys for idle in IDLE if known.isdisjoint(idle.keys)] == []
