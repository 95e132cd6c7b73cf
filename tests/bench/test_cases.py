from pathlib import Path

import pytest

from caafp_app.bench.file import read_bench
from caafp_app.errors import SettingsError
from tests.bench.support import CASE, write


def test_lists_are_crossed_and_names_filled(tmp_path: Path) -> None:
    text = (
        '[bench]\nagainst = "caafp-{sparsity}"\n[[case]]\nname = "{strategy}-{sparsity}"\n'
        'strategy = ["caafp", "fedsnip"]\nsparsity = [0.5, 0.9]\n'
    )
    plan = read_bench(write(tmp_path, text))
    assert [(case.name, case.against) for case in plan.cases] == [
        ("caafp-0.5", "caafp-0.5"),
        ("caafp-0.9", "caafp-0.9"),
        ("fedsnip-0.5", "caafp-0.5"),
        ("fedsnip-0.9", "caafp-0.9"),
    ]
    assert plan.cases[3].settings.pruning.sparsity == 0.9
    assert [case.name for case in plan.only(["fedsnip-0.9", "caafp-0.5"])] == [
        "caafp-0.5",
        "fedsnip-0.9",
    ]
    assert plan.only([]) == plan.cases


def test_the_path_of_the_data_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, CASE)
    monkeypatch.chdir(tmp_path)
    plan = read_bench(path, ["data-dir=here"])
    assert plan.cases[0].settings.data.data_dir == str(tmp_path / "here")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["one [[case]] at least"]),
        ("[case]\nname = 'a'\n", ["one [[case]] at least"]),
        ("[[case]]\nseed = 1\n", ["a name in every"]),
        (CASE + "sparsity = 2.0\n", ["case 'a'", "below 1"]),
        (CASE + "sparsety = 0.2\n", ["case 'a'", "did you mean 'sparsity'"]),
        (CASE + "[settings]\nsparsety = 0.2\n", ["unknown"]),
        (CASE + CASE, ["'a' twice"]),
        (CASE + "sparsity = [0.5, 0.6]\n", ["'a' twice", "{key}"]),
        ("[[case]]\nname = '../a'\n", ["file name"]),
        ("[[case]]\nname = '{sparsety}'\n", ["found 'sparsety'", "did you mean 'sparsity'"]),
        ("[bench]\nagainst = 'b'\n" + CASE, ["against", "found 'b'"]),
        (CASE + "run-name = 'x'\n", ["run-name"]),
        (CASE + "output-dir = 'x'\n", ["--output"]),
        (CASE + "resume-from = 'latest'\n", ["resume-from", "the same command again"]),
    ],
)
def test_a_bad_case_is_refused_with_what_to_do(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        read_bench(write(tmp_path, text))
    for part in parts:
        assert part in str(caught.value)


def test_what_a_case_says_cannot_be_said_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path, CASE + "sparsity = 0.5\n")
    with pytest.raises(SettingsError, match=r"sparsity: case 'a'.*--only"):
        read_bench(path, ["sparsity=0.6"])


def test_places_are_the_benchs_own(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--output"):
        read_bench(write(tmp_path, CASE), ["output-dir=x"])
