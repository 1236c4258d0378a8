"""Images in a column of a Parquet table: encoded content, paths or URLs."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from frcnn_cli.core.errors import DataError, FrcnnError, ImageError
from frcnn_cli.core.files import check_regular
from frcnn_cli.core.storage.patterns import files_of, names_files
from frcnn_cli.core.storage.url import Url, file_system, is_url, readable

PREFIX = "parquet:"
_MAX_GROUP = 2 << 30  # bytes of one column in a row group, which is read as a whole
_USUAL = ("image", "bytes", "jpg", "png", "path", "file_name", "url")  # columns to look for, in this order
_KEYS = ("key", "__key__", "id", "file_name", "path")  # columns that name an image


@dataclass(frozen=True, order=True)
class Cell:
    """The content of an image in a column of bytes, or of Hugging Face's records of bytes and path; `leaf` is then
    "image.bytes"."""

    table: str
    column: str
    leaf: str
    group: int
    row: int  # of the row group
    name: str

    def __str__(self) -> str:
        return f"{self.table}, column {self.column}, row {self.row} of row group {self.group}"

    def read_bytes(self) -> bytes:
        """The content. Raises ImageError: it cannot be read."""
        value = _GROUPS.column(self.table, self.column, self.leaf, self.group)[self.row].as_py()
        if isinstance(value, dict):
            value = value.get("bytes")
        if not isinstance(value, bytes):
            raise ImageError(f"{self} is empty", "Fill it, or remove the row")
        return value

    def absolute(self) -> Self:
        table = self.table if is_url(self.table) else os.path.abspath(self.table)
        return replace(self, table=table)

    def exists(self) -> bool:
        return is_url(self.table) or Path(self.table).exists()


class _Groups:
    """The last row groups that were read, for all threads."""

    def __init__(self, most: int = 2) -> None:
        self.most = most
        self.lock = threading.Lock()
        self.kept: OrderedDict[tuple[str, str, int], Any] = OrderedDict()

    def column(self, table: str, column: str, leaf: str, group: int) -> Any:
        wanted = table, column, group
        with self.lock:
            if wanted not in self.kept:
                while len(self.kept) >= self.most:
                    self.kept.popitem(last=False)
                # As a dictionary, because a small file may repeat a large value any number of times.
                with _opened(table, ImageError, [leaf]) as file:
                    self.kept[wanted] = file.read_row_group(group, [column]).column(0)
            self.kept.move_to_end(wanted)
            return self.kept[wanted]


_GROUPS = _Groups()


def is_parquet(argument: str) -> bool:
    """Whether an argument names a table: `parquet:FILE`, `parquet:FILE#COLUMN`, or a file, pattern or URL that ends in
    .parquet, perhaps with #COLUMN."""
    table = argument.partition("#")[0]
    return argument.startswith(PREFIX) or (table.endswith(".parquet") and names_files(table))


def cells(argument: str) -> Iterator[tuple[str, Cell | Url | Path]]:
    """Key and location of every image of tables, in the order of their rows.

    The key is that of a column named key, __key__, id, file_name or path; for paths, the path itself; else the name of
    the table and the number of the row.

    Args:
        argument: a pattern with {000..099}, {a,b} or *, with or without `parquet:` before it and #COLUMN behind it.

    Raises:
        DataError: a table or the column cannot be read, or does not hold images.
    """
    pattern, mark, column = argument.removeprefix(PREFIX).partition("#")
    for table in files_of(pattern):
        yield from _cells(table, column if mark else None)


def _cells(table: str, wanted: str | None) -> Iterator[tuple[str, Cell | Url | Path]]:
    with _opened(table, DataError) as file:
        schema = file.schema_arrow
        column = _column(table, schema, wanted)
        kind = schema.field(column).type
        names = _names(file, schema, column)
        if not file.metadata.num_rows:
            raise DataError(f"{table} has no rows", "Name a table with images")
        if _is_text(kind):
            yield from _paths(table, column, file, names)
            return
        if not _holds_bytes(kind):
            raise DataError(f"{table}: column {column} is {kind}, not bytes or paths", "Name another column after #")
        stem = PurePosixPath(table).name.removesuffix(".parquet")
        leaf = f"{column}.bytes" if _is_record(kind) else column
        at = 0
        for group in range(file.num_row_groups):
            _check_size(table, file.metadata.row_group(group), column)
            for row in range(file.metadata.row_group(group).num_rows):
                key = names[at] if names is not None else f"{stem}/{at:08d}"
                yield key, Cell(table, column, leaf, group, row, PurePosixPath(key).name)
                at += 1


def _paths(table: str, column: str, file: Any, names: list[str] | None) -> Iterator[tuple[str, Url | Path]]:
    values = file.read([column]).column(0).to_pylist()
    for row, value in enumerate(values):
        if not value:
            raise DataError(f"{table}: row {row} of column {column} is empty", "Fill it, or remove the row")
        where = Url(value) if is_url(value) else Path(table).parent / value
        yield (names[row] if names is not None else value), where


def _column(table: str, schema: Any, wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in schema.names:
            raise DataError(f"{table} has no column {wanted}", f"Its columns are {', '.join(schema.names)}")
        return wanted
    for name in _USUAL:
        if name in schema.names:
            return name
    raise DataError(
        f"{table} has no column named {', '.join(_USUAL[:-1])} or {_USUAL[-1]}",
        f"Name one of {', '.join(schema.names)}: parquet:{table}#COLUMN",
    )


def _names(file: Any, schema: Any, column: str) -> list[str] | None:
    """The keys of the rows, if a column or the images' own paths name each row differently."""
    kind = schema.field(column).type
    inside = [f"{column}.path"] if not _is_text(kind) and _has_path(kind) else []
    for name in [*(name for name in _KEYS if name in schema.names and name != column), *inside]:
        read = file.read([name]).column(0)
        found = read.to_pylist()
        if name in inside:
            found = [None if value is None else value.get("path") for value in found]
        texts = [str(value) for value in found if value is not None and value != ""]
        if len(set(texts)) == len(found):
            return texts
    return None


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_record(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_struct(kind))


def _holds_bytes(kind: Any) -> bool:
    if _is_record(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return _is_bytes(kind)


def _has_path(kind: Any) -> bool:
    return _is_record(kind) and any(field.name == "path" and _is_text(field.type) for field in kind)


def _check_size(table: str, group: Any, column: str) -> None:
    columns = (group.column(i) for i in range(group.num_columns))
    of_column = [c for c in columns if c.path_in_schema == column or c.path_in_schema.startswith(f"{column}.")]
    size = sum(c.total_uncompressed_size for c in of_column)
    if size > _MAX_GROUP:
        raise DataError(
            f"{table}: a row group of column {column} takes {size / 1e9:,.1f} GB", "Write it with smaller row groups"
        )


@contextmanager
def _opened(table: str, error_type: type[FrcnnError], as_dictionary: list[str] | None = None) -> Iterator[Any]:
    """An open table; whatever pyarrow reports becomes one error."""
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise FrcnnError(
            f"Parquet needs the package pyarrow ({error})", "Install it: pip install 'frcnn-cli[parquet]'"
        ) from None
    with readable(table, error_type), _raw(table, error_type) as raw:
        yield parquet.ParquetFile(raw, read_dictionary=as_dictionary)


def _raw(table: str, error_type: type[FrcnnError]) -> IO[bytes]:
    if is_url(table):
        opened: IO[bytes] = file_system(table).open(table, "rb")
        return opened
    return open(check_regular(Path(table), error_type), "rb")
