"""A proposals file -> a box file of another tool; `frcnn import` reads each of them back to the same boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from frcnn_cli.core.errors import UsageError
from frcnn_cli.core.files import write_atomic
from frcnn_cli.proposals.box_files.box_file import Items
from frcnn_cli.proposals.box_files.csv import write_csv
from frcnn_cli.proposals.box_files.json import write_coco_boxes
from frcnn_cli.proposals.box_files.matlab import write_mat
from frcnn_cli.proposals.box_files.pickles import write_detectron, write_detectron2, write_mmdet
from frcnn_cli.proposals.source import Proposals
from frcnn_cli.store.reader import StageFile

FORMATS: dict[str, tuple[str, Callable[[Items], bytes]]] = {  # file ending, writer
    "detectron": (".pkl", write_detectron),
    "detectron2": (".pkl", write_detectron2),
    "mmdet": (".pkl", write_mmdet),
    "mat": (".mat", write_mat),
    "coco": (".json", write_coco_boxes),
    "csv": (".csv", write_csv),
}


def export_boxes(file: StageFile, output: Path, form: str) -> int:
    """Writes an open proposals file in one of `FORMATS`; returns the number of boxes.

    Raises:
        UsageError: the output has another ending than files of this format. FrcnnError: the system refuses to write.
    """
    ending, write = FORMATS[form]
    if output.suffix.lower() != ending:
        raise UsageError(f"-o {output}: files of the format {form} end in {ending}", f"Name a {ending} file")
    items = [(image, Proposals(arrays["boxes"], arrays.get("scores"))) for image, arrays in file]
    write_atomic(output, write(items))
    return file.row_count
