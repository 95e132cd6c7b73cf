from pathlib import Path

import pytest

from caafp_app.bench.file import read_bench
from caafp_app.errors import SettingsError
from caafp_app.launch.source import presets_folder
from caafp_app.registry import STRATEGIES

CASE = '[[case]]\nname = "a"\n'
BENCHES = sorted(path.stem for path in (presets_folder() / "bench").glob("*.toml"))
LEVELS = {"heterofl", "cahfp"}
"""Methods that differ from FedAvg only where devices are of different strength."""
OWN = {"strategy", "down-dtype", "up-dtype", "rest-dtype", "average-last", "cluster-floor"}
"""In what the tables' cases may differ: nothing of data, rounds, epochs or learning rates, nor how
many clients train in a round, though from which clusters they are drawn."""


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


class TestFilesOfTheApp:
    @pytest.mark.parametrize("name", BENCHES)
    def test_each_bench_of_the_app_is_valid(self, name: str, tmp_path: Path) -> None:
        plan = read_bench(name, [f"data-dir={tmp_path}"])
        assert plan.name == name
        assert len(plan.cases) > 1
        assert all(case.against for case in plan.cases)

    @pytest.mark.parametrize("name", [n for n in BENCHES if n.startswith("ablation")])
    def test_ablations_do_not_look_at_test(self, name: str) -> None:
        cases = read_bench(name).cases
        assert {case.settings.data.validation_fraction for case in cases} == {0.2}
        assert len({tuple(case.settings.to_dict().items()) for case in cases}) == len(cases)

    @pytest.mark.parametrize("name", ["smoke", "uci", "wisdm"])
    def test_tables_compare_all_strategies_on_equal_terms(self, name: str, tmp_path: Path) -> None:
        cases = read_bench(name, [f"data-dir={tmp_path}"]).cases
        assert {case.settings.run.strategy for case in cases} == set(STRATEGIES.builtin) - LEVELS
        for case in cases:
            ours, first = case.settings.to_dict(), cases[0].settings.to_dict()
            assert {key for key in ours if ours[key] != first[key]} <= OWN

    def test_the_tables_have_the_papers_seeds_and_levels_one_of_their_own(self) -> None:
        assert read_bench("uci").seeds == (42, 123, 456, 789, 1024)
        assert {case.settings.run.strategy for case in read_bench("levels").cases} >= LEVELS

    def test_ablation_of_the_warm_up_has_rounds_in_equal_number(self) -> None:
        cases = read_bench("ablation-warmup").cases
        assert {case.settings.rounds.total for case in cases} == {50}
        assert len({case.settings.rounds.warmup_rounds for case in cases}) == len(cases)


def test_defaults_preset_settings_case_and_command_line(tmp_path: Path) -> None:
    text = (
        '[bench]\npreset = "smoke"\n[settings]\nlocal-epochs = 2\nbatch-size = 8\n'
        '[[case]]\nname = "a"\nbatch-size = 4\n[[case]]\nname = "b"\n'
    )
    plan = read_bench(write(tmp_path, text), ["finetune-epochs=7"])
    a, b = plan.cases
    assert (a.settings.train.batch_size, b.settings.train.batch_size) == (4, 8)
    assert a.settings.train.local_epochs == 2
    assert a.settings.data.synthetic_users == 6  # the preset's
    assert a.settings.train.finetune_epochs == 7
    assert (dict(a.varied), dict(b.varied)) == ({"batch-size": 4}, {})
    assert plan.name == "mine"


def test_the_seed_of_the_command_line_goes_before_the_files(tmp_path: Path) -> None:
    path = write(tmp_path, f"[bench]\nseeds = [3, 1]\n{CASE}")
    plan = read_bench(path)
    assert (plan.seeds, plan.all_seeds) == ((3, 1), (3, 1))
    assert plan.cases[0].at(1).run.seed == 1
    one = read_bench(path, ["seed=9"])
    assert (one.seeds, one.all_seeds) == ((9,), (3, 1, 9))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[bench", ["cannot read TOML"]),
        ("[benches]\n" + CASE, ["unknown table 'benches'", "did you mean 'bench'"]),
        ("[bench]\nseed = 1\n" + CASE, ["unknown key 'seed'", "did you mean 'seeds'"]),
        ("[bench]\nseeds = [1, 1]\n" + CASE, ["different whole numbers"]),
        ("[bench]\nseeds = [true]\n" + CASE, ["different whole numbers"]),
        ('[bench]\nname = "a/b"\n' + CASE, ["file name", "'a/b'"]),
        ("[bench]\nname = 3\n" + CASE, ["name in [bench]", "a string"]),
        ("bench = 1\n" + CASE, ["a table [bench]"]),
        ("[bench]\npreset = 'smoek'\n" + CASE, ["did you mean 'smoke'"]),
        ("", ["one [[case]] at least"]),
        ("[case]\nname = 'a'\n", ["one [[case]] at least"]),
        ("[[case]]\nseed = 1\n", ["a name in every"]),
        (CASE + "sparsity = 2.0\n", ["case 'a'", "below 1"]),
        (CASE + "sparsety = 0.2\n", ["case 'a'", "did you mean 'sparsity'"]),
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
def test_a_bad_file_or_case_is_refused_with_what_to_do(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        read_bench(write(tmp_path, text))
    for part in parts:
        assert part in str(caught.value)


def test_a_bench_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean 'smoke'"):
        read_bench("smoek")
    with pytest.raises(SettingsError, match="found nothing"):
        read_bench(str(tmp_path / "none.toml"))


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
    ("pair", "message"),
    [
        ("sparsity=0.6", r"sparsity: case 'a'.*--only"),
        ("output-dir=x", "--output"),
        ("seed=many", "seed: expected a whole number"),
    ],
)
def test_what_the_command_line_cannot_say(tmp_path: Path, pair: str, message: str) -> None:
    path = write(tmp_path, CASE + "sparsity = 0.5\n")
    with pytest.raises(SettingsError, match=message):
        read_bench(path, [pair])
