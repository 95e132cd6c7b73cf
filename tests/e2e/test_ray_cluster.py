"""The same ``flwr run`` on a Ray cluster that is there already: clients run on both its nodes."""

import json
from pathlib import Path

import pytest

from caafp_app.launch.follow import follow, run_command
from caafp_app.launch.plan import Machine
from caafp_app.launch.presets import to_toml
from caafp_app.launch.superlink import private_superlink
from tests.e2e.cluster import cores, ray_cluster
from tests.e2e.variant import variant

pytestmark = pytest.mark.e2e

CLIENTS = 4
SETTINGS = {
    "synthetic-users": CLIENTS,
    "synthetic-windows": 20,
    "warmup-rounds": 0,
    "cluster-rounds": 1,
    "prune-rounds": 1,
    "prune-every": 1,
    "clients-per-round": CLIENTS,
    "local-epochs": 1,
    "finetune-epochs": 1,
    "clusters": 2,
}
EXCHANGES = 5
"""Describe, two rounds, the comparison for the clusters, personalise; all of all clients."""


def test_clients_run_on_both_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    module = Path(__file__).with_name("variant_served.py").read_text(encoding="utf-8")
    app = variant(tmp_path / "app", module, clientapp="client")
    config = tmp_path / "run-config.toml"
    where = {"output-dir": str(tmp_path), "run-name": "far"}
    config.write_text(to_toml(SETTINGS | where), encoding="utf-8")
    # Ray's workers look for modules where the run was started, before they look in the app.
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    with ray_cluster(tmp_path) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        with private_superlink() as connection:
            simulation = Machine(supernodes=CLIENTS).federation_config()
            command = run_command(app, connection, config, simulation)
            outcome = follow(command, connection, lines.append)
        # The run ended its own processes and left the cluster as it was.
        assert cores(address) == [1.0, 1.0]

    assert outcome.succeeded, "\n".join(lines)
    served = {node.name: len(list(node.iterdir())) for node in (tmp_path / "served").iterdir()}
    assert len(served) == 2, served
    assert sum(served.values()) == EXCHANGES * CLIENTS
    text = (tmp_path / "runs" / "far" / "summary.json").read_text(encoding="utf-8")
    assert json.loads(text)["accuracy"]["personal"]["clients"] == CLIENTS
