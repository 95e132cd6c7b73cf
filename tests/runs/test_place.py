import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from caafp_app.errors import SettingsError
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.place import (
    check_name,
    default_home,
    find_run,
    is_reserved,
    make_folder,
    release_folder,
    reserve_folder,
)


def test_names_are_unique_and_latest_is_the_last(tmp_path: Path) -> None:
    first, second = make_folder("one", tmp_path), make_folder("one", tmp_path)
    assert first == tmp_path / "runs" / "one"
    assert second == tmp_path / "runs" / "one-2"
    latest = tmp_path / "runs" / "latest"
    assert latest.readlink() == Path(second.name)
    assert latest.samefile(second)
    assert make_folder("mine", tmp_path).name == "mine"
    assert make_folder("mine", tmp_path).name == "mine-2"
    assert latest.resolve().name == "mine-2"
    assert not [p for p in latest.parent.iterdir() if p.name.startswith(".")]


def test_a_reserved_folder_goes_to_the_one_run_it_is_for(tmp_path: Path) -> None:
    first, second = reserve_folder("one", tmp_path), reserve_folder("one", tmp_path)
    assert (first.name, second.name) == ("one", "one-2")  # two started in the same second
    assert not (tmp_path / "runs" / "latest").exists()  # nothing runs yet
    assert make_folder("one-2", tmp_path) == second
    assert make_folder("one", tmp_path) == first
    assert make_folder("one", tmp_path).name == "one-3"  # it is handed on once
    assert list(first.iterdir()) == []


def test_a_reserved_folder_that_nobody_took_is_removed(tmp_path: Path) -> None:
    path = reserve_folder("one", tmp_path)
    assert is_reserved(path)
    release_folder(path)
    assert not path.exists()
    taken = make_folder("one", tmp_path)
    release_folder(taken)
    assert taken.is_dir()


NOBODY = ["unshare", "--user", "--map-user=12345"]
"""A user whom the system does not know, and who may write nowhere."""


def as_nobody(code: str, **environment: str) -> str:
    """Run Python as such a user; return what it prints."""
    start = f"from caafp_app.runs.place import *\n{code}"
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(
        [*NOBODY, sys.executable, "-c", start],
        env=kept | environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture
def nobody() -> None:
    if not shutil.which("unshare") or subprocess.run([*NOBODY, "true"], check=False).returncode:
        pytest.skip("this system lets nobody be another user")


@pytest.mark.usefixtures("nobody")
def test_without_a_home_directory_the_error_says_what_to_set() -> None:
    assert "SettingsError: expected a home directory" in as_nobody("default_home()")
    assert "set CAAFP_HOME, or the setting output-dir" in as_nobody("default_home()")
    assert "kept" in as_nobody("print(default_home())", CAAFP_HOME="/tmp/kept")


@pytest.mark.usefixtures("nobody")
def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    said = as_nobody("make_folder('one')", HOME=str(tmp_path))
    tmp_path.chmod(0o755)
    assert f"cannot make a run directory in {tmp_path}" in said
    assert "set output-dir to a folder that can be written" in said


def test_runs_are_in_caafp_home_or_the_users_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAAFP_HOME", str(tmp_path / "kept"))
    assert default_home() == tmp_path / "kept"
    assert make_folder("one").parent == tmp_path / "kept" / "runs"
    monkeypatch.setenv("CAAFP_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_home() == tmp_path / ".caafp"


def test_latest_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no links here")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "symlink_to", refuse)
        run = make_folder("one", tmp_path)
    runs = tmp_path / "runs"
    assert (runs / "latest.txt").read_text() == run.name + "\n"
    assert not (runs / "latest").exists()
    make_folder("one", tmp_path)
    assert (runs / "latest").is_symlink()
    assert not (runs / "latest.txt").exists()


def test_latest_does_not_remove_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "runs" / "latest" / "kept").mkdir(parents=True)
    run = make_folder("one", tmp_path)
    assert (tmp_path / "runs" / "latest" / "kept").is_dir()
    assert (tmp_path / "runs" / "latest.txt").read_text().strip() == run.name


@pytest.mark.parametrize(
    "name",
    ["../up", "a/b", "a\\b", "/abs", ".", "..", ".hidden", "latest", "latest.txt", "a b", "a\n",
     "ends.", "x" * 121, "a\0b", "ü:"],
)  # fmt: skip
def test_names_that_could_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="run-name must be a file name"):
        RunDirectory.create(tmp_path, name, strategy="s", dataset="d", seed=1)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SettingsError, match="model"):
        RunDirectory(tmp_path).write_model(name, {"w": np.zeros(1)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a", "A-1.b_c", "x" * 120, "k=3,seed+1@home", "_x"])
def test_plain_names_are_allowed(name: str) -> None:
    assert check_name(name, "run-name") == name


def test_output_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="output-dir"):
        make_folder("one", tmp_path / "file")


class TestFinding:
    def test_by_path_by_name_and_the_latest(self, tmp_path: Path) -> None:
        run = make_folder("one", tmp_path)
        assert find_run(str(run)) == run
        assert find_run("one", tmp_path) == run
        assert find_run("latest", tmp_path) == run

    def test_where_there_are_no_links(self, tmp_path: Path) -> None:
        run = make_folder("one", tmp_path)
        (tmp_path / "runs" / "latest").unlink()
        (tmp_path / "runs" / "latest.txt").write_text("one\n")
        assert find_run("latest", tmp_path) == run
        (tmp_path / "runs" / "latest.txt").write_text("../..\n")
        with pytest.raises(SettingsError, match="file name"):
            find_run("latest", tmp_path)

    @pytest.mark.parametrize("name", ["none", "latest", "../x"])
    def test_a_run_that_is_not_there_is_refused(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SettingsError, match="the name of one in"):
            find_run(name, tmp_path)
