import json
from pathlib import Path

from caafp_app.launch.start import end_of, has_begun
from caafp_app.runs.place import reserve_folder


def leave(path: Path, rounds: list[dict[str, object]], summary: bool = True) -> Path:
    """Write what a run leaves that ends as Flower wishes."""
    path.mkdir(parents=True)
    (path / "settings.json").write_text('{"round-timeout": 25.0}', encoding="utf-8")
    text = "".join(json.dumps(line) + "\n" for line in rounds)
    (path / "rounds.jsonl").write_text(text, encoding="utf-8")
    if summary:
        (path / "summary.json").write_text('{"rounds": 2}', encoding="utf-8")
    return path


DESCRIBE = {"phase": "describe", "asked": 2, "answered": 2}


def test_a_run_with_a_summary_has_ended_well(tmp_path: Path) -> None:
    rounds = [DESCRIBE, {"phase": "warm-up", "asked": 2, "answered": 1}]
    path = leave(tmp_path / "run", rounds)
    assert (end_of(path, "").complaint, end_of(path, "").results) == ("", str(path))


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    path = leave(tmp_path / "run", [DESCRIBE], summary=False)
    assert "summary.json" in end_of(path, "").complaint
    assert end_of(path, "the reason").complaint == "the reason"
    reserved = reserve_folder("mine", tmp_path)
    assert end_of(reserved, "").results is None
    assert not has_begun(reserved)
    assert has_begun(path)
