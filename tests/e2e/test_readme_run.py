"""The README's first run gives what the README says."""

import json
import re
from pathlib import Path

import pytest

import caafp_app

pytestmark = pytest.mark.e2e

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_first_run_keeps_to_the_bands_of_the_readme(tmp_path: Path) -> None:
    text = " ".join(README.read_text(encoding="utf-8").split())
    bands = re.search(
        r"Expect ([\d.]+) to ([\d.]+) % for both means, and ([\d.]+) to ([\d.]+) %", text
    )
    assert bands is not None
    low, high, worst_low, worst_high = (float(number) / 100 for number in bands.groups())
    run = caafp_app.run("caafp", engine="batched", output_dir=str(tmp_path), say=lambda line: None)
    summary = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))
    for model in ("cluster", "personal"):
        assert low <= summary["accuracy"][model]["mean"] <= high
        assert worst_low <= summary["accuracy"][model]["min"] <= worst_high
    assert summary["clusters"] == [4, 4, 4]
    assert summary["sparsity"]["personal_mean"] == pytest.approx(0.7, abs=1e-3)
    sent = re.search(r"([\d.]+) MB in all", text)
    assert sent is not None
    assert summary["bytes"]["total"] / 1e6 == pytest.approx(float(sent[1]), rel=0.02)
