"""Text of clients, made safe to print and to open as a table."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.safe_text import csv_cell, from_csv_cell, is_label, printable, sentence


@given(st.text())
def test_what_is_printed_has_no_character_that_is_obeyed(text: str) -> None:
    for line in (printable(text), sentence(text)):
        assert line.isprintable()
    assert len(printable(text)) == len(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("clear\x1b[2J", "clear?[2J"),
        ("a\r\nresults: /tmp/x", "a results: /tmp/x"),
        ("x\u202egpj.exe", "x?gpj.exe"),
        ("nul\x00", "nul?"),
        ("zero\u200bwidth\ufeff", "zero?width?"),
        ("Grüße, 电话", "Grüße, 电话"),
        ("w" * 2000, "w" * 997 + "..."),
    ],
)
def test_sentences(text: str, line: str) -> None:
    assert sentence(text) == line


@pytest.mark.parametrize("label", ["=HYPERLINK(1)", "+1+1", "-2+3", "@sum", "'quoted"])
def test_no_cell_begins_a_formula(label: str) -> None:
    cell = str(csv_cell(label))
    assert cell.startswith("'")
    assert from_csv_cell(cell) == printable(label)


def test_numbers_and_plain_labels_stay_as_they_are() -> None:
    for value in (3, -2.5, None, "part-0001", "-3.5", "1e-9", "a=b"):
        assert csv_cell(value) == value


@given(st.text(min_size=1).filter(str.isprintable))
def test_a_table_keeps_every_printable_text(text: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow([csv_cell(text)])
    (row,) = csv.reader(io.StringIO(out.getvalue()))
    assert from_csv_cell(row[0]) == text


@pytest.mark.parametrize("label", ["a", "part-0001", "Anna 2", "Łódź", "x=1", "a@b.c"])
def test_labels(label: str) -> None:
    assert is_label(label)


@pytest.mark.parametrize("label", ["", ".", "..", "a/b", " a", "a\nb", "x" * 101])
def test_what_is_no_label(label: str) -> None:
    assert not is_label(label)  # a device's label is the name of a folder on it
