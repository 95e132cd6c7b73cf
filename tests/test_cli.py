import os
import re
import subprocess
import sys
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

import caafp_app
from caafp_app import cli
from caafp_app.cli import ending
from caafp_app.errors import RunError, SettingsError
from caafp_app.launch import plan, presets, source, start
from caafp_app.launch.follow import Outcome
from caafp_app.launch.superlink import Connection
from caafp_app.pruning.score_text import parse_score
from caafp_app.runs.place import make_folder
from caafp_app.settings import PruneSettings, Settings, knobs

PRESETS = ["caafp", "paper-uci", "paper-wisdm", "smoke"]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def settings_of(dry_run: Result) -> Settings:
    """Read back the settings that `--dry-run` printed."""
    assert dry_run.exit_code == 0, dry_run.output
    return Settings.from_run_config(tomllib.loads(dry_run.output.partition("\n\n")[0]))


class TestPresets:
    def test_the_presets_of_the_readme_exist(self) -> None:
        assert set(PRESETS) <= set(presets.preset_names())

    @pytest.mark.parametrize("name", presets.preset_names())
    def test_each_preset_is_valid(self, name: str) -> None:
        settings = presets.merged(name, [])
        assert presets.read_preset(name).items() <= settings.to_dict().items()

    def test_the_papers_settings_are_the_papers(self) -> None:
        settings = presets.merged("paper-uci", [])
        rounds = settings.rounds
        assert (rounds.warmup_rounds, rounds.cluster_rounds, rounds.prune_rounds) == (15, 15, 20)
        assert (rounds.clients_per_round, settings.train.local_epochs) == (10, 3)
        assert (settings.clustering.clusters, settings.run.seed) == (3, 42)
        pruning = settings.pruning
        assert (pruning.sparsity, pruning.prune_every, pruning.regrow) == (0.7, 5, 0.05)
        assert parse_score(pruning.score) == parse_score(PruneSettings().score)
        assert settings.data.dataset == "uci-har"
        assert presets.merged("paper-wisdm", []).data.standardise == "client"

    def test_pairs_win_over_the_preset_and_the_preset_over_the_defaults(self) -> None:
        settings = presets.merged("smoke", ["sparsity=0.6", "seed=9"])
        assert (settings.pruning.sparsity, settings.run.seed) == (0.6, 9)
        assert settings.data.synthetic_users == 6
        assert settings.train.batch_size == 32

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_a_file_may_start_from_a_preset(self, tmp_path: Path, encoding: str) -> None:
        path = tmp_path / "mine.toml"
        path.write_text('preset = "smoke"\nseed = 3\n', encoding=encoding)
        settings = presets.merged(str(path), [])
        assert (settings.data.synthetic_users, settings.run.seed) == (6, 3)
        (tmp_path / "next.toml").write_text('preset = "mine.toml"\nsparsity = 0.25\n', "utf-8")
        settings = presets.merged(str(tmp_path / "next.toml"), [])
        assert (settings.run.seed, settings.pruning.sparsity) == (3, 0.25)

    def test_a_file_cannot_start_from_itself(self, tmp_path: Path) -> None:
        (tmp_path / "a.toml").write_text('preset = "b.toml"\n', encoding="utf-8")
        (tmp_path / "b.toml").write_text('preset = "a.toml"\n', encoding="utf-8")
        with pytest.raises(SettingsError, match="found one that starts here"):
            presets.merged(str(tmp_path / "a.toml"), [])

    @pytest.mark.parametrize(
        ("content", "parts"),
        [
            ("seed = ", ["cannot read TOML", "mine.toml"]),
            ("[data]\nseed = 1\n", ["flat", "the table [data]"]),
            ("sparsity = 2.0\n", ["sparsity", "below 1"]),
        ],
    )
    def test_a_bad_preset_file_is_refused_by_name(
        self, tmp_path: Path, content: str, parts: list[str]
    ) -> None:
        path = tmp_path / "mine.toml"
        path.write_text(content, encoding="utf-8")
        with pytest.raises(SettingsError) as caught:
            presets.merged(str(path), [])
        assert [part for part in parts if part not in str(caught.value)] == []


class TestPairs:
    @pytest.mark.parametrize(
        ("pair", "value"),
        [
            ("seed=7", 7),
            ("sparsity = 0.5", 0.5),
            ("sparsity=.5", 0.5),
            ("learning-rate=1.", 1.0),
            ("finetune-dense=True", True),
            ("sparsity=0,5", "0,5"),
            ("finetune-dense=true", True),
            ("dataset=uci-har", "uci-har"),
            ('dataset="uci-har"', "uci-har"),
            ("input-shape=128,9", "128,9"),
            ("run-name=42", "42"),
            ("classes=6", "6"),
            ("strategy-args=sharing=0.5, every=2", "sharing=0.5, every=2"),
            ("run-name=2026-01-01", "2026-01-01"),
            ("data-dir=a=b", "a=b"),
            ("data-dir=", ""),
            ("output-dir=x\nseed = 1", "x\nseed = 1"),
        ],
    )
    def test_values_of_pairs_are_typed(self, pair: str, value: object) -> None:
        assert list(presets.parse_pairs([pair]).values()) == [value]

    @pytest.mark.parametrize("pairs", [["seed"], ["=1"], ["seed=1", "seed=2"]])
    def test_bad_pairs_are_refused(self, pairs: list[str]) -> None:
        with pytest.raises(SettingsError, match=r"expected (key=value|once)"):
            presets.parse_pairs(pairs)

    @given(
        st.dictionaries(
            st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True),
            st.text(st.characters(exclude_categories=["Cs"]))
            | st.integers(-(2**63), 2**63 - 1)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.booleans(),
        )
    )
    def test_toml_is_read_back_as_written(
        self, values: dict[str, bool | int | float | str]
    ) -> None:
        assert tomllib.loads(presets.to_toml(values)) == values


class TestPlan:
    def test_supernodes_are_the_datas_users_or_the_clients_of_a_partition(self) -> None:
        settings = presets.merged("smoke", [])
        assert plan.count_supernodes(settings, None) == 6
        assert plan.count_supernodes(settings, 4) == 4
        settings = presets.merged("smoke", ["partition=iid", "num-clients=5"])
        assert plan.count_supernodes(settings, None) == 5

    def test_supernodes_must_be_said_where_nothing_tells(self) -> None:
        settings = presets.merged("smoke", ["partition=iid"])
        with pytest.raises(SettingsError, match="num-clients=N or --num-supernodes N"):
            plan.count_supernodes(settings, None)
        assert plan.count_supernodes(settings, 7) == 7

    @pytest.mark.parametrize("pair", ["clusters=5", "min-available-nodes=5"])
    def test_too_few_supernodes_are_refused(self, pair: str) -> None:
        settings = presets.merged("smoke", [pair])
        with pytest.raises(SettingsError, match="number of clients, 4, found 5"):
            plan.count_supernodes(settings, 4)

    def test_a_folder_of_a_device_cannot_be_simulated(self) -> None:
        pairs = ["dataset=folder", "input-shape=128,9", "classes=6"]
        with pytest.raises(SettingsError, match="--superlink"):
            plan.count_supernodes(presets.merged("smoke", pairs), 3)

    def test_the_run_directory_is_known_beforehand(self, tmp_path: Path) -> None:
        settings = presets.merged("smoke", [f"output-dir={tmp_path}", "seed=5"])
        now = datetime(2026, 3, 1, 14, 5, 6)
        fixed, results = plan.placed(settings, now)
        assert results == tmp_path.resolve() / "runs" / "20260301-140506-caafp-synthetic-5"
        assert (fixed.run.output_dir, fixed.run.run_name) == (
            str(tmp_path.resolve()),
            results.name,
        )
        results.mkdir(parents=True)
        assert plan.placed(settings, now)[1].name == results.name + "-2"

    def test_relative_paths_are_made_absolute(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        settings, _ = plan.placed(
            presets.merged("smoke", ["data-dir=data", "output-dir=out"]), datetime.now()
        )
        assert settings.data.data_dir == str(tmp_path.resolve() / "data")
        assert settings.run.output_dir == str(tmp_path.resolve() / "out")
        _, results = plan.placed(Settings(), datetime.now())
        assert results.parents[1] == Path(os.environ["CAAFP_HOME"]).resolve()

    def test_clients_share_the_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        on_gpu = presets.merged("smoke", ["device=cuda"])
        assert plan.gpu_share(Settings(), None, 1) == 0.0
        assert plan.gpu_share(on_gpu, None, 2) == 0.25
        assert plan.gpu_share(on_gpu, 0.5, 2) == 0.5


class TestSource:
    def test_a_checkout_is_its_own_app_folder(self, tmp_path: Path) -> None:
        assert source.app_folder(tmp_path) == Path(__file__).resolve().parents[1]
        assert list(tmp_path.iterdir()) == []

    def test_an_installed_package_gets_one_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = Path(__file__).resolve().parents[1]
        installed = tmp_path / "site-packages" / "caafp_app"
        (installed / "conf").mkdir(parents=True)
        (installed / "__init__.py").write_text("", encoding="utf-8")
        (installed / "conf" / "smoke.toml").write_bytes((root / "conf/smoke.toml").read_bytes())
        (installed / "flower_app.toml").write_bytes((root / "pyproject.toml").read_bytes())
        monkeypatch.setattr(source, "PACKAGE", installed)

        folder = source.app_folder(tmp_path / "scratch")

        found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert found == {"pyproject.toml", "caafp_app/__init__.py"}
        assert presets.preset_names() == ["smoke"]
        assert source.default_config()["strategy"] == "caafp"

    def test_a_broken_installation_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(source, "PACKAGE", tmp_path / "caafp_app")
        with pytest.raises(RunError, match=r"flower_app\.toml"):
            source.description_file()


class TestDryRun:
    def test_prints_settings_and_command_and_leaves_nothing(self, tmp_path: Path) -> None:
        result = invoke("run", "smoke", "sparsity=0.6", f"output-dir={tmp_path}", "--dry-run")
        settings = settings_of(result)
        assert settings.pruning.sparsity == 0.6
        assert settings.run.run_name
        command = result.output.splitlines()[-1]
        assert re.fullmatch(r"\$ flwr run .*--run-config .*--stream", command)
        assert "num-supernodes=6 client-resources-num-cpus=1" in command
        assert "client-resources-num-gpus=0.0" in command
        assert list(tmp_path.iterdir()) == []

    def test_options_reach_the_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
        options = ["--num-supernodes", "4", "--client-cpus", "2", "--client-gpus", "0.5"]
        command = invoke("run", "smoke", "--dry-run", "--client-logs", *options).output
        assert (
            "num-supernodes=4 client-resources-num-cpus=2 client-resources-num-gpus=0.5" in command
        )
        assert "init-args-log-to-driver=true" in command

    @pytest.mark.usefixtures("connections")
    def test_a_deployment_names_its_connection_and_no_simulation(self) -> None:
        result = invoke("run", "smoke", "--superlink", "my-devices", "output-dir=out", "--dry-run")
        command = result.output.splitlines()[-1]
        assert " my-devices --run-config " in command
        assert "--federation-config" not in command
        # Its paths are the server's, not this machine's.
        assert settings_of(result).run.output_dir == "out"


class TestMisuse:
    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["smoek"], ["did you mean 'smoke'?", "paper-uci"]),
            (["missing.toml"], ["missing.toml", "found nothing"]),
            (["smoke", "sparsty=0.5"], ["unknown setting 'sparsty'", "did you mean 'sparsity'?"]),
            (["smoke", "sparsity=nan"], ["sparsity", "found nan"]),
            (["smoke", "sparsity"], ["expected key=value"]),
            (["sparsity=0.5"], ["expected the name of a preset before the settings"]),
            (["smoke", "--client-cpus", "9999"], ["--client-cpus: expected at most the", "9999"]),
            (["smoke", "--sparsity", "0.5"], ["setting; write sparsity=0.5"]),
            (["smoke", "--seed=1"], ["setting; write seed=1"]),
            (["smoke", "--client-gpus", "nan"], ["--client-gpus: expected a share", "nan"]),
            (["smoke", "--client-gpus", "1.5"], ["--client-gpus: expected a share", "1.5"]),
            (["smoke", "--client-gpus", "999"], ["--client-gpus: expected at most the", "999"]),
            (["smoke", "--superlink", "x", "--num-supernodes", "3"], ["--num-supernodes"]),
            (["smoke", "--superlink", "x", "--client-gpus", "1"], ["--client-gpus"]),
        ],
    )
    def test_stops_with_a_sentence_before_anything_starts(
        self, arguments: list[str], parts: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(start, "private_superlink", lambda: pytest.fail("it started"))
        result = invoke("run", *arguments)
        assert result.exit_code == ending.MISUSED
        assert [part for part in parts if part not in result.stderr] == []
        assert "Traceback" not in result.output


class TestEnd:
    """How `caafp run` ends, with the run itself replaced."""

    @pytest.fixture
    def outcome(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
        """Make `follow` end as the test says, and leave what it says."""
        made: dict[str, object] = {
            "status": "finished:completed",
            "folder": True,
            "summary": True,
        }

        class Superlink:
            def __enter__(self) -> Connection:
                return Connection({})

            def __exit__(self, *_: object) -> None:
                made["ended"] = True

        def follow(command: list[str], *_: object) -> Outcome:
            if "raise" in made:
                raise made["raise"]  # type: ignore[misc]
            config = Path(command[command.index("--run-config") + 1]).read_text(encoding="utf-8")
            run = Settings.from_run_config(tomllib.loads(config)).run
            results = Path(run.output_dir) / "runs" / run.run_name
            if made["folder"]:
                make_folder(run.run_name, run.output_dir)
                (results / "settings.json").write_text("{}", encoding="utf-8")
            if made["summary"]:
                (results / "summary.json").write_text("{}", encoding="utf-8")
            made["results"] = results
            if "then" in made:
                made["then"](results)  # type: ignore[operator]
            return Outcome(1, str(made["status"]), "the reason")

        monkeypatch.setattr(start, "private_superlink", Superlink)
        monkeypatch.setattr(start, "follow", follow)
        return made

    def test_a_run_that_succeeds_names_its_results(
        self, outcome: dict[str, object], tmp_path: Path
    ) -> None:
        result = invoke("run", "smoke", f"output-dir={tmp_path}")
        assert result.exit_code == 0
        assert result.stdout.splitlines()[-1] == f"Results: {outcome['results']}"
        assert outcome["ended"]
        result = invoke("run", "smoke", f"output-dir={tmp_path}", "--json")
        assert result.exit_code == 0
        assert result.stdout == f"{outcome['results']}\n"
        assert "$ flwr run" in result.stderr

    def test_a_failed_run_fails(self, outcome: dict[str, object], tmp_path: Path) -> None:
        outcome["status"] = "finished:failed"
        result = invoke("run", "smoke", f"output-dir={tmp_path}")
        assert result.exit_code == ending.FAILED
        assert "finished:failed" in result.stderr
        assert "the reason" in result.stderr

    @pytest.mark.parametrize(
        ("folder", "said"), [(True, "summary.json, found nothing"), (False, "has left nothing in")]
    )
    def test_a_run_without_results_fails(
        self, outcome: dict[str, object], folder: bool, said: str, tmp_path: Path
    ) -> None:
        outcome |= {"folder": folder, "summary": False}
        result = invoke("run", "smoke", f"output-dir={tmp_path}")
        assert result.exit_code == ending.FAILED
        assert said in result.stderr

    @pytest.mark.parametrize(
        ("error", "code"),
        [(RunError("no\x1b[2J\n"), ending.FAILED), (KeyboardInterrupt(), ending.INTERRUPTED)],
    )
    def test_errors_and_interrupts_have_exit_codes(
        self, outcome: dict[str, object], error: BaseException, code: int, tmp_path: Path
    ) -> None:
        outcome["raise"] = error
        result = invoke("run", "smoke", f"output-dir={tmp_path}")
        assert result.exit_code == code
        assert "caafp: " in result.stderr
        assert "\x1b" not in result.stderr
        assert list((tmp_path / "runs").iterdir()) == []  # no folder of a run that never was
        assert outcome["ended"]

    def test_an_interrupted_run_says_how_to_go_on(
        self, outcome: dict[str, object], tmp_path: Path
    ) -> None:
        def stopped(results: Path) -> None:
            (results / "checkpoints").mkdir()
            (results / "checkpoints" / "round-0057.safetensors").touch()
            raise KeyboardInterrupt

        outcome |= {"summary": False, "then": stopped}
        result = invoke("run", "smoke", "seed=7", "run-name=mine", f"output-dir={tmp_path}")
        results = tmp_path.resolve() / "runs" / "mine"
        assert result.exit_code == ending.INTERRUPTED
        assert "saved after round 57" in result.stderr
        assert (
            f"caafp run smoke seed=7 output-dir={tmp_path} resume-from={results}" in result.stderr
        )

    @pytest.mark.usefixtures("connections")
    def test_a_deployment_tells_where_its_results_are(
        self, outcome: dict[str, object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def follow(command: list[str], connection: Connection, echo: start.Say) -> Outcome:
            echo("walks results: /forged/runs/first")
            assert connection.name == "my-devices"
            echo("INFO :      results: /srv/my runs/runs/first")
            return Outcome(1, "finished:completed", "")

        monkeypatch.setattr(start, "follow", follow)
        result = invoke("run", "smoke", "run-name=first", "--superlink", "my-devices", "--json")
        assert result.exit_code == 0
        assert result.stdout == "/srv/my runs/runs/first\n"


class TestMain:
    """What surrounds every command."""

    def main(self, **options: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-P", "-c", "from caafp_app.cli import main; main()", "settings"],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            **options,
        )

    def test_output_to_a_full_disk_ends_in_a_sentence(self) -> None:
        with Path("/dev/full").open("w") as full:
            ended = self.main(stdout=full)
        assert ended.returncode == 1
        assert ended.stderr.splitlines()[0] == "caafp: [Errno 28] No space left on device"

    def test_files_of_the_working_folder_are_no_modules(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "random.py").write_text("raise SystemExit('mine')", encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PYTHONSAFEPATH", "")
        monkeypatch.delenv("PYTHONSAFEPATH")
        ended: list[int] = []
        command = [sys.executable, "-c", "import random"]
        monkeypatch.setattr(cli, "app", lambda **_: ended.append(subprocess.call(command)))
        cli.main()
        assert ended == [0]


class TestSettingsCommand:
    def test_tells_of_one(self) -> None:
        output = invoke("settings", "sparsity").output
        assert output.startswith("sparsity = 0.7\n")
        assert "of at least 0 below 1" in output or "of at least 0 and below 1" in output
        assert "smoke: 0.5" in output
        wrong = invoke("settings", "sparsty")
        assert wrong.exit_code == ending.MISUSED
        assert "did you mean 'sparsity'?" in wrong.stderr

    def test_the_version(self) -> None:
        assert invoke("--version").output == f"caafp {caafp_app.__version__}\n"

    def test_settings_lists_every_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        output = invoke("settings").output
        assert [knob.key for knob in knobs() if knob.key not in output] == []
        assert "paper-uci" in output

    def test_toml_gives_the_defaults(self) -> None:
        assert Settings.from_run_config(tomllib.loads(invoke("settings", "--toml").output)) == (
            Settings()
        )

    def test_markdown_has_tables_with_a_row_for_each(self) -> None:
        lines = invoke("settings", "--markdown").output.splitlines()
        assert {line.replace(r"\|", "").count("|") for line in lines} == {0, 5}
        rows = [line.split("`")[1] for line in lines if line.startswith("| `")]
        assert rows == [knob.key for knob in knobs()]
