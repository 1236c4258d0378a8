"""Fast R-CNN as a toolkit of stages. What a command does, a function does:

from frcnn_cli import detect_images, evaluate, load_dataset, propose_images, train

propose_images(load_dataset("voc:my-data", "trainval"), "props.h5")
detector = train("voc:my-data", "props.h5", "runs/my", recipe="modern")
test = load_dataset("voc:my-data", "test")
print(evaluate(detect_images(test, detector), test).mean_ap)
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from frcnn_cli.core import errors

if TYPE_CHECKING:
    from frcnn_cli.core.annotations import Detections, GroundTruth
    from frcnn_cli.core.decoding import read_image
    from frcnn_cli.core.errors import FrcnnError
    from frcnn_cli.core.image import Image
    from frcnn_cli.data.convert import convert_labels
    from frcnn_cli.data.lint import lint_dataset
    from frcnn_cli.data.load import load_dataset
    from frcnn_cli.detector.detector import Detector
    from frcnn_cli.evaluation.coco import evaluate_coco
    from frcnn_cli.evaluation.voc import evaluate
    from frcnn_cli.inference.detect import detect_images
    from frcnn_cli.inference.embed import embed_boxes
    from frcnn_cli.proposals.propose import propose
    from frcnn_cli.proposals.recall import recall
    from frcnn_cli.proposals.registry import get_source
    from frcnn_cli.proposals.run import propose_images
    from frcnn_cli.proposals.source import Proposals
    from frcnn_cli.recipes.recipe import Recipe
    from frcnn_cli.store.stage import open_stage
    from frcnn_cli.training.train import train

__version__ = "0.3.0"
__all__ = [
    "Detections",
    "Detector",
    "FrcnnError",
    "GroundTruth",
    "Image",
    "Proposals",
    "Recipe",
    "convert_labels",
    "detect_images",
    "embed_boxes",
    "evaluate",
    "evaluate_coco",
    "get_source",
    "lint_dataset",
    "load_dataset",
    "open_stage",
    "propose",
    "propose_images",
    "read_image",
    "recall",
    "train",
]

# Imported on first use, so that `frcnn --help` imports neither torch nor NumPy.
_MODULES = {
    "Detections": "core.annotations",
    "Detector": "detector.detector",
    "FrcnnError": "core.errors",
    "GroundTruth": "core.annotations",
    "Image": "core.image",
    "Proposals": "proposals.source",
    "Recipe": "recipes.recipe",
    "convert_labels": "data.convert",
    "detect_images": "inference.detect",
    "embed_boxes": "inference.embed",
    "evaluate": "evaluation.voc",
    "evaluate_coco": "evaluation.coco",
    "get_source": "proposals.registry",
    "lint_dataset": "data.lint",
    "load_dataset": "data.load",
    "open_stage": "store.stage",
    "propose": "proposals.propose",
    "propose_images": "proposals.run",
    "read_image": "core.decoding",
    "recall": "proposals.recall",
    "train": "training.train",
}

# Plugins for frcnn 0.1 import frcnn_cli.errors; new ones find its classes in frcnn_cli.proposals.hook.
sys.modules[f"{__name__}.errors"] = errors


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
