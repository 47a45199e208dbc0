"""One reader for all tables: BIDS TSV, read literally, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from boldscribe.machinery.errors import UserError

MISSING = {"", "n/a"}
STRIPPED = "white space around cells is ignored"
Rows = list[tuple[int, list[str]]]  # number of the line in the file, and its cells


def read_table(path: Path, notes: list[str] | None = None) -> pd.DataFrame:
    """Read a table as text: tab-separated without quoting, as BIDS defines it, or comma-separated if the name ends in `.csv`.

    A quotation mark in a TSV file is a character like any other, so that no row can swallow the next.

    Args:
        path: table in UTF-8, with or without byte order mark, and with any line ends.
        notes: list to which remarks are appended, such as `STRIPPED`.

    Returns:
        text without surrounding white space, None where a cell is empty or n/a; the index holds the line numbers.

    Raises:
        UserError: the file is missing, empty or not UTF-8; a column name is missing or repeated; a row has too many or too few cells.
    """
    text = _decoded(path)
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _tsv_rows(text)
    if not rows:
        raise UserError(str(path), "found an empty file, expected a table with a header; restore it")
    cleaned = [(line, [cell.strip() for cell in cells]) for line, cells in rows]
    if notes is not None and cleaned != rows:
        notes.append(STRIPPED)
    (_, names), *body = _without_empty_columns(cleaned)
    _check_shape(path, names, body)
    content = [[None if cell in MISSING else cell for cell in cells] for _, cells in body]
    return pd.DataFrame(content, pd.Index([line for line, _ in body], name="line"), names, dtype=object)


def read_numbers(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a table of numbers, such as confounds; NaN where a cell is missing.

    Args:
        path: see `read_table`.
        columns: the columns to read; None for all.

    Raises:
        UserError: see `read_table`; a column is missing, or a cell is no number.
    """
    table = read_table(path)
    if columns is not None:
        check_columns(path, table, columns, "make the file again")
        table = table[columns]
    numbers = table.apply(pd.to_numeric, errors="coerce").astype(float)
    stated = table.apply(lambda column: column.str.lower()) == "nan"
    if (wrong := table.notna() & numbers.isna() & ~stated).any(axis=None):
        column = wrong.columns[wrong.any()][0]
        line = wrong.index[wrong[column]][0]
        raise UserError(str(path), f"line {line}: {column}: found {table.loc[line, column]!r}, expected a number or n/a; correct it")
    return numbers.reset_index(drop=True)


def check_columns(path: Path, table: pd.DataFrame, expected: list[str], remedy: str) -> None:
    """Check that a table has all expected columns.

    Raises:
        UserError: columns are missing.
    """
    if absent := [name for name in expected if name not in table]:
        raise UserError(str(path), f"columns: found {', '.join(table.columns)}; expected also {', '.join(absent)}; {remedy}")


def _decoded(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        what = "a link without content; fetch it" if path.is_symlink() else "no such file; put it there, or correct the path"
        raise UserError(str(path), f"found {what}") from None
    except OSError as error:
        raise UserError(str(path), f"cannot be read ({error.strerror or error}); correct the path or the permissions") from None
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(
            str(path), f"encoding: found UTF-16 (it starts with the bytes {content[:2].hex(' ').upper()}), expected UTF-8; save it as UTF-8"
        )
    content = content.removeprefix(b"\xef\xbb\xbf")
    text, wrong = "", content.find(b"\0")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        wrong = wrong if wrong >= 0 else error.start
    if wrong >= 0:
        byte, line = content[wrong], content.count(b"\n", 0, wrong) + 1
        meaning = f" ({chr(byte)!r} in Latin-1)" if byte >= 0xA0 else ""
        raise UserError(
            str(path), f"encoding: line {line}: found the byte 0x{byte:02X}{meaning}, expected text in UTF-8; save the table as UTF-8"
        )
    return text


def _tsv_rows(text: str) -> Rows:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while lines and not lines[-1].strip(" "):
        lines.pop()
    several = bool(lines) and "\t" in lines[0]
    # in a table of one column, an empty line is an empty cell
    return [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip(" ") or not several]


def _csv_rows(path: Path, text: str) -> Rows:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)

    def numbered() -> Iterator[tuple[int, list[str]]]:
        first = 1
        for cells in reader:
            if cells:
                yield first, cells
            first = reader.line_num + 1

    try:
        return list(numbered())
    except csv.Error as error:
        raise UserError(str(path), f"line {reader.line_num}: not comma-separated ({error}); close the quotes, or save it again") from None


def _without_empty_columns(rows: Rows) -> Rows:
    """Drop columns at the end that have neither a name nor a cell, as a tab at the end of each line makes them."""
    while len(rows[0][1]) > 1 and not rows[0][1][-1] and all(len(cells) == len(rows[0][1]) and not cells[-1] for _, cells in rows):
        rows = [(line, cells[:-1]) for line, cells in rows]
    return rows


def _check_shape(path: Path, names: list[str], body: Rows) -> None:
    if "" in names:
        raise UserError(str(path), f"line 1: found no name for column {names.index('') + 1}, expected one; name it, or remove the column")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        places = ", ".join(str(i) for i, name in enumerate(names, 1) if name == repeated[0])
        raise UserError(
            str(path), f"line 1: found the column {repeated[0]} more than once (columns {places}), expected it once; rename or remove one"
        )
    if ragged := [(line, len(cells)) for line, cells in body if len(cells) != len(names)]:
        line, found = ragged[0]
        others = f", and other numbers in line(s) {', '.join(str(n) for n, _ in ragged[1:6])}" if len(ragged) > 1 else ""
        raise UserError(
            str(path),
            f"line {line}: found {found} cells{others}, expected {len(names)} as in the header; repair the line(s), with n/a for unknown",
        )
