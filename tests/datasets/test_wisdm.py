import io
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from caafp_app.datasets import load_client, source_of
from caafp_app.datasets.wisdm import ACTIVITIES, ParseReport, WisdmSource, cut, parse
from caafp_app.errors import DataError, SettingsError
from caafp_app.settings import DataSettings

GOOD = "33,Jogging,49105962326000,-0.6946377,12.680544,0.50395286;"
TEXT = "WISDM_ar_v1.1_raw.txt"


def report(*lines: str) -> ParseReport:
    """Parse these lines beside a sound one, which has to survive."""
    samples, found = parse([f"{line}\n" for line in (GOOD, *lines)], "here")
    assert len(samples.user) == found.kept
    assert samples.user[0] == 33
    return ParseReport(found.kept - 1, found.run_together, found.dropped)


def test_a_sound_record_is_read_exactly() -> None:
    samples, found = parse([GOOD + "\n"], "here")
    assert samples.user.tolist() == [33]
    assert samples.activity.tolist() == [ACTIVITIES.index("Jogging")]
    np.testing.assert_array_equal(
        samples.xyz, np.array([[-0.6946377, 12.680544, 0.50395286]], np.float32)
    )
    assert found == ParseReport(1, 0, {})


@pytest.mark.parametrize(
    "line",
    [
        "5,Walking,1,1.0,2.0,3.0,;",
        "5,Walking,1,1.0,2.0,3.0",
        "5,Walking,1,1.0,2.0,3.0,",
        "  5, Walking ,1,1.0,2.0,3.0 ; ",
        "5,Walking,1,1.0,2.0,3.0;\r",
        ";5,Walking,1,1.0,2.0,3.0;;",
    ],
)
def test_endings_that_vary_are_accepted(line: str) -> None:
    assert report(line) == ParseReport(1, 0, {})


def test_records_run_together_are_taken_apart() -> None:
    line = "5,Walking,1,1.0,2.0,3.0;6,Sitting,2,4.0,5.0,6.0;"
    assert report(line) == ParseReport(2, 1, {})
    assert report("5,Walking,1,1.0,2.0;6,Sitting,2,4.0,5.0,6.0;") == ParseReport(
        1, 1, {"with a missing field": 1}
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("11,Walking,1867172313000,4.4,4.4,;", "with a missing field"),
        ("11,Walking,1867172313000,,4.4,4.4;", "with a missing field"),
        ("11,Walking", "with a missing field"),
        ("1,Walking,1,1,2,3,2,Sitting,2,4,5,6;", "with too many fields"),
        ("11,Walking,1,a,2,3;", "with an unreadable number"),
        ("11,Walking,1,nan,2,3;", "with an unreadable number"),
        ("x,Walking,1,1,2,3;", "with an unreadable number"),
        ("11,Flying,1,1,2,3;", "of an unknown activity"),
        ("37,Walking,1,1,2,3;", "of a user outside 1..36"),
        ("0,Walking,1,1,2,3;", "of a user outside 1..36"),
        ("11,Walking,0,0,0,0;", "with timestamp 0"),
    ],
)
def test_a_flawed_record_is_dropped_and_counted(line: str, reason: str) -> None:
    assert report(line) == ParseReport(0, 0, {reason: 1})
    assert report(line, "", " ; ", line).dropped == {reason: 2}


def test_another_file_is_refused() -> None:
    with pytest.raises(DataError, match=r"expected records user,activity.*found none"):
        parse(["<html>\n", "hello\n"], "here")


def recording(bouts: Sequence[tuple[int, str, int]]) -> str:
    """Text of users, activities and samples; the x of a sample is its number in the text."""
    lines: list[str] = []
    for user, activity, count in bouts:
        lines += [
            f"{user},{activity},{k},{k},{user},-1.5;"
            for k in range(len(lines) + 1, len(lines) + 1 + count)
        ]
    return "\n".join(lines) + "\n"


def test_windows_are_cut_per_user_and_activity() -> None:
    text = recording(
        [(2, "Walking", 250), (2, "Sitting", 200), (2, "Walking", 160), (1, "Jogging", 399)]
    )
    samples, _ = parse(text.splitlines(), "here")
    windows = cut(samples, "here")

    # 410 samples of walking: 0, 100, 200; 200 of sitting: 0; 399 of jogging: 0, 100.
    assert windows.user.tolist() == [1, 1, 2, 2, 2, 2]
    assert [ACTIVITIES[y] for y in windows.y] == [
        *["Jogging"] * 2,
        *["Walking"] * 3,
        "Sitting",
    ]
    assert windows.x[:, 0, 0].tolist() == [611, 711, 1, 101, 201, 251]
    assert windows.x[3, :, 0].tolist() == [*range(101, 251), *range(451, 501)]
    assert windows.x.shape[1:] == (200, 3)
    assert np.all(windows.x[:, :, 1] == windows.user[:, None])
    samples, _ = parse(recording([(1, "Walking", 199)]).splitlines(), "here")
    with pytest.raises(DataError, match="expected at least 200 samples"):
        cut(samples, "here")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "WISDM_ar_v1.1" / TEXT
    path.parent.mkdir()
    bouts = [(user, activity, 1200) for user in (4, 9) for activity in ("Walking", "Standing")]
    path.write_text(recording(bouts) + "4,Walking,0,0,0,0;\n")
    return path


def tarred(text: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        other = tarfile.TarInfo("WISDM_ar_v1.1/readme.txt")
        archive.addfile(other, io.BytesIO(b""))
        archive.add(text, f"WISDM_ar_v1.1/{TEXT}")
    return path


@pytest.mark.parametrize("form", ["text", "folder", "folder of the folder", "tar", "folder of tar"])
def test_every_form_gives_the_same_windows(text: Path, form: str, home: Path) -> None:
    archive = tarred(text, home.parent / "WISDM_ar_latest.tar.gz")
    place = {
        "text": text,
        "folder": text.parent,
        "folder of the folder": text.parent.parent,
        "tar": archive,
        "folder of tar": archive.parent,
    }[form]
    if form == "folder of tar":
        text.unlink()
    settings = DataSettings(dataset="wisdm", data_dir=str(place))
    source = WisdmSource()
    windows = source.windows(settings)

    assert windows.users.tolist() == [4, 9]
    assert np.bincount(windows.y, minlength=6).tolist() == [0, 0, 0, 22, 0, 22]
    assert source.population(settings) == 2
    assert source.shape(settings) == windows.shape
    node = {"partition-id": 1, "num-partitions": 2}
    for treatment, scaled in (("auto", True), ("none", False)):
        data = load_client(replace(settings, standardise=treatment), node)
        assert data.label == "user-09"
        assert (abs(data.train_x[..., 0].mean()) < 1e-5) == scaled
    assert not list(archive.parent.glob("**/readme.txt"))  # nothing is unpacked


def test_what_was_dropped_is_logged_once(
    text: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = DataSettings(dataset="wisdm", data_dir=str(text))
    source_of("wisdm").windows(settings)
    source_of("wisdm").windows(settings)
    assert caplog.text.count("4800 records kept, 1 dropped (1 with timestamp 0)") == 1


def test_a_place_without_the_text_is_refused(tmp_path: Path) -> None:
    def ask(place: object) -> None:
        source_of("wisdm").windows(DataSettings(dataset="wisdm", data_dir=str(place)))

    with pytest.raises(SettingsError, match=r"needs the folder, .tar.gz or .txt"):
        ask("")
    with pytest.raises(DataError, match="found neither of them"):
        ask(tmp_path)
    with pytest.raises(DataError, match="found nothing"):
        ask(tmp_path / "none")
    with tarfile.open(tmp_path / "WISDM_ar.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("readme.txt"), io.BytesIO(b""))
    with pytest.raises(DataError, match=f"expected an archive with {TEXT}, found none in it"):
        ask(tmp_path)


def test_a_text_that_is_too_long_or_damaged_is_refused(
    text: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tarred(text, home.parent / "a.tar.gz")
    content = archive.read_bytes()
    (home.parent / "b.tar.gz").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(DataError, match="expected a file that is whole"):
        WisdmSource().windows(DataSettings(dataset="wisdm", data_dir=str(home.parent / "b.tar.gz")))
    monkeypatch.setattr("caafp_app.datasets.wisdm._MAX_BYTES", 1000)
    for path in (text, archive):
        with pytest.raises(DataError, match="expected text of at most"):
            WisdmSource().windows(DataSettings(dataset="wisdm", data_dir=str(path)))
