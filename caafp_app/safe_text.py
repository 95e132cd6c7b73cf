"""Text that somebody else wrote, made safe to keep, to print and to open as a table.

Labels, reasons and names of metrics come from clients. A terminal obeys control characters, an
editor obeys marks that change the direction of text, and a spreadsheet runs a cell that begins
with ``=``. What comes in goes through `sentence` or `is_label` where a message is read, and
through `printable` or `csv_cell` where it is written.
"""

import re

LABEL_FORM = "at most 100 letters, digits, . _ - + = @, and spaces between them, not dots alone"
"""How a client's label is written."""

_LABEL = re.compile(r"(?!\.+$)[\w.+=@-](?:[\w.+=@ -]{0,98}[\w.+=@-])?")
_FORMULA = ("=", "+", "-", "@")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def is_label(text: str) -> bool:
    """Tell whether a text can be a client's label: see `LABEL_FORM`.

    Letters and digits of all alphabets are allowed; controls and marks of direction are not.
    """
    return _LABEL.fullmatch(text) is not None


def printable(text: str) -> str:
    """Replace by ``?`` what is not printed but obeyed or hidden.

    Control characters (NUL, ESC and line breaks among them), marks that change the direction of
    text, other invisible formatting, halves of surrogate pairs, and blanks other than the space.
    """
    return "".join(char if char.isprintable() else "?" for char in text)


def sentence(text: str, limit: int = 1000) -> str:
    """Return a client's text as one printable line of at most `limit` characters.

    Line breaks and tabs become spaces, what `printable` replaces becomes ``?``.
    """
    line = printable(" ".join(text[: 4 * limit].split()))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def csv_cell(value: object) -> object:
    """Return a value as a cell that no spreadsheet takes for a formula.

    Texts that begin with ``= + - @`` get an apostrophe before them, as OWASP advises;
    `from_csv_cell` takes it off again. Numbers stay as they are.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    risky = text.startswith((*_FORMULA, "'")) and not _NUMBER.fullmatch(text)
    return f"'{text}" if risky else text


def from_csv_cell(text: str) -> str:
    """Return the text of which `csv_cell` made a cell."""
    return text[1:] if text.startswith("'") else text
