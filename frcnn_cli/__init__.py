"""Fast R-CNN as a toolkit of stages. What the commands do, these do with arrays in and arrays out:

from frcnn_cli import Detector, propose, evaluate
Detector.load("runs/bccd").detect(image)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frcnn_cli.annotations import Detections, GroundTruth
    from frcnn_cli.data.decode import read_image
    from frcnn_cli.evaluation.voc import evaluate
    from frcnn_cli.image import Image
    from frcnn_cli.model import Detector
    from frcnn_cli.proposals.propose import propose

__version__ = "0.1.0"
__all__ = ["Detections", "Detector", "GroundTruth", "Image", "evaluate", "propose", "read_image"]

# Resolved on first use, so that `frcnn --help` imports neither torch nor cv2.
_HOMES = {
    "Detections": "frcnn_cli.annotations",
    "Detector": "frcnn_cli.model",
    "GroundTruth": "frcnn_cli.annotations",
    "Image": "frcnn_cli.image",
    "evaluate": "frcnn_cli.evaluation.voc",
    "propose": "frcnn_cli.proposals.propose",
    "read_image": "frcnn_cli.data.decode",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
