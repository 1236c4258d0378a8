"""Labels that a detector contradicts, as pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from frcnn_cli.core.decoding import read_image
from frcnn_cli.core.drawing import draw_boxes
from frcnn_cli.core.files import save_image
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.data.contradictions import Contradiction
from frcnn_cli.system.folders import new_folder

_LABEL, _DETECTION = (250, 200, 40), (235, 60, 60)


def draw_contradictions(
    found: Sequence[Contradiction], images: Mapping[str, Path], folder: Path, progress: Progress = SILENT
) -> None:
    """Writes a picture per contradiction, numbered in their order: the label in yellow, the detection in red.

    Args:
        images: the file of each image, by key.

    Raises:
        ImageError: an image cannot be read. FrcnnError: the folder is not empty, or the system refuses to write.
    """
    digits = len(str(len(found)))
    with new_folder(folder) as target, progress.task("pictures", len(found)) as bar:
        for number, one in enumerate(found, 1):
            boxes, texts, colours = [], [], []
            if one.detected_box is not None:
                boxes.append(one.detected_box)
                texts.append(f"{one.detected} {one.confidence:.2f}")
                colours.append(_DETECTION)
            if one.label_box is not None:
                boxes.append(one.label_box)
                texts.append(f"labelled {one.label}")
                colours.append(_LABEL)
            pixels = draw_boxes(read_image(images[one.key]).pixels, np.array(boxes, np.float32), texts, colours)
            name = re.sub(r"[^\w.-]+", "-", Path(one.key).stem)[:80]
            save_image(pixels, target / f"{number:0{digits}d}-{one.kind.replace(' ', '-')}-{name}.jpg")
            bar.advance()
