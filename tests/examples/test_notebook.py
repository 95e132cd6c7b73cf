"""The notebook in examples/, cell by cell."""

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "notebook" / "first-run.ipynb"


def code_cells() -> list[str]:
    """Return the code of the notebook."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_it_is_kept_without_outputs_and_is_python() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs")]
    assert [compile(cell, "cell", "exec") for cell in code_cells()]


@pytest.mark.e2e
def test_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAAFP_HOME", str(tmp_path))
    names: dict[str, Any] = {}
    for cell in code_cells():
        cell = cell.replace('run("smoke"', 'run("smoke", engine="batched"')  # without Ray
        exec(compile(cell, "cell", "exec"), names)
    run = names["run"]
    assert run.settings["engine"] == "batched"
    assert len(run.clients) == 6
    assert names["logits"].shape == (1, 5)
    assert eval(code_cells()[-1], names) is True
