"""A detections file -> the result files of PASCAL VOC or COCO."""

from __future__ import annotations

import csv
import glob
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from frcnn_cli.core.annotations import Detections
from frcnn_cli.core.errors import FrcnnError, UsageError, explain_os_error
from frcnn_cli.core.files import write_atomic
from frcnn_cli.core.ids import CocoId
from frcnn_cli.evaluation.results import coco_results, voc_lines
from frcnn_cli.store.reader import StageFile
from frcnn_cli.system.folders import temporary_folder


def export_voc_results(file: StageFile, folder: Path, split: str = "test") -> int:
    """Writes one file per class, named as the devkit names them; returns the number of detections.

    Args:
        split: the name of the split in the file names.

    Raises:
        FrcnnError: the folder is a file, a class name cannot be part of a file name, or the system refuses to write.
    """
    if folder.is_file():
        raise FrcnnError(f"{folder} is a file", "Name a folder: VOC's results are one file per class")
    for name in file.classes:
        if not name.strip() or set(name) & set("/\\\0"):
            raise FrcnnError(f"the class {name!r} cannot be part of a file name", "Use --format coco")
    texts = {f"comp4_det_{split}_{name}.txt": text for name, text in voc_lines(_detections(file), file.classes).items()}
    others = sorted(
        path.name for path in folder.glob(f"comp4_det_{glob.escape(split)}_*.txt") if path.name not in texts
    )
    if others:
        raise FrcnnError(
            f"{folder / others[0]} holds results of a class that {file.path} lacks",
            f"Remove {others[0]}, or name another folder",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder) as temporary:
            for name, text in texts.items():
                (temporary / name).write_bytes(text.encode())
            # The old files are removed first: a class without a file is noticed later, a mixture is not.
            for name in texts:
                (folder / name).unlink(missing_ok=True)
            for name in texts:
                (temporary / name).replace(folder / name)
    except OSError as error:
        raise explain_os_error(error, folder) from None
    return file.row_count


def export_coco_results(
    file: StageFile,
    output: Path,
    images: Mapping[str, CocoId] | None = None,
    categories: Sequence[CocoId] | None = None,
) -> int:
    """Writes a list of COCO results; returns the number of detections.

    Args:
        images: COCO's ID of each image, by key. By default, they are counted from 1, and each result also states its
            `file_name`.
        categories: COCO's ID of each class; by default counted from 1.

    Raises:
        UsageError: the output is not a .json. FrcnnError: the system refuses to write.
    """
    if output.suffix.lower() != ".json":
        raise UsageError(f"-o {output}: COCO results are a .json file", "Name a .json file")
    numbers = images or {image.key: number for number, image in enumerate(file.images, 1)}
    results = coco_results(_detections(file), numbers, categories)
    if images is None:
        names = {number: key for key, number in numbers.items()}
        results = [{"file_name": names[result["image_id"]], **result} for result in results]
    write_atomic(output, json.dumps(results).encode())
    return file.row_count


def export_csv(file: StageFile, output: Path) -> int:
    """Writes a table of image, left, top, right, bottom, class and score, in our own convention (`core.boxes`); an
    image without detections has a line without a box. Returns the number of detections.

    Raises:
        UsageError: the output is not a .csv. FrcnnError: the system refuses to write.
    """
    if output.suffix.lower() != ".csv":
        raise UsageError(f"-o {output}: a table is a .csv file", "Name a .csv file")
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["image", "left", "top", "right", "bottom", "class", "score"])
    for key, found in _detections(file).items():
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels, strict=True):
            lines.writerow([key, *box, file.classes[label], score])
        if not len(found):
            lines.writerow([key, "", "", "", "", "", ""])
    write_atomic(output, text.getvalue().encode())
    return file.row_count


def _detections(file: StageFile) -> dict[str, Detections]:
    return {
        image.key: Detections(arrays["boxes"], arrays["scores"], arrays["labels"], file.classes)
        for image, arrays in file
    }
