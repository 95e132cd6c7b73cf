"""The commands of docs/deploy.md, for tests to run them as they stand there.

A block that is run has a name in the comment before it: ``<!-- run: superlink -->``.
"""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
_BLOCK = re.compile(r"^<!-- run: ([\w-]+) -->\n+```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> dict[str, str]:
    """Return all named blocks of the guide."""
    found = _BLOCK.findall(GUIDE.read_text(encoding="utf-8"))
    assert len({name for name, _ in found}) == len(found)
    return dict(found)


def words(name: str, replaced: Mapping[str, str]) -> list[str]:
    """Return the one command of a block as a shell would, with other names and paths.

    Parameters
    ----------
    name : str
        Of the block.
    replaced : mapping
        Text in the guide, and what stands in its place here; each is in the block.
    """
    text = blocks()[name]
    for old, new in replaced.items():
        assert old in text, f"{old} is not in the block {name!r} of {GUIDE.name}"
        text = text.replace(old, new)
    (line,) = text.replace("\\\n", " ").strip().splitlines()
    return shlex.split(line)


def inline(start: str, replaced: Mapping[str, str] | None = None) -> list[str]:
    """Return the one command in the running text that begins so, as `words` does."""
    text = GUIDE.read_text(encoding="utf-8")
    codes = set(re.findall(r"`([^`\n]+)`", text))
    (found,) = codes & {start} or {code for code in codes if code.startswith(start)}
    given = shlex.split(found)
    assert set(replaced or {}) <= set(given), found
    return [(replaced or {}).get(word, word) for word in given]


def options(command: list[str], *without: str) -> list[str]:
    """Return the options of a command, less some that take a value."""
    kept = command[1:]
    for name in without:
        place = kept.index(name)
        del kept[place : place + 2]
    return kept
