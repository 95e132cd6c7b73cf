import zipfile
from pathlib import Path

import pytest

from caafp_app.datasets import source_of, uci_har
from caafp_app.datasets.download import download
from caafp_app.errors import DataError
from caafp_app.settings import DataSettings


def test_a_file_is_fetched_whole(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    origin.write_bytes(bytes(range(256)) * 50)
    target = tmp_path / "new" / "target"
    download(origin.as_uri(), target, max_bytes=10**6, instead="")

    assert target.read_bytes() == origin.read_bytes()
    assert list(target.parent.iterdir()) == [target]


def test_a_file_that_is_too_long_is_given_up(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    origin.write_bytes(bytes(5000))
    target = tmp_path / "new" / "target"
    with pytest.raises(DataError, match="found more; ask a friend"):
        download(origin.as_uri(), target, max_bytes=4999, instead="ask a friend")
    assert list(target.parent.iterdir()) == []


def test_without_network_the_error_says_what_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Port 9 of this machine: refused at once, and nothing leaves it.
    monkeypatch.setattr(uci_har, "URL", "http://127.0.0.1:9/har.zip")
    with pytest.raises(DataError, match="set data-dir to the archive") as error:
        source_of("uci-har").windows(DataSettings(dataset="uci-har"))
    assert "http://127.0.0.1:9/har.zip" in str(error.value)


def test_an_answer_that_is_no_archive_is_not_kept(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "login.html"
    page.write_text("please log in")
    monkeypatch.setattr(uci_har, "URL", page.as_uri())
    with pytest.raises(DataError, match="expected a zip archive, found another file"):
        source_of("uci-har").windows(DataSettings(dataset="uci-har"))
    assert not (home / "cache" / "uci-har.zip").exists()


def test_an_archive_is_fetched_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "not the recordings")
    monkeypatch.setattr(uci_har, "URL", other.as_uri())
    for _ in range(2):
        with pytest.raises(DataError, match="expected the UCI HAR archive"):
            source_of("uci-har").windows(DataSettings(dataset="uci-har"))
        other.unlink(missing_ok=True)  # the second time there is nothing to fetch it from
    assert (home / "cache" / "uci-har.zip").is_file()
