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
        ({"strategy": "fedavg", "sparsity": 0.5}, 12, "sparsity has no effect"),
        ({"strategy": "fedavg", "clusters": 3}, 12, "clusters has no effect: strategy 'fedavg'"),
        ({"sparsity": 0.0, "regrow": 0.1}, 12, "regrow has no effect: sparsity is 0"),
        ({"initial-mask": "snip"}, 12, "initial-mask has no effect"),
        ({"dataset": "wisdm", "synthetic-users": 7}, 36, "synthetic-users has no effect"),
        ({"data-dir": "/a/b.zip"}, 12, "data-dir has no effect: dataset does not read it"),
        ({"deadline": 9.0}, 12, "deadline has no effect: levels"),
        ({"strategy": "fedavg", "deadline": 9.0}, 12, "deadline has no effect: strategy 'fedavg'"),
        ({"engine": "batched", "round-timeout": 9.0}, 12, "round-timeout has no effect"),
        ({"sparsity": 0.0, "finetune-dense": True}, 12, "finetune-dense has no effect"),
        ({"initial-sparsity": 0.7, "schedule": "linear"}, 12, "schedule has no effect"),
        ({"score": "auto", "prune-every": 1}, 12, "score has no effect: prune-every is 1"),
        ({"strategy-args": "sparsity=0.2"}, 12, "sparsity in strategy-args goes before"),
    ],
)
def test_a_setting_without_effect_is_noted(
    config: dict[str, str | int | float], clients: int, note: str
) -> None:
    settings = Settings.from_run_config(config)
    notes = without_effect(settings, unused_settings(settings.run.strategy), clients)
    assert any(found.startswith(note) for found in notes), notes


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"partition": "dirichlet", "num-clients": 5, "partition-alpha": 0.1},
        {"initial-sparsity": 0.5, "initial-mask": "snip", "average-last": 5},
        {"levels": "1,0.5", "deadline": 9.0, "sparsity": 0.0, "finetune-dense": True},
        {"strategy": "fedsnip", "sparsity": 0.9, "spare-layers": "last"},
    ],
)
def test_those_with_an_effect_are_not(config: dict[str, str | int | float]) -> None:
    settings = Settings.from_run_config(config)
    assert without_effect(settings, unused_settings(settings.run.strategy), 12) == []


def test_every_rule_names_a_setting() -> None:
    known = Settings().to_dict().keys()
    assert [key for idle in IDLE for key in idle.keys if key not in known] == []
