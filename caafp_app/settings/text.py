"""Text files as editors and spreadsheets write them: with or without a byte-order mark."""

import codecs

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(start: bytes) -> str:
    """Return the encoding that the first bytes of a file name; UTF-8 where they name none."""
    return next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")


def decoded(content: bytes) -> str:
    """Return the text of a file, without its byte-order mark; UnicodeDecodeError if it is none."""
    return content.decode(encoding_of(content))
