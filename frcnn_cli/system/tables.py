"""Tables of text from untrusted files: lines of cells, separated by commas, semicolons or tabs."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from frcnn_cli.core.errors import FileFormatError, FrcnnError, explain_os_error
from frcnn_cli.core.files import check_regular, text_encoding

MAX_BYTES = 4 << 30  # read line by line
_MAX_HEADER = 1 << 20  # characters


class TableError(ValueError):
    """What is wrong with a line, and how to fix it; `open_table` adds the file and the line."""

    def __init__(self, what: str, fix: str = "Correct the line") -> None:
        super().__init__(what)
        self.fix = fix


@dataclass
class Table:
    """An open table.

    first: the cells of the first line that is not empty. lines: the others, with their line numbers, from 1. line: the
    number of the line that is being read. separator: between cells.
    """

    path: Path
    error_type: type[FrcnnError]
    first: Sequence[str]
    lines: Iterator[Sequence[str]]
    separator: str
    line: int = 1

    @property
    def header(self) -> list[str]:
        """The first line as names of columns: in small letters, with underscores for blanks (`X Max` is `x_max`)."""
        return ["_".join(name.lower().split()) for name in self.first]

    @contextmanager
    def naming_line(self) -> Iterator[None]:
        """Turns a TableError of the block into an error that names the file and the line."""
        try:
            yield
        except TableError as error:
            raise self.error_type(f"{self.path} line {self.line}: {error}", error.fix) from None

    def number(self, text: str) -> float:
        """A number; if semicolons separate the cells, it may have a decimal comma. Raises TableError."""
        written = text.strip().replace(",", ".") if self.separator == ";" else text.strip()
        try:
            return float(written)
        except ValueError:
            what = repr(text.strip()) if text.strip() else "an empty cell"
            raise TableError(f"{what} is not a number") from None


@contextmanager
def open_table(path: Path, error_type: type[FrcnnError] = FileFormatError) -> Iterator[Table]:
    """Opens a table for reading line by line; UTF-8, or UTF-16 with its byte order mark.

    Raises:
        FrcnnError (`error_type`): it cannot be read, is not text, is empty, or the block raises a TableError; the
            message names the line.
    """
    table = None
    fix = "Write a table with one object per line"
    try:
        if check_regular(path, error_type).stat().st_size > MAX_BYTES:
            raise error_type(f"{path} is larger than {MAX_BYTES >> 30} GB", "Split it into several files")
        with open(path, newline="", encoding=text_encoding(path)) as file:
            first = file.readline(_MAX_HEADER)
            while first and not first.strip():
                first = file.readline(_MAX_HEADER)
            separator = max(",;\t", key=first.count)
            cells = next(csv.reader([first], delimiter=separator), [])
            if not cells:
                raise error_type(f"{path} is empty", fix)
            reader = csv.reader(file, delimiter=separator)
            table = Table(path, error_type, cells, iter(()), separator)
            table.lines = _lines(reader, table)
            with table.naming_line():
                yield table
    except OSError as error:
        raise explain_os_error(error, path) from None
    except UnicodeError:
        raise error_type(f"{path} is not UTF-8 text", "Save it as UTF-8") from None
    except csv.Error as error:
        raise error_type(f"{path} line {table.line if table else 1}: {error}", "Correct the line") from None


def _lines(reader: Iterator[list[str]], table: Table) -> Iterator[Sequence[str]]:
    end = 1
    while True:
        table.line = end + 1
        cells = next(reader, None)
        if cells is None:
            return
        table.line, end = end + 1, reader.line_num + 1  # type: ignore[attr-defined]
        if any(cell.strip() for cell in cells):
            yield cells
