"""dataset.toml beside a device's data, and recordings that are cut here."""

from pathlib import Path

import numpy as np
import pytest

from caafp_app.datasets.base import DataShape
from caafp_app.datasets.folder import read_folder, read_unlabelled
from caafp_app.datasets.form import Form, read_form
from caafp_app.datasets.resolve import load_client
from caafp_app.errors import DataError
from caafp_app.settings import DataSettings

NUMBERED = DataShape((4, 2), ("0", "1", "2"))
NAMED = DataShape((4, 2), ("sit", "stand", "walk"))
RUN = Form(NAMED.class_names)


def form(folder: Path, text: str) -> None:
    (folder / "dataset.toml").write_text(text, encoding="utf-8")


def recording(path: Path, labels: list[str], head: str = "label,ax,ay") -> Path:
    """A line per label: ax counts the lines, ay is its negative, az a hundred times it."""
    columns = head.split(",")
    values = {"ax": 1, "ay": -1, "az": 100}
    lines = [
        ",".join(label if name == "label" else str(values[name] * n) for name in columns)
        for n, label in enumerate(labels)
    ]
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


def test_a_recording_is_cut_where_its_label_changes(tmp_path: Path) -> None:
    labels = ["walk"] * 9 + ["sit"] * 3 + ["walk"] * 4
    windows = read_folder(recording(tmp_path / "a.csv", labels), NAMED, RUN)
    # Half a window apart; three lines of sitting are none; what is left over is dropped.
    assert windows.x[:, :, 0].tolist() == [
        [0, 1, 2, 3],
        [2, 3, 4, 5],
        [4, 5, 6, 7],
        [12, 13, 14, 15],
    ]
    assert windows.y.tolist() == [2, 2, 2, 2]
    assert windows.class_names == NAMED.class_names
    path = recording(tmp_path / "a.csv", ["sit", "sit", "walk", "sit"])
    with pytest.raises(DataError, match=r"one window of 4 samples.*at most 2 lines of one"):
        read_folder(path, NAMED, RUN)
    assert read_form(tmp_path) == Form()
    form(tmp_path, "stride = 1\n")
    windows = read_folder(recording(tmp_path / "a.csv", ["1"] * 6), NUMBERED)
    assert windows.x[:, 0, 0].tolist() == [0, 1, 2]


def test_channels_are_found_by_name_whatever_else_there_is(tmp_path: Path) -> None:
    form(tmp_path, 'channels = ["ay", "ax"]\n')
    recording(tmp_path / "a.csv", ["0"] * 4, "label,az,ax,ay")
    own = read_folder(tmp_path, NUMBERED)
    assert own.x[0].tolist() == [[-n, n] for n in range(4)]
    # The run's order goes before the device's.
    run = read_folder(tmp_path, NUMBERED, Form(channels=("ax", "az")))
    assert run.x[0].tolist() == [[n, 100 * n] for n in range(4)]


def test_arrays_are_brought_into_the_runs_order(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", X=x, y=[0, 1, 1])
    form(tmp_path, 'channels = ["ax", "ay", "az"]\nclasses = ["walk", "sit"]\n')
    run = Form(NAMED.class_names, ("az", "ax"))
    windows = read_folder(tmp_path / "a.npz", NAMED, run)
    np.testing.assert_array_equal(windows.x, x[:, :, [2, 0]])
    assert windows.y.tolist() == [2, 0, 0]  # walk and sit, by the run's numbers
    assert windows.class_names == NAMED.class_names
    np.testing.assert_array_equal(read_unlabelled(tmp_path, NAMED, run), windows.x)


def test_names_of_the_device_where_the_run_has_numbers(tmp_path: Path) -> None:
    form(tmp_path, 'classes = ["sit", "stand", "walk"]\n')
    windows = read_folder(recording(tmp_path / "a.csv", ["walk"] * 4), NUMBERED)
    assert (windows.y.tolist(), windows.class_names) == ([2], NAMED.class_names)
    form(tmp_path, 'classes = ["sit", "walk"]\n')
    with pytest.raises(DataError, match=r"expected 3 classes, as the run says, found 2"):
        read_folder(tmp_path, NUMBERED)


def test_a_device_may_lack_classes_and_no_other_may_appear(tmp_path: Path) -> None:
    form(tmp_path, 'classes = ["stand"]\n')
    windows = read_folder(recording(tmp_path / "a.csv", ["0"] * 4), NAMED, RUN)
    assert windows.y.tolist() == [1]
    form(tmp_path, 'classes = ["stand", "wlak"]\n')
    with pytest.raises(DataError, match=r"found wlak; did you mean 'walk'\?"):
        read_folder(tmp_path, NAMED, RUN)


def test_the_sampling_rate_is_compared_where_the_run_says_one(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.csv", ["sit"] * 4)
    run = Form(NAMED.class_names, (), 50.0)
    with pytest.raises(DataError, match=r"expected sampling-rate 50, .* found none"):
        read_folder(path, NAMED, run)
    form(tmp_path, "sampling-rate = 20\n")
    with pytest.raises(DataError, match=r"expected sampling-rate 50, .* found 20"):
        read_folder(path, NAMED, run)
    form(tmp_path, "sampling-rate = 50.2\n")
    assert len(read_folder(path, NAMED, run).y) == 1


def test_channels_that_the_run_needs_have_to_be_named_for_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=np.ones((3, 4, 2)), y=[0, 1, 1])
    with pytest.raises(DataError, match=r"expected the channels ax, ay, .* found none"):
        read_folder(tmp_path, NUMBERED, Form(channels=("ax", "ay")))
    form(tmp_path, 'channels = ["ax", "ay", "az"]\n')
    with pytest.raises(DataError, match=r"expected 3 channels .* found windows of shape \(4, 2\)"):
        read_folder(tmp_path, NUMBERED)


def test_labels_may_be_missing_where_they_are_not_read(tmp_path: Path) -> None:
    labelled = read_unlabelled(recording(tmp_path / "a.csv", ["jump"] * 8), NAMED)
    bare = read_unlabelled(recording(tmp_path / "b.csv", [""] * 8, "ax,ay"), NAMED)
    np.testing.assert_array_equal(labelled, bare)
    assert bare.shape == (3, 4, 2)
    np.savez(tmp_path / "c.npz", X=bare)
    np.testing.assert_array_equal(read_unlabelled(tmp_path / "c.npz", NAMED), bare)
    with pytest.raises(DataError, match=r"expected windows of shape \(5, 2\)"):
        read_unlabelled(tmp_path / "c.npz", DataShape((5, 2), ("0",)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes = [", "cannot read TOML"),
        ('clases = ["a"]', "did you mean 'classes'"),
        ('classes = "a,b"', "expected classes to be a list of different names"),
        ('classes = ["a", "a"]', "list of different names"),
        ("channels = [1]", "list of different names"),
        ('channels = [" a"]', "list of different names"),
        ('sampling-rate = "50"', "expected sampling-rate to be a number"),
        ("sampling-rate = -1", "from 0"),
        ("sampling-rate = nan", "from 0"),
        ("stride = 1.5", "expected stride to be a whole number"),
        ("stride = true", "expected stride to be a whole number"),
    ],
)
def test_a_form_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    form(tmp_path, text)
    with pytest.raises(DataError, match=message):
        read_form(tmp_path)
    with pytest.raises(DataError, match=message):
        read_form(tmp_path / "a.npz")


def test_a_client_learns_the_runs_names_from_the_settings(tmp_path: Path) -> None:
    form(tmp_path, 'classes = ["walk", "sit"]\nchannels = ["ay", "ax"]\nsampling-rate = 50\n')
    recording(tmp_path / "a.csv", ["walk"] * 12 + ["sit"] * 12)
    settings = DataSettings(
        dataset="folder",
        input_shape="4,2",
        classes="sit, stand, walk",
        channels="ax, ay",
        sampling_rate=50.0,
    )
    client = load_client(settings, {"data-path": str(tmp_path), "label": "pi"})
    assert client.class_names == NAMED.class_names
    assert set(client.train_y) == {0, 2}
    assert client.train_x[0].tolist() == [[n, -n] for n in range(4)]
