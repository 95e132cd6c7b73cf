import json
from pathlib import Path

import pytest

from benchmarks import codec


def test_every_operation_is_timed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures" / "codec.json"
    codec.main(["--weights", "3000", "--repeats", "1", "--json", str(path)])
    found = json.loads(path.read_text())
    assert found["benchmark"] == "codec"
    assert found["weights"] == 3000
    rows = {row["operation"]: row for row in found["rows"]}
    assert codec.TARGETS_MB_PER_SECOND.keys() <= rows.keys()
    assert len(found["targets"]) == len(codec.TARGETS_MB_PER_SECOND)
    assert all(row["ms"] >= 0 for row in rows.values())
    assert rows["int8 encode"]["nbytes"] == 3000 + 2 * 12 + 4
    assert rows["mask pack"]["nbytes"] == 375
    assert "int8 encode" in capsys.readouterr().out
