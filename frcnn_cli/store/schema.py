"""The content of each kind of file.

Every file has root attributes (`format`, `format_version`, `tool_version`, `provenance` as JSON), the table `images/`
(key, height, width, digest, orientation; sorted by key), `checksums/` (see `checksums`), and ragged columns: the rows
of all images end to end, those of image i at `offsets[i]:offsets[i+1]`. There may also be columns with one row per
image.

Glossary: N images; T rows of all images together; K classes; C channels; S pooling grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Major: refused when newer; minor: columns added that older readers may ignore. 1 had no checksums.
FORMAT_VERSION = (2, 2)
MAX_PROVENANCE = 1 << 20  # bytes
IMAGE_COLUMNS = {"key": "S", "height": "int32", "width": "int32", "digest": "S", "orientation": "uint8"}


@dataclass(frozen=True)
class Column:
    """The allowed dtypes of a column and the shape of one row, or alternative shapes; -1: any length (K, C)."""

    dtypes: tuple[str, ...]
    row_shape: tuple[int, ...] = ()
    optional: bool = False
    or_shapes: tuple[tuple[int, ...], ...] = ()

    def accepts(self, array: NDArray[np.generic]) -> bool:
        """Whether an array of rows has the dtype and row shape of this column."""
        return str(array.dtype) in self.dtypes and self.accepts_shape(array.shape)

    def accepts_shape(self, shape: tuple[int, ...]) -> bool:
        return any(
            len(shape) == len(wanted) + 1 and all(w in (-1, have) for w, have in zip(wanted, shape[1:], strict=True))
            for wanted in (self.row_shape, *self.or_shapes)
        )


@dataclass(frozen=True)
class Format:
    """One kind of file.

    ragged: columns that share `offsets`. per_image: columns with one row per image.
    provenance: the keys that the provenance must have.
    wide: the ragged column that makes up most of the file, if there is one; it is written only once.
    """

    name: str
    ragged: Mapping[str, Column]
    per_image: Mapping[str, Column]
    provenance: tuple[str, ...]
    wide: str | None = None

    @property
    def columns(self) -> dict[str, Column]:
        return {**self.ragged, **self.per_image}


_FLOATS = ("float16", "float32")

PROPOSALS = Format(
    "proposals",
    ragged={"boxes": Column(("float32",), (4,)), "scores": Column(("float32",), optional=True)},
    per_image={},
    provenance=("source", "max_boxes", "min_size"),
)
FEATURES = Format(
    "features",
    ragged={
        # Cells of the conv map, row by row, channels last. int8: coded (features.coding), since 2.2.
        "maps": Column(("int8", *_FLOATS), (-1,)),
        "mirrored": Column(("int8", *_FLOATS), (-1,), optional=True),  # the map of the mirrored image, for training
    },
    per_image={
        # An image at S scales, or with a pyramid of L levels, has several maps, stored end to end: [S * L, 2], and
        # [S], or [S, 2] where scales differ along x and y.
        "map_size": Column(("int32",), (2,), or_shapes=((-1, 2),)),  # height, width in cells
        "scale": Column(("float64",), or_shapes=((-1,), (-1, 2))),  # resized pixels per original pixel
        "steps": Column(("float32",), (-1,), optional=True),  # of coded maps: the difference of neighbouring values
        "mirrored_steps": Column(("float32",), (-1,), optional=True),
    },
    provenance=("features_id", "dtype"),
    wide="maps",
)
SCORES = Format(
    "scores",
    ragged={
        "probabilities": Column(("float32",), (-1,)),  # [T, K+1], background first
        "boxes": Column(("float32",), (-1, 4)),  # [T, K, 4], refined per class, clipped to the image
    },
    per_image={},
    provenance=("classes",),
    wide="boxes",
)
DETECTIONS = Format(
    "detections",
    ragged={
        "boxes": Column(("float32",), (4,)),
        "scores": Column(("float32",)),
        "labels": Column(("int32",)),  # 0 .. K-1 into provenance["classes"]
        "proposals": Column(("int32",), optional=True),  # index of the proposal that was refined; since 2.1
    },
    per_image={},
    provenance=("classes",),
)
VECTORS = Format(
    "vectors",
    ragged={
        "vectors": Column(_FLOATS, (-1,)),
        "boxes": Column(("float32",), (4,)),
        "labels": Column(("int32",), optional=True),  # the most probable class, 0 .. K-1 into provenance["classes"]
        "scores": Column(("float32",), optional=True),  # its probability
        "proposals": Column(("int32",), optional=True),  # index of the proposal, for boxes that were detected
    },
    per_image={},
    provenance=("classes",),
    wide="vectors",
)
FORMATS = {fmt.name: fmt for fmt in (PROPOSALS, FEATURES, SCORES, DETECTIONS, VECTORS)}
