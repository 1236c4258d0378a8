"""Vectors as NumPy files: one .npz per image (x, bbox, num_bbox, image_h, image_w, as bottom-up-attention.pytorch
writes them), or the three folders of ImageCaptioning.pytorch (NAME_att, NAME_fc and NAME_box)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.errors import FileFormatError
from frcnn_cli.core.files import files_below, replacing
from frcnn_cli.detections.vectors.box_vectors import BoxVectors, checked_key, file_name_of
from frcnn_cli.system.npz import NpzFile, check_npy


def write_npz(images: Iterable[BoxVectors], folder: Path) -> int:
    """Writes FOLDER/KEY.npz per image; returns the number of images. Raises FrcnnError if the system refuses."""
    count = 0
    for image in images:
        arrays = {"x": image.vectors, "bbox": image.boxes, "num_bbox": np.array(len(image))}
        arrays |= {"image_h": np.array(image.height), "image_w": np.array(image.width)}
        if image.labels is not None and image.scores is not None:
            arrays |= {"objects_id": image.labels, "objects_conf": image.scores}
        with replacing(folder / f"{file_name_of(image.key)}.npz") as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        count += 1
    return count


def read_npz(folder: Path) -> Iterator[BoxVectors]:
    """The images of a folder of .npz files. Raises FileFormatError for a file that is not one of these."""
    for path in files_below(folder, ".npz"):
        with NpzFile(path) as file:
            sides = [_side(file, name) for name in ("image_h", "image_w")]
            more: dict[str, NDArray[Any]] = {}
            if {"objects_id", "objects_conf"} <= set(file.names):
                labels, scores = file.numbers("objects_id", 1), file.numbers("objects_conf", 1)
                more = {"labels": labels.astype(np.int64), "scores": scores.astype(np.float32)}
            yield _made(path, folder, sides, file.numbers("bbox", 2), file.numbers("x", 2), more)


def write_folders(images: Iterable[BoxVectors], base: Path) -> int:
    """Writes BASE_att/KEY.npz (feat: the vectors), BASE_fc/KEY.npy (their mean) and BASE_box/KEY.npy (the boxes);
    returns the number of images. Raises FrcnnError if the system refuses."""
    count = 0
    for image in images:
        mean = (
            image.vectors.astype(np.float32).mean(axis=0)
            if len(image)
            else np.zeros(image.vectors.shape[1], np.float32)
        )
        with replacing(_part(base, "att", file_name_of(image.key), "npz")) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, feat=image.vectors)
        for name, values in (("fc", mean), ("box", image.boxes)):
            with (
                replacing(_part(base, name, file_name_of(image.key), "npy")) as temporary,
                open(temporary, "wb") as file,
            ):
                np.save(file, values)
        count += 1
    return count


def read_folders(base: Path) -> Iterator[BoxVectors]:
    """The images of BASE_att and BASE_box, whose sizes are unknown (0). Raises FileFormatError for other files."""
    folder = base.with_name(base.name + "_att")
    for path in files_below(folder, ".npz"):
        with NpzFile(path) as file:
            vectors = file.numbers("feat", 2)
        key = path.relative_to(folder).with_suffix("").as_posix()
        boxes_path = _part(base, "box", key, "npy")
        check_npy(boxes_path)
        boxes = np.load(boxes_path, allow_pickle=False)
        if boxes.dtype.kind not in "iuf":
            raise FileFormatError(f"{boxes_path} holds {boxes.dtype}, not numbers", "Check the format")
        yield _made(path, folder, [0, 0], boxes, vectors, {})


def _part(base: Path, name: str, key: str, ending: str) -> Path:
    return base.with_name(f"{base.name}_{name}") / f"{key}.{ending}"


def _side(file: NpzFile, name: str) -> int:
    """A side of the image in pixels; 0 if it is not stated."""
    if name not in file.names:
        return 0
    value = file.read(name)
    return int(value.reshape(())) if value.size == 1 and value.dtype.kind in "iu" else 0


def _made(
    path: Path,
    folder: Path,
    sides: list[int],
    boxes: NDArray[Any],
    vectors: NDArray[Any],
    more: dict[str, NDArray[Any]],
) -> BoxVectors:
    key = checked_key(path.relative_to(folder).with_suffix("").as_posix(), path)
    try:
        kind = np.float16 if vectors.dtype == np.float16 else np.float32
        made = BoxVectors(key, sides[0], sides[1], boxes.astype(np.float32), vectors.astype(kind), **more)
    except (ValueError, TypeError) as error:
        raise FileFormatError(f"{path} does not hold boxes and their vectors ({error})", "Check the format") from None
    if not (np.isfinite(made.vectors).all() and np.isfinite(made.boxes).all()):
        raise FileFormatError(f"{path} holds NaN or infinity", "Compute the vectors again")
    return made
