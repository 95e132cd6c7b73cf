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
    release_folder(first)  # a run has taken it
    assert first.is_dir()
    kept = reserve_folder("one", tmp_path)
    assert is_reserved(kept)
    release_folder(kept)
    assert not kept.exists()


def refuse(*_: object, **__: object) -> None:
    raise OSError("no links here")


def test_without_a_home_directory_the_error_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(_: Path) -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("CAAFP_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", unknown)
    with pytest.raises(SettingsError, match=r"home directory .*set CAAFP_HOME, or .* output-dir"):
        default_home()


def test_latest_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latest = tmp_path / "runs" / "latest"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "symlink_to", refuse)
        run = make_folder("one", tmp_path)
    assert latest.with_suffix(".txt").read_text() == run.name + "\n"
    assert not latest.exists()
    assert find_run("latest", tmp_path) == run
    latest.with_suffix(".txt").write_text("../..\n")
    with pytest.raises(SettingsError, match="file name"):
        find_run("latest", tmp_path)
    make_folder("one", tmp_path)
    assert latest.is_symlink()
    assert not latest.with_suffix(".txt").exists()
    latest.unlink()
    (latest / "kept").mkdir(parents=True)  # a folder of that name is not removed
    make_folder("two", tmp_path)
    assert (latest / "kept").is_dir()


def test_runs_are_in_caafp_home_or_the_users_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAAFP_HOME", str(tmp_path / "kept"))
    assert default_home() == tmp_path / "kept"
    assert make_folder("one").parent == tmp_path / "kept" / "runs"
    monkeypatch.setenv("CAAFP_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_home() == tmp_path / ".caafp"


@pytest.mark.parametrize(
    "name",
    ["../up", "a/b", "a\\b", "/abs", ".", "..", ".hidden", "latest", "latest.txt", "a b", "a\n",
     "ends.", "x" * 121, "a\0b", "ü:"],
)  # fmt: skip
def test_names_that_could_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="run-name must be a file name"):
        RunDirectory.create(tmp_path, name, strategy="s", dataset="d", seed=1)
    with pytest.raises(SettingsError, match="model"):
        RunDirectory(tmp_path).write_model(name, {"w": np.zeros(1)})
    assert not list(tmp_path.iterdir())
    for plain in ("a", "A-1.b_c", "x" * 120, "k=3,seed+1@home", "_x"):
        assert check_name(plain, "run-name") == plain


def test_output_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="output-dir"):
        make_folder("one", tmp_path / "file")


def test_a_run_is_found_by_path_by_name_and_as_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("none", "latest", "../x"):
        with pytest.raises(SettingsError, match="the name of one in"):
            find_run(name, tmp_path)
    run = make_folder("one", tmp_path)
    assert {find_run(name, tmp_path) for name in (str(run), "one", "latest")} == {run}
