"""docs/deploy.md: commands, files and links. What it starts is in tests/e2e/test_operator.py."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from caafp_app import cli
from caafp_app.launch.superlink import executable
from tests.e2e import guide
from tests.e2e.devices import write_walks

ROOT = Path(__file__).resolve().parents[2]
TEXT = guide.GUIDE.read_text(encoding="utf-8")


def shell_lines(text: str = TEXT) -> list[list[str]]:
    """All commands of all shell blocks, a backslash joining lines."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    assert len(lines) > 10
    return [shlex.split(line, comments=True) for line in lines]


def test_the_blocks_that_tests_run_are_those_with_a_name() -> None:
    assert set(guide.blocks()) == {
        *("server-keys", "superlink", "connection", "device-keys", "register", "supernode"),
        *("form", "recording", "node", "run", "predict"),
    }


@pytest.mark.parametrize(
    ("program", "helped"),
    [
        ("flwr run", "flwr run"),
        ("flwr supernode register", "flwr supernode register"),
        ("flower-superlink", "flower-superlink"),
        ("caafp device", "flower-supernode"),
    ],
)
def test_flowers_commands_have_the_options_that_documents_use(program: str, helped: str) -> None:
    words = program.split()
    pages = [ROOT / "README.md", ROOT / "docs" / "simulation.md"]
    lines = shell_lines() + shell_lines("".join(page.read_text("utf-8") for page in pages))
    mine = [line for line in lines if line[: len(words)] == words]
    assert mine
    name, *verbs = helped.split()
    done = subprocess.run(
        [executable(name), *verbs, "--help"], capture_output=True, text=True, check=True
    )
    for line in mine:
        for option in (word for word in line if word.startswith("--")):
            assert option in done.stdout, option


def test_a_device_is_prepared_as_the_guide_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dataset.toml, a recording and `caafp node`, as they stand there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    walks = write_walks(tmp_path / "walks")
    words = guide.words("node", {"~/walks": str(walks)})
    done = CliRunner().invoke(cli.app, words[1:])
    assert done.exit_code == 0, done.output
    # 1 + (1400 - 128) // 64 windows of each label, a fifth of them to test by.
    assert "data of pi-1: 32 windows to train on, 8 to test by, each 128 samples (2.56 s) x 3" in (
        done.output
    )
    node_config = shlex.split(done.output.splitlines()[-1])[1]
    assert node_config == f'data-path="{walks}" label="pi-1"'


@pytest.mark.usefixtures("connections")
def test_the_run_of_the_guide_is_understood() -> None:
    result = CliRunner().invoke(cli.app, [*guide.words("run", {})[1:], "--dry-run"])
    assert result.exit_code == 0, result.output
    (connection,) = tomllib.loads(guide.blocks()["connection"])["superlink"]
    words = guide.words("run", {})
    assert words[words.index("--superlink") + 1] == connection
    node = guide.words("node", {})
    assert [word for word in node if "=" in word] == [
        word for word in words if "=" in word and "clients" not in word and "nodes" not in word
    ]


def test_files_that_commands_name_are_there() -> None:
    named = {
        word
        for line in shell_lines()
        for word in line
        if word.startswith("deploy/") or word in {"constraints.txt"}
    }
    assert len(named) >= 8
    for name in named:
        assert (ROOT / name).is_file(), name
