"""The file of a stage as a Parquet table, for programs that do not read HDF5: one row per image, with list columns.

Columns: key, height, width, digest, orientation; those of the stage's file, as lists of numbers or of rows; for
detections and vectors also `names`, the classes of `labels`. The metadata entry `frcnn` holds format and provenance.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.errors import FileFormatError, FrcnnError, UsageError
from frcnn_cli.core.files import check_regular, replacing
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.store.reader import StageFile
from frcnn_cli.store.schema import FORMATS, IMAGE_COLUMNS, Format

_METADATA = b"frcnn"
_NAMES = "names"
_GROUP = 32 << 20  # bytes per row group, which readers hold in memory
_WRITTEN = ("proposals", "detections", "vectors")

Arrays = dict[str, NDArray[Any]]


def export_parquet(file: StageFile, output: Path, progress: Progress = SILENT) -> int:
    """Writes an open file of proposals, detections or vectors as a table; returns the number of rows of all images.

    Raises:
        UsageError: another kind of file, or another ending than .parquet. FrcnnError: pyarrow is missing, or the system
            refuses to write.
    """
    if file.format.name not in _WRITTEN:
        raise UsageError(f"{file.path} holds {file.format.name}", f"Name a file of {', '.join(_WRITTEN)}")
    if output.suffix.lower() != ".parquet":
        raise UsageError(f"-o {output}: files of the format parquet end in .parquet", "Name a .parquet file")
    _, parquet = _pyarrow()
    schema = _schema(file)
    with (
        replacing(output) as temporary,
        parquet.ParquetWriter(temporary, schema) as writer,
        progress.task("export", len(file)) as bar,
    ):
        for group in _groups(file):
            writer.write_table(_table(group, schema, file.classes))
            bar.advance(len(group))
        if not len(file):
            writer.write_table(schema.empty_table())
    return file.row_count


def read_parquet(path: str | Path) -> tuple[Format, dict[str, Any], Iterator[tuple[ImageRecord, Arrays]]]:
    """What a table that `export_parquet` wrote holds: the kind of its file, how that was made, and each image with its
    arrays.

        _, provenance, images = read_parquet("dets.parquet")
        for image, arrays in images:
            print(image.key, arrays["boxes"].shape)

    Raises:
        FileFormatError: another table. FrcnnError: pyarrow is missing.
    """
    _, parquet = _pyarrow()
    path = check_regular(Path(path), FileFormatError)
    wrong = FileFormatError(f"{path} is not a table that frcnn export wrote", "Export it again")
    try:
        file = parquet.ParquetFile(path)
        described = json.loads((file.schema_arrow.metadata or {})[_METADATA])
        fmt, provenance = FORMATS[described["format"]], dict(described["provenance"])
    except FileNotFoundError:
        raise FileFormatError(f"{path} does not exist", "Check the path") from None
    except Exception as error:  # pyarrow's own errors, of which there are many, and a table of something else
        raise wrong from error
    there = set(file.schema_arrow.names)
    required = [name for name, column in fmt.ragged.items() if not column.optional]
    if lacking := [name for name in (*IMAGE_COLUMNS, *required) if name not in there]:
        raise FileFormatError(f"{path} has no column {lacking[0]}", "Export it again")
    names = [name for name in fmt.ragged if name in there]

    def images() -> Iterator[tuple[ImageRecord, Arrays]]:
        try:
            for n in range(file.num_row_groups):
                table = file.read_row_group(n)
                for i in range(table.num_rows):
                    record = ImageRecord(**{name: table.column(name)[i].as_py() for name in IMAGE_COLUMNS})
                    yield record, {name: _array(table.column(name)[i].values) for name in names}
        except Exception as error:
            raise FileFormatError(
                f"{path} is damaged ({' '.join(str(error).split())[:200]})", "Export it again"
            ) from error

    return fmt, provenance, images()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise FrcnnError(
            f"Parquet needs the package pyarrow ({error})", "Install it: pip install 'frcnn-cli[parquet]'"
        ) from None
    return pyarrow, parquet


def _schema(file: StageFile) -> Any:
    arrow, _ = _pyarrow()
    fields = [arrow.field(name, arrow.string() if kind == "S" else kind) for name, kind in IMAGE_COLUMNS.items()]
    for name, (dtype, shape) in file.column_shapes.items():
        if name not in file.format.ragged:
            continue
        kind = arrow.from_numpy_dtype(np.dtype(dtype))
        for length in reversed(shape[1:]):
            kind = arrow.list_(kind, length)
        fields.append(arrow.field(name, arrow.list_(kind)))
    if file.classes and "labels" in file.column_shapes:
        fields.append(arrow.field(_NAMES, arrow.list_(arrow.string())))
    described = json.dumps({"format": file.format.name, "provenance": file.provenance})
    return arrow.schema(fields, {_METADATA: described.encode()})


def _groups(file: StageFile) -> Iterator[list[tuple[ImageRecord, Arrays]]]:
    """Images of about `_GROUP` bytes together."""
    group: list[tuple[ImageRecord, Arrays]] = []
    size = 0
    for record, arrays in file:
        group.append((record, arrays))
        size += sum(array.nbytes for array in arrays.values())
        if size > _GROUP or len(group) >= 10_000:
            yield group
            group, size = [], 0
    if group:
        yield group


def _table(group: list[tuple[ImageRecord, Arrays]], schema: Any, classes: tuple[str, ...]) -> Any:
    arrow, _ = _pyarrow()
    columns = []
    for field in schema:
        if field.name in IMAGE_COLUMNS:
            columns.append(arrow.array([getattr(record, field.name) for record, _ in group], field.type))
            continue
        arrays = [arrays["labels" if field.name == _NAMES else field.name] for _, arrays in group]
        offsets = np.concatenate([[0], np.cumsum([len(array) for array in arrays])]).astype(np.int32)
        flat = np.concatenate(arrays)
        if field.name == _NAMES:
            values = arrow.array([classes[label] for label in flat.tolist()], arrow.string())
        else:
            values = arrow.array(flat.reshape(-1))
            for length in reversed(flat.shape[1:]):
                values = arrow.FixedSizeListArray.from_arrays(values, length)
        columns.append(arrow.ListArray.from_arrays(offsets, values))
    return arrow.table(columns, schema=schema)


def _array(values: Any) -> NDArray[Any]:
    """A list column's rows of one image as an array."""
    shape = [len(values)]
    while hasattr(values.type, "list_size"):
        shape.append(values.type.list_size)
        values = values.flatten()
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)
