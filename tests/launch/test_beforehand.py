"""Everything that can be known before a run starts is said by ``--dry-run``."""

from pathlib import Path

import numpy as np
import pytest

from caafp_app.errors import CaafpError
from caafp_app.launch import beforehand
from caafp_app.launch.plan import Machine
from caafp_app.launch.prepared import Prepared, prepare
from caafp_app.launch.presets import parse_pairs
from tests.left_run import leave_run

pytest.importorskip("ray")


def prepared(preset: str, *pairs: str) -> Prepared:
    return prepare(preset, parse_pairs(pairs))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["seed=99999999999999999999"], "seed: expected a whole number .*below 2.63"),
        (["clients-per-round=99999999999999999999"], "clients-per-round: expected"),
        (["device=cuda"], "device: expected cuda on this machine"),
        (["device=mps"], "device: expected mps on this machine"),
        (["model=digits-cnn"], "digits-cnn"),
        (["strategy=clusterfl", "aggregation=median"], "aggregation"),
        (["dataset=npz", "data-dir=/nowhere"], "/nowhere"),
        (["dataset=wisdm", "data-dir=/nowhere"], "/nowhere"),
        (["partition=dirichlet", "partition-alpha=0.001", "num-clients=100"], "dirichlet"),
        (["partition=iid", "num-clients=5000"], "use fewer clients"),
        (["resume-from=/nowhere/run"], "expected the folder of a run"),
        (["output-dir=/dev/null"], "output-dir: expected a folder that can be written"),
        (["synthetic-windows=9000000000000000000"], "synthetic-windows: expected .* at most 1e"),
        (["synthetic-windows=1"], "expected test windows to score models on, found none"),
        (["window-gap=1000"], "expected windows to train on, found none"),
        (["unseen-users=6"], "unseen-users: expected fewer than the 6 clients"),
        (["unseen-users=user-00,user-99"], "unseen-users: .* found 'user-99'"),
        (["unseen-users=5"], "clusters: expected at most the 1 clients that unseen-users=5 leaves"),
        (["strategy-args=linkage='single'"], "linkage: expected one of average, complete"),
    ],
)
def test_what_cannot_work_is_refused(
    pairs: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAAFP_HOME", str(tmp_path))
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(CaafpError, match=message):
        prepared("smoke", *pairs)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("supernodes", "note"),
    [
        (7, "1 of 7 SuperNodes take no part: the data has 6"),
        (5, "the data of 1 of 6 clients is not used: there are 5 SuperNodes"),
        (6, None),
    ],
)
def test_seats_without_data_are_noted(supernodes: int, note: str | None) -> None:
    notes = prepare("smoke", {}, Machine(supernodes=supernodes)).checked.notes
    assert notes == [note] * bool(note)


def test_a_finished_run_cannot_be_resumed(tmp_path: Path) -> None:
    done = leave_run(tmp_path / "done")
    with pytest.raises(CaafpError, match="expected a checkpoint to resume from"):
        prepared("smoke", f"resume-from={done}")


def test_without_ray_a_simulation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beforehand.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CaafpError, match="needs Ray, found none"):
        prepared("smoke")


@pytest.mark.parametrize(
    ("pairs", "clients", "what"),
    [
        (["dataset=uci-har"], 30, "uci.edu"),
        (["dataset=hf", "data-dir=ylecun/mnist", "model=digits-cnn"], None, "'ylecun/mnist' from"),
    ],
)
def test_a_dry_run_downloads_nothing_and_says_what_a_run_would(
    pairs: list[str],
    clients: int | None,
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def connect(*arguments: object, **options: object) -> None:
        raise AssertionError("a dry run has opened a connection")

    monkeypatch.setenv("CAAFP_HOME", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", connect)
    found = prepare("smoke", parse_pairs(pairs), fetch=False).checked
    assert found.clients == clients
    assert [note for note in found.notes if "the run will download" in note and what in note]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CaafpError, match="learning-rate"):
        prepare("smoke", parse_pairs([*pairs, "learning-rate=-1"]), fetch=False)


class TestData:
    """Data that can be trained on, and should not be in silence."""

    def npz(self, path: Path, x: np.ndarray, classes: int = 2) -> list[str]:
        users = np.repeat(np.arange(4), len(x) // 4)
        np.savez(path / "a.npz", X=x, y=np.arange(len(x)) % classes, user=users)
        return ["dataset=npz", f"data-dir={path / 'a.npz'}", "clusters=2", f"output-dir={path}"]

    def test_the_order_of_axes_is_said_where_the_network_refuses_them(self, tmp_path: Path) -> None:
        with pytest.raises(CaafpError, match=r"swap the last two axes"):
            prepared("smoke", *self.npz(tmp_path, np.zeros((80, 3, 64))))

    def test_its_size_and_scale_are_said(self, tmp_path: Path) -> None:
        x = np.random.default_rng(0).normal(size=(80, 64, 3))
        found = prepared("smoke", *self.npz(tmp_path, x)).checked
        assert found.facts.startswith("80 windows of (64, 3), 2 classes; 4 clients with 20 to 20")
        assert found.notes == []
        x = np.random.default_rng(0).normal(size=(80, 60, 128))
        notes = prepared("smoke", *self.npz(tmp_path, x)).checked.notes
        assert any("60 time steps of 128 channels" in note for note in notes)

    @pytest.mark.parametrize("times", [1000.0, 9.81, 0.001])
    def test_one_users_other_unit_is_noted(self, tmp_path: Path, times: float) -> None:
        x = np.random.default_rng(0).normal(size=(80, 64, 3))
        x[20:40] *= times
        notes = prepared("smoke", *self.npz(tmp_path, x)).checked.notes
        assert [note for note in notes if note.startswith("user-01: values of channel")]
        scaled = prepared("smoke", *self.npz(tmp_path, x), "standardise=client").checked
        assert not [note for note in scaled.notes if "unit" in note]
        assert scaled.facts.endswith("each client's are then scaled to mean 0 and deviation 1")

    @pytest.mark.parametrize(("times", "noted"), [(16384.0, True), (9.81, False), (0.001, True)])
    def test_values_far_from_one_are_noted(self, times: float, noted: bool, tmp_path: Path) -> None:
        x = times * np.random.default_rng(0).normal(size=(80, 64, 3))
        notes = prepared("smoke", *self.npz(tmp_path, x)).checked.notes
        assert [note.startswith("values are around") for note in notes] == [True] * noted
        assert prepared("smoke", *self.npz(tmp_path, x), "standardise=client").checked.notes == []

    def test_a_single_class_and_a_dead_channel_are_noted(self, tmp_path: Path) -> None:
        x = np.random.default_rng(0).normal(size=(80, 64, 3))
        notes = prepared("smoke", *self.npz(tmp_path, x, classes=1)).checked.notes
        assert "all windows are of class 0: there is nothing to learn" in notes
        x[:, :, 1] = 9.81
        notes = prepared("smoke", *self.npz(tmp_path, x)).checked.notes
        assert [note for note in notes if note.startswith("no value of channel 1 changes")]

    def test_users_without_test_windows_are_named(self, tmp_path: Path) -> None:
        x = np.random.default_rng(0).normal(size=(10, 64, 3))
        np.savez(tmp_path / "a.npz", X=x, y=np.arange(10) % 2, user=np.array([0] * 9 + [1]))
        pairs = ["dataset=npz", f"data-dir={tmp_path / 'a.npz'}", "clusters=1"]
        notes = prepared("smoke", *pairs, f"output-dir={tmp_path}").checked.notes
        assert any("1 of 2 clients have no test windows" in note for note in notes)

    def test_a_run_that_could_score_nobody_is_refused(self, tmp_path: Path) -> None:
        x = np.zeros((12, 64, 3))
        np.savez(tmp_path / "a.npz", X=x, y=np.arange(12) % 3, user=np.arange(12) // 6)
        with pytest.raises(CaafpError, match="expected test windows to score models on, found"):
            prepared("smoke", "dataset=npz", f"data-dir={tmp_path / 'a.npz'}", "clusters=1")


def test_a_share_of_a_gpu_that_nothing_uses_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    machine = Machine(client_gpus=0.5)
    notes = prepare("smoke", {}, machine).checked.notes
    assert "--client-gpus holds a GPU that device=cpu does not use" in notes
    notes = prepare("smoke", {"engine": "batched"}, machine).checked.notes
    assert "--client-gpus has no effect: engine is not ray" in notes
