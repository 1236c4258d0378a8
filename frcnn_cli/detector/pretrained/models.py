"""Which detectors of torchvision become Fast R-CNN. Imports neither torch nor torchvision."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from frcnn_cli.core.errors import UsageError
from frcnn_cli.core.options import did_you_mean
from frcnn_cli.core.run_files import MODEL_FILE
from frcnn_cli.detector.rpn.config import RPNConfig
from frcnn_cli.recipes.recipe import Recipe

LICENCE = "BSD-3-Clause (torchvision); trained on COCO, whose annotations are under CC BY 4.0"
_RESNET_ANCHORS = ((32,), (64,), (128,), (256,), (512,))
_MOBILENET_ANCHORS = ((32, 64, 128, 256, 512),) * 3
# Detectors of torchvision whose boxes do not come from pooled RoIs.
_WITHOUT_ROIS = r"(fcos|retinanet|ssd|ssdlite)\d*_"


@dataclass(frozen=True)
class PretrainedModel:
    """A detector of torchvision with weights for COCO.

    name: torchvision's. enum: the class of its weights in `torchvision.models.detection`.
    backbone: ours. head: as in `network.head`. short_side, long_side: pixels.
    rpn: its region proposal network.
    norm_eps: what torchvision adds to the variance in batch normalisation with these weights.
    loses: what it has besides boxes; "" for nothing.
    """

    name: str
    enum: str
    backbone: Literal["resnet50", "mobilenet_v3_large"]
    rpn: RPNConfig
    head: Literal["backbone", "conv"] = "backbone"
    short_side: int = 800
    long_side: int = 1333
    norm_eps: float = 1e-5
    loses: str = ""

    def recipe(self) -> Recipe:
        """How the detector resizes, pools and selects; the rest has the values of the recipe "modern"."""
        return Recipe.load("modern").changed(
            {
                "network.backbone": self.backbone,
                "network.pyramid": True,
                "network.fine": False,
                "network.head": self.head,
                "network.pooling": "align_v1",
                "network.dropout": 0.0,
                "images.short_side": self.short_side,
                "images.long_side": self.long_side,
                "images.resizing": "torchvision",
                "detection.min_score": 0.05,
                "detection.iou": 0.5,
                "detection.max_per_image": 100,
                "detection.min_size": 0.01,
            }
        )

    def proposals(self) -> dict[str, Any]:
        """Where its proposals come from, as models record it."""
        options = {"weights": self.name, "per_level": 0, "count": 0, "iou": 0.0, "min_score": -1.0}
        return {"source": {"name": "rpn", "version": "1", "options": options}, "max_boxes": 2000, "min_size": 0.0}


_RESNET = RPNConfig(_RESNET_ANCHORS)
_RESNET_V2 = RPNConfig(_RESNET_ANCHORS, convs=2)
_MOBILENET = RPNConfig(_MOBILENET_ANCHORS, min_score=0.05)
_MOBILENET_320 = RPNConfig(_MOBILENET_ANCHORS, per_level=150, count=150, min_score=0.05)

PRETRAINED = {
    model.name: model
    for model in (
        PretrainedModel(
            "fasterrcnn_mobilenet_v3_large_320_fpn", "FasterRCNN_MobileNet_V3_Large_320_FPN_Weights",
            "mobilenet_v3_large", _MOBILENET_320, short_side=320, long_side=640,
        ),
        PretrainedModel(
            "fasterrcnn_mobilenet_v3_large_fpn", "FasterRCNN_MobileNet_V3_Large_FPN_Weights",
            "mobilenet_v3_large", _MOBILENET,
        ),
        PretrainedModel(
            "fasterrcnn_resnet50_fpn", "FasterRCNN_ResNet50_FPN_Weights", "resnet50", _RESNET, norm_eps=0.0
        ),
        PretrainedModel(
            "fasterrcnn_resnet50_fpn_v2", "FasterRCNN_ResNet50_FPN_V2_Weights", "resnet50", _RESNET_V2, "conv"
        ),
        PretrainedModel(
            "maskrcnn_resnet50_fpn", "MaskRCNN_ResNet50_FPN_Weights", "resnet50", _RESNET, norm_eps=0.0, loses="masks"
        ),
        PretrainedModel(
            "maskrcnn_resnet50_fpn_v2", "MaskRCNN_ResNet50_FPN_V2_Weights", "resnet50", _RESNET_V2, "conv",
            loses="masks",
        ),
        PretrainedModel(
            "keypointrcnn_resnet50_fpn", "KeypointRCNN_ResNet50_FPN_Weights", "resnet50", _RESNET, norm_eps=0.0,
            loses="keypoints",
        ),
    )
}  # fmt: skip
SMALLEST = "fasterrcnn_mobilenet_v3_large_320_fpn"
ALIASES = {"coco": SMALLEST}


def pretrained_model(name: str) -> PretrainedModel:
    """The detector of that name; "coco" is the smallest.

    Raises:
        UsageError: there is no such detector, or it has no head that reads pooled RoIs.
    """
    known = ALIASES.get(name, name)
    if known in PRETRAINED:
        return PRETRAINED[known]
    if re.match(_WITHOUT_ROIS, name):
        raise UsageError(
            f"{name} finds boxes without pooling RoIs, so it cannot become Fast R-CNN",
            f"Choose one of {', '.join(PRETRAINED)}",
        )
    unknown = f"there is no pretrained detector {name!r}{did_you_mean(name, PRETRAINED)}"
    raise UsageError(unknown, f"Their names are {', '.join(PRETRAINED)}")


def is_pretrained(name: str) -> bool:
    """Whether a name is that of a detector here, or of one of torchvision's that cannot be used; false for a model file
    or a run of that name in the current folder. (A folder of data may be called coco.)"""
    path = Path(name)
    if path.is_file() or (path / MODEL_FILE).is_file():
        return False
    return name in PRETRAINED or name in ALIASES or re.match(_WITHOUT_ROIS, name) is not None
