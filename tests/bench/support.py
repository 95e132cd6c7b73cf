"""Bench files of one's own."""

from pathlib import Path

CASE = '[[case]]\nname = "a"\n'


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)
