"""The checksums of a stage's file, which make damage visible that HDF5 does not notice.

For each column, `checksums/COLUMN` holds a CRC-32 per image (of its rows, or of its value). The attribute
`description_checksum` covers everything else: the other attributes, the tables, the types and shapes of the columns,
and the checksums themselves.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from frcnn_cli.core.checksum import checksum

GROUP = "checksums"
DESCRIPTION = "description_checksum"


def of_description(
    attributes: Mapping[str, str],
    tables: Mapping[str, NDArray[Any]],
    columns: Mapping[str, tuple[str, tuple[int, ...]]],
) -> int:
    """The checksum of everything except the columns.

    Args:
        attributes: the text attributes of the file.
        tables: the other arrays by path: images/*, offsets and checksums/*.
        columns: dtype and shape of each column.
    """
    total = 0
    for name, text in sorted(attributes.items()):
        total = zlib.crc32(f"{name}={text}\n".encode(), total)
    for name, array in sorted(tables.items()):
        total = zlib.crc32(f"{name} {array.dtype} {array.shape} {checksum(array)}\n".encode(), total)
    for name, (dtype, shape) in sorted(columns.items()):
        total = zlib.crc32(f"{name} {dtype} {shape}\n".encode(), total)
    return total
