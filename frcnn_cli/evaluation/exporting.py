"""A detections file -> the result files of PASCAL VOC or COCO."""

from __future__ import annotations

import glob
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
            f"{folder} holds results of a class that {file.path} does not know ({others[0]})",
            "Remove that file, or name another folder",
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
        images: COCO's ID of each image, by key. categories: COCO's ID of each class. Both are counted from 1
            by default.

    Raises:
        UsageError: the output is not a .json. FrcnnError: the system refuses to write.
    """
    if output.suffix.lower() != ".json":
        raise UsageError(f"-o {output}: COCO results are a .json file", "Name a .json file")
    images = images or {image.key: number for number, image in enumerate(file.images, 1)}
    results = coco_results(_detections(file), images, categories)
    write_atomic(output, json.dumps(results).encode())
    return file.row_count


def _detections(file: StageFile) -> dict[str, Detections]:
    return {
        image.key: Detections(arrays["boxes"], arrays["scores"], arrays["labels"], file.classes)
        for image, arrays in file
    }
