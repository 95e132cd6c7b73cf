"""README and guides: their commands, snippets, tables and links are those of this version."""

import io
import re
import shlex
import tomllib
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, RecordDict
from typer.testing import CliRunner

import caafp_app
from caafp_app import cli
from caafp_app.bench.file import read_bench
from caafp_app.cli.settings import settings_markdown
from caafp_app.datasets.base import DataShape, Windows
from caafp_app.datasets.folder import read_folder
from caafp_app.datasets.uci_har import CLASSES, UciHarSource
from caafp_app.launch.presets import parse_pairs, preset_names, read_preset
from caafp_app.protocol.messages import to_record
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.live import LiveLog
from caafp_app.runs.observer import CompositeObserver, DirectoryObserver
from caafp_app.runs.records import RoundRecord
from caafp_app.runs.text import round_line
from caafp_app.server_app import initial_arrays
from caafp_app.settings import Settings
from tests.left_run import leave_run
from tests.local_grid import LocalGrid
from tests.strategies import numpy_app
from tests.strategies.support import nodes, prepare

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = ("tutorial", "installation", "data", "simulation", "settings", "runs", "benches")
TEXT = "\n".join(
    [README, *((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in GUIDES)]
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def blocks(language: str, holding: str = "") -> list[str]:
    """Fenced blocks of a language that hold a text."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    return [block for block in found if holding in block]


def block(language: str, holding: str) -> str:
    """The one such block."""
    (found,) = blocks(language, holding)
    return found


def table(first_column: str) -> list[list[str]]:
    """Rows of the table whose first column has this head."""
    _, _, rest = TEXT.partition(f"\n| {first_column} |")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    assert lines
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


# -- tables --------------------------------------------------------------------------------


def test_settings_table_is_current() -> None:
    written = TEXT.partition("<!-- settings -->\n")[2].partition("<!-- end of settings -->")[0]
    assert written == settings_markdown(), "paste what `caafp settings --markdown` prints"


def test_presets_are_those_in_conf() -> None:
    assert sorted(row[0].strip("`") for row in table("preset")) == preset_names()


def test_a_run_leaves_the_files_that_are_listed(tmp_path: Path) -> None:
    setup = prepare({"clusters": 0, "prune-rounds": 2})
    directory = RunDirectory.create(tmp_path, strategy="caafp", dataset="synthetic", seed=5)
    files = DirectoryObserver(directory, setup.settings.to_dict())
    setup.strategy.observer = CompositeObserver([files, LiveLog(directory.path)])
    setup.strategy.start(setup.grid, to_record(initial_arrays(setup.settings)), num_rounds=4)
    left = {
        re.sub(r"cluster-\d+", "cluster-0", path.relative_to(directory.path).as_posix())
        for path in directory.path.rglob("*")
        if path.is_file()
    }
    assert {row[0].strip("`") for row in table("file")} == left


# -- commands ------------------------------------------------------------------------------


OWN = "PYTHONPATH=examples/own-strategy "
LOOKERS = ("report", "watch", "export")
"""Commands that look at a run; it has to be there."""


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    found = [shlex.split(line.removeprefix(OWN), comments=True) for line in lines]
    return [words for words in found if words]


@pytest.fixture
def elsewhere(tmp_path: Path, connections: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the files that the examples name; the commands run in it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels, users = np.arange(160) % 2, np.arange(160) % 4
    np.savez(tmp_path / "windows.npz", X=rng.normal(size=(160, 16, 3)), y=labels, user=users)
    (tmp_path / "my.toml").write_text('strategy = "caafp"\n', encoding="utf-8")
    executed(block("python", "my-windows.npz"))
    users = np.repeat(np.arange(30), 48)
    recordings = Windows(
        x=rng.normal(size=(users.size, 128, 9)).astype(np.float32),
        y=np.tile(np.arange(6), users.size // 6),
        user=users,
        class_names=CLASSES,
    )
    # A dry run reads the data; the published recordings are no part of the repository.
    monkeypatch.setattr(UciHarSource, "windows", lambda source, settings: recordings)
    _saved_set(tmp_path / "my-saved-set")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "examples" / "own-strategy"))
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "own-strategy"))
    return tmp_path


def _saved_set(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    x = np.random.default_rng(2).normal(size=(40, 16, 3)).tolist()
    columns = {"x": x, "label": [k % 2 for k in range(40)], "user": [k % 4 for k in range(40)]}
    datasets.Dataset.from_dict(columns).save_to_disk(str(folder))


def test_the_readme_shows_the_main_commands() -> None:
    kinds = {" ".join(words[:2]) for words in commands()}
    assert {"make run", "make test", "caafp run", "flwr run"} <= kinds


@pytest.mark.parametrize(
    "words",
    # `device` would begin to serve.
    [w for w in commands() if w[0] == "caafp" and w[1] not in ("device", *LOOKERS)],
    ids=lambda words: " ".join(words),
)
def test_caafp_commands_are_understood(words: list[str], elsewhere: Path) -> None:
    dry = ["--dry-run"] * (words[1] in ("run", "bench", "tune") and "--dry-run" not in words)
    result = CliRunner().invoke(cli.app, words[1:] + dry)
    assert result.exit_code == 0, result.output


def test_commands_that_look_at_runs_are_understood(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAAFP_HOME", str(elsewhere))
    for name in ("clustered", "one-model", "latest"):
        leave_run(elsewhere / "runs" / name)
    found = [words for words in commands() if words[0] == "caafp" and words[1] in LOOKERS]
    assert {words[1] for words in found} == set(LOOKERS)
    for words in found:
        if words[1] == "export":
            continue  # the run that is left here has no network; tests/export has
        result = CliRunner().invoke(cli.app, words[1:])
        assert result.exit_code == 0, result.output


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(block("toml", 'preset = "caafp"\nsparsity'), encoding="utf-8")
    settings = Settings.from_run_config(read_preset(str(path)))
    assert settings.pruning.sparsity == 0.8


def test_a_bench_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(block("toml", "[bench]"), encoding="utf-8")
    names = [case.name for case in read_bench(str(path), []).cases]
    assert names == ["sparse-0.7", "sparse-0.8", "sparse-0.9"]


def test_caafp_commands_in_the_text_are_understood(elsewhere: Path) -> None:
    named = set(re.findall(r"`(caafp (?:run|settings)[^`]*)`", TEXT)) - {"caafp run"}
    for command in named - {"caafp run --dry-run"}:
        words = shlex.split(command)[1:]
        result = CliRunner().invoke(cli.app, words + ["--dry-run"] * (words[0] == "run"))
        assert result.exit_code == 0, result.output


def test_make_targets_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [words[1] for words in commands() if words[0] == "make"]
    targets += re.findall(r"`make (\w+)`", TEXT)
    assert {"run", "test", "setup"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_installation_names_extras_and_constraints_that_exist() -> None:
    (words,) = [w for w in commands() if w[:4] == ["python", "-m", "pip", "install"]]
    extra = re.fullmatch(r"\.\[(\w+)\]", words[words.index("-e") + 1])
    assert extra
    assert extra[1] in PROJECT["optional-dependencies"]
    assert (ROOT / words[words.index("-c") + 1]).is_file()


def test_run_configs_of_flwr_run_are_valid() -> None:
    found = [words[words.index("--run-config") + 1] for words in commands() if words[0] == "flwr"]
    assert len(found) == 2
    for value in found:
        pairs = not value.endswith(".toml")
        config = parse_pairs(shlex.split(value)) if pairs else read_preset(str(ROOT / value))
        assert Settings.from_run_config(config).changes()


def test_the_connection_is_the_address_of_the_supernode() -> None:
    (connection,) = tomllib.loads(block("toml", "superlink"))["superlink"].values()
    (node,) = [words for words in commands() if words[:2] == ["caafp", "device"]]
    assert connection["address"] == node[node.index("--superlink") + 1]


# -- snippets ------------------------------------------------------------------------------


THEIR_SERVER = """
from flwr.serverapp.strategy import FedAvg


def main(grid, initial_arrays):
    strategy = FedAvg(fraction_train=0.5)
    return strategy.start(grid=grid, initial_arrays=initial_arrays, num_rounds=10)
"""

THEIR_CLIENT = """
from flwr.app import Message, RecordDict, ArrayRecord, MetricRecord
from flwr.clientapp import ClientApp

from tests.strategies.numpy_app import TEST, descend, slopes, windows

app = ClientApp()


@app.train()
def train(message, context):
    x, y = windows(int(context.node_config["partition-id"]))
    model = descend(message.content["arrays"].to_numpy_ndarrays(), x[:-TEST], y[:-TEST])
    metrics = MetricRecord({"num-examples": len(y) - TEST})
    return Message(RecordDict({"arrays": ArrayRecord(model), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message, context):
    x, y = windows(int(context.node_config["partition-id"]))
    model = message.content["arrays"].to_numpy_ndarrays()
    _, loss, accuracy = slopes(model, x[-TEST:], y[-TEST:])
    metrics = MetricRecord({"accuracy": accuracy, "loss": loss, "num-examples": TEST})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
"""


def patched(source: str, diff: str) -> str:
    """Apply a diff whose hunks are parted by blank lines; lines that are only added go first."""
    for hunk in diff.strip().split("\n\n"):
        old = "\n".join(line[1:] for line in hunk.splitlines() if line.startswith("-"))
        new = "\n".join(line[1:] for line in hunk.splitlines() if line.startswith("+"))
        assert source.count(old) == 1 or not old
        source = source.replace(old, new) if old else f"{new}\n{source}"
    return source


def executed(source: str, **names: Any) -> dict[str, Any]:
    exec(compile(source, "README.md", "exec"), names)
    return names


def small_pruned_too(server: str) -> str:
    """Have the arrays of `numpy_app` pruned, which are below the size that is spared by default."""
    assert server.count("fraction_train=0.5") == 1
    return server.replace("fraction_train=0.5", "fraction_train=0.5, spare_below=0")


def grid_of(client: str) -> LocalGrid:
    return LocalGrid(executed(client)["app"], nodes(6))


def start(server: str, grid: LocalGrid) -> Any:
    main: Callable[[LocalGrid, ArrayRecord], Any] = executed(server)["main"]
    return main(grid, numpy_app.initial())


def test_the_diff_turns_a_project_of_fedavg_into_one_of_caafp() -> None:
    server, client = blocks("diff", "FedAvg")[0], blocks("diff", "sparse_mod")[0]
    changed = [line for line in (server + client).splitlines() if line.startswith("-")]
    assert len(changed) == 3

    theirs = grid_of(THEIR_CLIENT)
    before = start(THEIR_SERVER, theirs)
    ours = grid_of(patched(THEIR_CLIENT, client))
    after = start(small_pruned_too(patched(THEIR_SERVER, server)), ours)

    assert len(before.train_metrics_clientapp) == len(after.train_metrics_clientapp) == 10
    groups = sorted(cluster.members for cluster in after.clusters.values())
    assert groups == [tuple(f"part-{k:04d}" for k in range(6) if k % 2 == g) for g in (0, 1)]
    # A run of 10 rounds prunes 0.015 a round by default.
    assert all(0.83 < cluster.density < 0.87 for cluster in after.clusters.values())
    # Each group has a truth of its own, which one model for both cannot learn.
    one, many = (result.evaluate_metrics_clientapp[10]["accuracy"] for result in (before, after))
    assert many > one


def test_the_longer_snippet_runs_too() -> None:
    snippet = small_pruned_too(block("python", "WireFormat"))
    grid = grid_of(patched(THEIR_CLIENT, blocks("diff", "sparse_mod")[0]))
    said = io.StringIO()
    with redirect_stdout(said):
        names = executed(snippet, grid=grid, initial_arrays=numpy_app.initial())
    assert [line[-12:] for line in said.getvalue().splitlines()] == ["density 0.19"] * 2
    assert isinstance(names["model"], ArrayRecord)


def test_the_mask_is_where_it_is_said_to_be() -> None:
    context = Context(1, 1, {}, RecordDict(), {})
    assert executed(block("python", "current_mask"), context=context)["mask"] is None


def test_own_data_is_read(elsewhere: Path) -> None:
    (elsewhere / "windows.npz").unlink()
    x = np.random.default_rng(1).normal(size=(160, 16, 3))
    executed(
        block("python", "[n, time, channels]"), X=x, y=np.arange(160) % 2, user=np.arange(160) % 4
    )
    words = next(words for words in commands() if "dataset=npz" in words)
    result = CliRunner().invoke(cli.app, [*words[1:], "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "num-supernodes=4" in result.output


def test_the_table_of_samples_is_read(tmp_path: Path) -> None:
    path = tmp_path / "walks.csv"
    path.write_text(block("text", "window,label"), encoding="utf-8")
    windows = read_folder(tmp_path, DataShape((2, 3), ("a", "b", "c")))
    assert (windows.x.shape, windows.y.tolist()) == ((1, 2, 3), [2])


def test_the_log_has_lines_of_this_form() -> None:
    record = RoundRecord(
        round=19,
        phase="prune",
        seconds=0.8,
        asked=10,
        answered=10,
        accuracy=0.963,
        loss=0.1,
        density={0: 0.45, 1: 0.45, 2: 0.45},
        bytes_down=3_010_000,
        mask_updated=True,
    )
    assert block("text", "round 19/35") == round_line(record, 35, 12.0, 15) + "\n"


# -- versions --------------------------------------------------------------------


def test_versions_in_all_files_agree() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {PROJECT['version']}\n" in citation
    assert caafp_app.__version__ == PROJECT["version"]
    assert f"Python {PROJECT['requires-python'].removeprefix('>=')} or newer" in TEXT
    tested = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    for name in ("constraints.txt", "deploy/constraints-aarch64.txt"):
        flower = re.search(r"^flwr==(\d+\.\d+)\.", (ROOT / name).read_text("utf-8"), re.M)
        assert flower
        assert f"| 3.11 | {flower[1]} |" in tested
