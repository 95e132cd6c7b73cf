"""A CSV or Parquet file as named columns of cells."""

import csv
import gzip
import itertools
import re
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from caafp_app.datasets.arrays import MAX_BYTES
from caafp_app.errors import DataError, reading
from caafp_app.settings.text import encoding_of

if TYPE_CHECKING:
    from pandas import DataFrame

HEADS = ("window", "label")
"""Columns of words; all others are numbers."""
_LONGEST_HEAD = 100_000
_MISSING = ["", "NaN", "nan", "NA", "N/A", "null", "NULL", "None"]


class TooShortError(DataError):
    """A table without a single window: too short, or empty."""


def read_cells(path: Path) -> "DataFrame":
    """Return the cells below each name of a column; of CSV, words as they are written.

    Raises TooShortError if the file is empty, DataError if it is no such table, or too large.
    """
    if _unpacked(path) > MAX_BYTES:
        raise DataError(f"{path}: expected at most {MAX_BYTES / 2**30:g} GiB, unpacked")
    table = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    # Without a name are the row numbers that pandas writes, and what a separator at the end makes.
    return table.loc[:, [not re.fullmatch(r"(Unnamed: \d+)?", name) for name in table.columns]]


def _csv(path: Path) -> "DataFrame":
    import pandas as pd  # seconds on a small device, so only where a table is read

    try:
        with _opened(path) as file:
            head = file.readline(_LONGEST_HEAD)
        separator = max(",;\t", key=head.count)
        form: dict[str, Any] = {"encoding": _encoding(path), "sep": separator}
        form["skipinitialspace"] = True
        first = pd.read_csv(path, **form, nrows=1, header=None, dtype=str, keep_default_na=False)
        names = _names(path, first.iloc[0])
        words = [name for name in names if name in HEADS]
        # pandas takes null, None, NA and the like for missing; in a column of words they are words.
        with warnings.catch_warnings():
            # Lines longer than the first one, of which pandas would drop the end.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                **form,
                names=names,
                header=0,
                index_col=False,
                # `datasets.table` reads a number with a point as well.
                decimal="." if separator == "," else ",",
                dtype=dict.fromkeys(words, str),
                keep_default_na=False,
                na_values={name: _MISSING for name in names if name not in words},
            )
    except pd.errors.EmptyDataError:
        raise TooShortError("an empty file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8, found {error}; save it as UTF-8") from error
    except pd.errors.ParserWarning as error:
        raise DataError(
            f"{path}: expected a name in the first line for each cell of a line, found more cells"
        ) from error
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected a table of samples, found {error}") from error


def _unpacked(path: Path) -> int:
    """Return the bytes of a file, of a gzipped one unpacked, as far as it may be."""
    if path.suffix.lower() != ".gz":
        return path.stat().st_size
    size = 0
    with reading(path, DataError), gzip.open(path) as file:
        while size <= MAX_BYTES and (part := file.read(1 << 20)):
            size += len(part)
    return size


def _parquet(path: Path) -> "DataFrame":
    import pandas as pd

    try:
        from pyarrow.parquet import read_metadata
    except ImportError as error:
        raise DataError(
            f"{path}: reading Parquet needs the package pyarrow, found none; install it by `pip "
            "install pyarrow`, or save CSV"
        ) from error
    with reading(f"a Parquet table in {path}", DataError):
        about = read_metadata(path)
        # A value that is repeated takes no room in the file.
        if 8 * about.num_rows * about.num_columns > MAX_BYTES:
            raise DataError(
                f"{path}: expected at most {MAX_BYTES / 2**30:g} GiB, found {about.num_rows} lines"
            )
        table = pd.read_parquet(path)
    if table.index.name is not None:
        table = table.reset_index()
    table.columns = _names(path, table.columns)
    return table


def _names(path: Path, columns: Iterable[object]) -> list[str]:
    """Return names of columns without blanks around them; `label` and `window` in small letters."""
    names = [str(name).strip() or f"Unnamed: {place}" for place, name in enumerate(columns)]
    names = [name.lower() if name.lower() in HEADS else name for name in names]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{path}: expected columns of different names, found {twice[0]!r} twice")
    return names


def _opened(path: Path) -> TextIO:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    return cast(TextIO, opened(path, "rt", encoding=_encoding(path), newline=""))


def _encoding(path: Path) -> str:
    opened = gzip.open if path.suffix.lower() == ".gz" else Path.open
    with opened(path, "rb") as file:
        return encoding_of(file.read(4))


def line_of(path: Path, row: int) -> int:
    """Return the line of a file where a row of its table stands; blank lines are no rows."""
    if path.suffix.lower() == ".parquet":
        return row + 2
    with _opened(path) as file:
        reader = csv.reader(file)
        rows = (reader.line_num for cells in reader if cells)
        return next(itertools.islice(rows, row + 1, None), row + 2)
