"""Vectors as NumPy files: one .npz per image (x, bbox, num_bbox, image_h, image_w, as bottom-up-attention.pytorch
writes them), or the three folders of ImageCaptioning.pytorch (NAME_att, NAME_fc and NAME_box)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.errors import FileFormatError, explain_os_error
from frcnn_cli.core.files import check_regular, files_below, replacing
from frcnn_cli.detections.vectors.box_vectors import BoxVectors, checked_key

_LARGEST = 1 << 31  # bytes of an array in an untrusted file


def write_npz(images: Iterable[BoxVectors], folder: Path) -> int:
    """Writes FOLDER/KEY.npz per image; returns the number of images. Raises FrcnnError if the system refuses."""
    count = 0
    for image in images:
        arrays = {"x": image.vectors, "bbox": image.boxes, "num_bbox": np.array(len(image))}
        arrays |= {"image_h": np.array(image.height), "image_w": np.array(image.width)}
        if len(image.labels):
            arrays |= {"objects_id": image.labels, "objects_conf": image.scores}
        with replacing(folder / f"{image.key}.npz") as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        count += 1
    return count


def read_npz(folder: Path) -> Iterator[BoxVectors]:
    """The images of a folder of .npz files. Raises FileFormatError for a file that is not one of these."""
    for path in files_below(folder, ".npz"):
        arrays = _loaded(path, ("x", "bbox"), ("image_h", "image_w", "objects_id", "objects_conf"))
        sides = [_side(arrays.get(name)) for name in ("image_h", "image_w")]
        more: dict[str, NDArray[Any]] = {}
        if "objects_id" in arrays and "objects_conf" in arrays:
            labels, scores = arrays["objects_id"], arrays["objects_conf"]
            more = {"labels": labels.astype(np.int64), "scores": scores.astype(np.float32)}
        yield _made(path, folder, sides, arrays["bbox"], arrays["x"], more)


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
        with replacing(_part(base, "att", image.key, "npz")) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, feat=image.vectors)
        for name, values in (("fc", mean), ("box", image.boxes)):
            with replacing(_part(base, name, image.key, "npy")) as temporary, open(temporary, "wb") as file:
                np.save(file, values)
        count += 1
    return count


def read_folders(base: Path) -> Iterator[BoxVectors]:
    """The images of BASE_att and BASE_box, whose sizes are unknown (0). Raises FileFormatError for other files."""
    folder = base.with_name(base.name + "_att")
    for path in files_below(folder, ".npz"):
        vectors = _loaded(path, ("feat",))["feat"]
        key = path.relative_to(folder).with_suffix("").as_posix()
        boxes = _load_npy(_part(base, "box", key, "npy"))
        yield _made(path, folder, [0, 0], boxes, vectors, {})


def _part(base: Path, name: str, key: str, ending: str) -> Path:
    return base.with_name(f"{base.name}_{name}") / f"{key}.{ending}"


def _side(value: NDArray[Any] | None) -> int:
    """A side of the image in pixels; 0 if it is not stated."""
    return int(value) if value is not None and value.size == 1 and value.dtype.kind in "iu" else 0


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


def _loaded(path: Path, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(check_regular(path, FileFormatError)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
                raise FileFormatError(f"{path} is larger than 2 GB when unpacked", "Check the format")
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in needed if name not in file]
            if missing:
                raise FileFormatError(f"{path} has no array {missing[0]!r}", "Check the format")
            return {name: file[name] for name in (*needed, *optional) if name in file}
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (ValueError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise FileFormatError(f"{path} is not a file of arrays ({error})", "Check the format") from None


def _load_npy(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(check_regular(path, FileFormatError), allow_pickle=False, mmap_mode="r")
        return np.array(found)
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (ValueError, EOFError) as error:
        raise FileFormatError(f"{path} is not an array ({error})", "Check the format") from None
