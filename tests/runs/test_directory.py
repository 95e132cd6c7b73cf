import json
from datetime import datetime
from pathlib import Path

import pytest

from caafp_app.errors import RunError
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.files import append_line, plain
from tests.runs.conftest import a_round

NOW = datetime(2026, 3, 1, 14, 5, 9)


def create(root: Path | str, name: str = "") -> RunDirectory:
    return RunDirectory.create(root, name, strategy="caafp", dataset="uci-har", seed=42, now=NOW)


def test_a_run_without_a_name_is_named_by_time_and_method(tmp_path: Path) -> None:
    run = create(tmp_path)
    assert run.path == tmp_path / "runs" / "20260301-140509-caafp-uci-har-42"
    assert create(tmp_path, "mine").path.name == "mine"


def test_rounds_survive_a_crash_in_the_middle_of_a_line(tmp_path: Path) -> None:
    run = create(tmp_path)
    path = run.path / "rounds.jsonl"
    records = [a_round(number, density={0: 1.0}) for number in (1, 2, 3)]
    for record in records[:2]:
        run.append_round(record)
    with path.open("ab") as file:
        file.write(b'{"round": 3, "pha')
    RunDirectory(run.path).append_round(records[2])
    with pytest.raises(RunError, match="line break"):
        append_line(path, "a\nb")
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [plain(vars(record)) for record in records]
    assert path.read_bytes().endswith(b"\n")
