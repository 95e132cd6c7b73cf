from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from caafp_app.errors import RunError
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.reading import jaccard, read_run
from caafp_app.runs.records import ClientRecord
from tests.left_run import MASKS, leave_run


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = leave_run(tmp_path / "run", (0.5, 1.0, 0.25), {"seed": 7})
    run = read_run(path)
    assert run.finished
    assert run.settings["seed"] == run.summary["seed"] == 7
    assert [record["round"] for record in run.rounds] == [1, 2, 3, 4, 5, 6]
    assert run.plan["facts"] == {"model": "9 parameters"}
    assert run.clusters["clusters"]["1"]["members"] == ["user-01", "user-02"]
    assert run.clients[1] == ClientRecord(
        label="user-01",
        cluster=1,
        examples=11,
        test_examples=4,
        cluster_accuracy=0.9,
        cluster_loss=1.0,
        personal_accuracy=1.0,
        personal_loss=0.5,
        personal_sparsity=0.5,
    )
    masks = run.masks()
    assert list(masks) == [0, 1]
    np.testing.assert_array_equal(masks[1], MASKS[1])


def test_labels_and_distances_keep_together(tmp_path: Path) -> None:
    labels = ['a, "b"', "ü", "c"]
    distances = np.array([[0.0, 0.25, 1.5], [0.25, 0.0, 1.0], [1.5, 1.0, 0.0]])
    (tmp_path / "settings.json").write_text("{}")
    RunDirectory(tmp_path).write_distances(labels, distances)
    RunDirectory(tmp_path).write_clients(
        [
            ClientRecord(label=label, cluster=-1, examples=0, personal_accuracy=float("nan"))
            for label in labels
        ]
    )
    run = read_run(tmp_path)
    found = run.distances()
    assert found is not None
    assert found[0] == labels
    np.testing.assert_array_equal(found[1], distances)
    assert [client.label for client in run.clients] == labels
    assert {client.personal_accuracy for client in run.clients} == {None}


def test_a_run_cut_short_has_what_it_has(tmp_path: Path) -> None:
    path = leave_run(tmp_path / "run", finished=False, clustered=False)
    with (path / "rounds.jsonl").open("a") as file:
        file.write('{"round": 7, "pha')
    run = read_run(path)
    assert not run.finished
    assert len(run.rounds) == 6
    assert (run.clients, run.masks(), run.distances()) == ([], {}, None)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"settings\.json at .*a folder without"):
        read_run(tmp_path)
    with pytest.raises(RunError, match="no folder"):
        read_run(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("summary.json", b"{", "cannot read JSON"),
        ("plan.json", b"[]", "expected a JSON object"),
        ("clusters.json", b"\xff", "cannot read"),
        ("rounds.jsonl", b"{}\n{\n", "in each line"),
        ("clients.csv", b"label,cluster,examples\na,zero,1\n", "a row of numbers"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = leave_run(tmp_path / "run")
    (path / name).write_bytes(content)
    with pytest.raises(RunError, match=message) as caught:
        read_run(path)
    assert name in str(caught.value)


def test_broken_tensors_are_named(tmp_path: Path) -> None:
    path = leave_run(tmp_path / "run")
    (path / "masks" / "cluster-0.safetensors").write_bytes(b"x")
    with pytest.raises(RunError, match=r"a safetensors file at .*cluster-0"):
        read_run(path).masks()
    save_file({"distances": np.zeros((2, 2), np.float32)}, path / "distances.safetensors")
    with pytest.raises(RunError, match=r"distances of 0 clients in .*\(2, 2\)"):
        read_run(path).distances()


def test_jaccard_is_shared_over_united() -> None:
    one, other = np.array([0b1111, 0], np.uint8), np.array([0b0011, 1], np.uint8)
    empty = np.zeros(2, np.uint8)
    found = jaccard([one, other, empty, empty])
    assert found[0].tolist() == pytest.approx([1.0, 2 / 5, 0.0, 0.0])
    np.testing.assert_array_equal(found, found.T)
    assert found[2, 3] == 1.0
