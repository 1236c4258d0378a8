"""Classes by vectors in place of the class layer: a box belongs to the class whose vector is most similar to its own.

The vectors are means of examples, or come from a file (text vectors of CLIP, for example). Boxes are the proposals
themselves, because the box layer was trained for other classes, or not at all.

Glossary: N boxes, K classes, D numbers per vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.boxes import Boxes, best_overlap
from frcnn_cli.core.decoding import IMAGE_ENDINGS, read_ref
from frcnn_cli.core.errors import DataError, FileFormatError, UsageError
from frcnn_cli.core.files import files_in
from frcnn_cli.core.find import find_images
from frcnn_cli.core.image import Image
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.data.dataset import Dataset
from frcnn_cli.detector.class_vectors import ClassVectors
from frcnn_cli.detector.detector import Detector
from frcnn_cli.proposals.propose import propose
from frcnn_cli.proposals.source import ProposalSource
from frcnn_cli.system.npz import NpzFile

Layer = Literal["hidden", "pooled", "mean"]
BACKGROUND = ("background", "__background__")
_BACKGROUND_IOU = 0.3  # proposals with a smaller IoU with every object are examples of the background
_BACKGROUNDS = 20  # per image, spread over all ranks
_SCALE = 10.0  # of cosine similarities before softmax: 0.1 more similar is 2.7 times as probable


def read_class_vectors(path: Path) -> ClassVectors:
    """Class vectors from an .npz: `names` [K] (text), `matrix` [K, D], and optionally `bias` [K], `scale` (a number by
    which similarities are multiplied) and `normalise` (whether vectors of boxes and classes are divided by their
    length). A class named background is the background. With a bias, the default is not to normalise, as in a class
    layer; without one, it is to normalise, with a scale of 10.

    Raises:
        FileFormatError: not such a file. FrcnnError: it cannot be read.
    """
    with NpzFile(path) as file:
        unknown = sorted(set(file.names) - {"names", "matrix", "bias", "scale", "normalise"})
        if unknown:
            raise FileFormatError(f"{path} has an unknown array {unknown[0]!r}", "See docs/guide/vectors.md")
        written = file.read("names")
        matrix = file.numbers("matrix", 2).astype(np.float32)
        bias = file.numbers("bias", 1).astype(np.float32) if "bias" in file.names else None
        numbers = {name: file.numbers(name, 0) for name in ("scale", "normalise") if name in file.names}
    if written.ndim != 1 or written.dtype.kind != "U":
        raise FileFormatError(f"{path}: names is {written.dtype} {list(written.shape)}, not text", "Store names [K]")
    names = [str(name) for name in written]
    if len(matrix) != len(names) or not matrix.size:
        what = f"{path} has {len(names)} names and a matrix {list(matrix.shape)}"
        raise FileFormatError(what, "Store matrix [K, D]")
    if bias is not None and len(bias) != len(names):
        raise FileFormatError(f"{path} has a bias {list(bias.shape)} for {len(names)} classes", "Store bias [K]")
    if len(set(names)) < len(names):
        raise FileFormatError(f"{path} names a class twice", "Name each class once")
    normalise = bool(numbers["normalise"]) if "normalise" in numbers else bias is None
    scale = float(numbers["scale"]) if "scale" in numbers else (_SCALE if normalise else 1.0)
    return _made(names, matrix, bias, scale, normalise, "hidden")


def check_length(detector: Detector) -> None:
    """Refuses class vectors of another length than the detector's vectors of boxes. Raises UsageError."""
    blank = Image.from_array(np.zeros((64, 64, 3), np.uint8), "a blank image")
    maps, scales = detector.feature_map(blank, "float32")
    detector.score(maps, np.array([[0, 0, 64, 64]], np.float32), scales, 64, 64)


def class_vectors_of_crops(folder: Path, detector: Detector, layer: Layer, progress: Progress = SILENT) -> ClassVectors:
    """The mean vector of the pictures in each folder below `folder`, whose name is that of the class; every picture is
    one object. A folder "background" gives the background.

    Raises:
        DataError: there are no such folders, or one without pictures.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not any(path.name not in BACKGROUND for path in classes):
        raise DataError(f"{folder} holds no folders of classes", "Make a folder per class, with a picture per example")
    groups = []
    with progress.task("examples", len(classes), "classes") as bar:
        for path in classes:
            if not files_in(path, *IMAGE_ENDINGS):
                raise DataError(f"{path} holds no pictures", "Put a picture per example into it, or delete it")
            found = []
            for ref in find_images([str(path)]):
                image = read_ref(ref)
                whole = np.array([[0, 0, image.width, image.height]], np.float32)
                maps, scales = detector.feature_map(image, "float32")
                found.append(detector.vectors(maps, whole, scales, layer, classify=False)[0])
            groups.append(np.concatenate(found))
            bar.advance()
    return _of_examples([path.name for path in classes], groups, layer)


def class_vectors_of_dataset(
    dataset: Dataset,
    detector: Detector,
    source: ProposalSource,
    layer: Layer,
    most: int | None = None,
    progress: Progress = SILENT,
) -> ClassVectors:
    """The mean vector of the objects of each class, and of proposals beside all objects as background.

    Args:
        most: use only the first so many objects of each class; the images without any of them are not read.

    Raises:
        DataError: a class without an object.
    """
    taken: dict[int, list[NDArray[np.float32]]] = {label: [] for label in range(len(dataset.classes))}
    background: list[NDArray[np.float32]] = []
    with progress.task("examples", len(dataset.samples)) as bar:
        for sample in dataset.samples:
            truth = sample.truth
            kept = _first_objects(truth.labels, truth.crowd | truth.difficult, taken, most)
            if len(kept):
                image = read_ref(sample.ref)
                maps, scales = detector.feature_map(image, "float32")
                beside = _beside(propose(image, source, detector.limits).boxes, truth.boxes)
                boxes = np.concatenate([truth.boxes[kept], beside])
                vectors, _ = detector.vectors(maps, boxes, scales, layer, classify=False)
                for label, vector in zip(truth.labels[kept], vectors, strict=False):
                    taken[int(label)].append(vector)
                background += list(vectors[len(kept) :])
            bar.advance()
    empty = [dataset.classes[label] for label, found in taken.items() if not found]
    if empty:
        raise DataError(f"{dataset.title} has no object of the class {empty[0]!r}", "Name a split that has one")
    groups, names = [np.stack(taken[label]) for label in range(len(dataset.classes))], list(dataset.classes)
    if background:
        groups, names = [*groups, np.stack(background)], [*names, BACKGROUND[0]]
    return _of_examples(names, groups, layer)


def _of_examples(names: Sequence[str], groups: Sequence[NDArray[np.float32]], layer: str) -> ClassVectors:
    """Class vectors from the vectors [n, D] of the examples of each class. What all classes share is subtracted first:
    otherwise it makes all similarities nearly equal. (With 20 examples of each class of BCCD, mAP 0.34 instead of 0.28;
    on vectors averaged over the bins, 0.19 instead of 0.02.)"""
    centre = np.mean([group.mean(axis=0) for group in groups], axis=0) if len(groups) > 1 else 0 * groups[0][0]
    means = np.stack([_normal(group - centre).mean(axis=0) for group in groups])
    return replace(_made(names, means, None, _SCALE, True, layer), centre=centre.astype(np.float32))


def _first_objects(
    labels: NDArray[np.int64], skipped: NDArray[np.bool_], taken: dict[int, list[Any]], most: int | None
) -> list[int]:
    """The indices of objects that are examples, until each class has `most`."""
    counts = {label: len(found) for label, found in taken.items()}
    kept = []
    for i, label in enumerate(labels.tolist()):
        if not skipped[i] and (most is None or counts[label] < most):
            counts[label] += 1
            kept.append(i)
    return kept


def _beside(proposals: Boxes, objects: Boxes) -> Boxes:
    """Some of the proposals that show no object."""
    free = proposals[best_overlap(proposals, objects)[0] < _BACKGROUND_IOU]
    step = max(1, len(free) // _BACKGROUNDS)
    return free[::step][:_BACKGROUNDS]


def _normal(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    made: NDArray[np.float32] = vectors / np.maximum(lengths, 1e-12)
    return made


def _made(
    names: Sequence[str], matrix: NDArray[Any], bias: NDArray[Any] | None, scale: float, normalise: bool, layer: str
) -> ClassVectors:
    """The class vectors, that of the background first; if no name is the background, its vector is zeros."""
    behind = [i for i, name in enumerate(names) if name in BACKGROUND]
    if len(behind) > 1 or len(names) == len(behind):
        raise UsageError("class vectors need at least one class, and at most one background", "Name the classes")
    order = [*behind, *(i for i in range(len(names)) if i not in behind)]
    offsets = np.zeros(len(names), np.float32) if bias is None else np.asarray(bias, np.float32)
    rows, offsets = matrix[order].astype(np.float32), offsets[order]
    if normalise:
        rows = _normal(rows)
    if not behind:
        rows = np.concatenate([np.zeros((1, matrix.shape[1]), np.float32), rows])
        offsets = np.concatenate([np.zeros(1, np.float32), offsets])
    classes = tuple(name for name in names if name not in BACKGROUND)
    return ClassVectors(classes, rows, offsets, scale, normalise, layer)
