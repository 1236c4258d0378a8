"""The state dict of a detector of torchvision as a model of ours.

What differs is folded into the weights, so that nothing has to be computed twice or configured: batch normalisation
(with whatever torchvision adds to the variance) becomes one factor and one offset per channel, the box layer gives
deltas without torchvision's weights 10, 10, 5, 5, and fc6 reads pooled RoIs channels last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from frcnn_cli.core.errors import FileFormatError, UsageError
from frcnn_cli.detector.config import ModelConfig, image_transform
from frcnn_cli.detector.files import StoredModel
from frcnn_cli.detector.header import VERSION
from frcnn_cli.detector.pretrained.models import PretrainedModel
from frcnn_cli.roi.head import to_channels_last

_BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # by which torchvision divides the deltas that its box layer gives
_OTHER_HEADS = ("roi_heads.mask_", "roi_heads.keypoint_")
_STEM = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}  # of ResNet, in `conv`
_NORM_EPS = {"resnet50": 1e-5, "mobilenet_v3_large": 1e-3}  # of our backbones
_BINS = 7 * 7  # of a pooled RoI
_FPN_AT = {"resnet50": 8, "mobilenet_v3_large": 17}
_MOST_CLASSES = 100_000


def converted(
    model: PretrainedModel, state: Mapping[str, Tensor], classes: Sequence[str], norm_eps: float, path: Path
) -> StoredModel:
    """A model with these weights; whether all are there, and fit, is for the caller to check.

    Args:
        state: the state dict of torchvision's model of that name, perhaps for other classes.
        classes: the K class names, without the background.
        norm_eps: what torchvision's model adds to the variance in batch normalisation.
        path: where the weights come from, for messages.

    Raises:
        FileFormatError: the weights are those of another network. UsageError: another number of classes.
    """
    state = _with_current_names(_without_other_heads(state, path))
    _check_classes(state, classes, model, path)
    recipe = model.recipe()
    transform = image_transform(recipe)
    config = ModelConfig(
        recipe.network, tuple(classes), transform, model.proposals(), recipe=recipe.to_dict(), rpn=model.rpn
    )
    tensors = {}
    for name, value in _folded(state, norm_eps, _NORM_EPS[model.backbone], path).items():
        ours = _our_name(name, model)
        if ours is None:
            raise FileFormatError(f"{path} has a tensor {name!r} that {model.name} lacks", _fix(model))
        tensors[ours] = value
    if "head.fc6.weight" in tensors:
        tensors["head.fc6.weight"] = to_channels_last(tensors["head.fc6.weight"], _BINS)
    for name in ("head.bbox_pred.weight", "head.bbox_pred.bias"):
        if name in tensors:
            tensors[name] = _without_box_weights(tensors[name])
    return StoredModel(path, VERSION, config, tensors)


def _fix(model: PretrainedModel) -> str:
    return f"Name a state dict of torchvision's {model.name}, or another model"


def _without_other_heads(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors for boxes. Raises FileFormatError if there is no head that reads pooled RoIs."""
    kept = {name: value for name, value in state.items() if not name.startswith(_OTHER_HEADS)}
    if not any(name.startswith("roi_heads.box_predictor.") for name in kept):
        what = "a detector without RoIs" if any(name.startswith("head.") for name in kept) else "another network"
        raise FileFormatError(
            f"{path} holds the weights of {what}", "Name a state dict of one of the detectors that frcnn models lists"
        )
    return kept


def _with_current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of tensors as torchvision has them since 0.13: the conv layers of pyramid and region proposal network are
    in blocks."""
    older = (
        (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2"),
        (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
    )
    renamed = {}
    for name, value in state.items():
        for pattern, new in older:
            name = re.sub(pattern, new, name)
        renamed[name] = value
    return renamed


def _check_classes(state: Mapping[str, Tensor], classes: Sequence[str], model: PretrainedModel, path: Path) -> None:
    weight = state.get("roi_heads.box_predictor.cls_score.weight")
    outputs = 0 if weight is None or weight.dim() != 2 else len(weight)
    if not 2 <= outputs <= _MOST_CLASSES:
        raise FileFormatError(f"{path} has no layer for class scores", _fix(model))
    if outputs != len(classes) + 1:
        raise UsageError(
            f"{path} is for {outputs - 1} classes, and {len(classes)} are named (by default, those of COCO)",
            "Name its classes in the order of training: --classes cat,dog, or a text file with one name per line",
        )


def _folded(state: Mapping[str, Tensor], eps: float, our_eps: float, path: Path) -> dict[str, Tensor]:
    """The tensors with each batch normalisation as one factor (`weight`) and one offset (`bias`), its mean 0 and its
    variance such that the divisor is 1; those of the pyramid and of the head are multiplied into the conv layer before
    them."""
    tensors = {name: value.float() for name, value in state.items() if not name.endswith("num_batches_tracked")}
    for name in [name for name in tensors if name.endswith(".running_mean")]:
        norm = name.removesuffix(".running_mean")
        try:
            mean, var, weight, bias = (
                tensors.pop(f"{norm}.{part}") for part in ("running_mean", "running_var", "weight", "bias")
            )
        except KeyError as error:
            raise FileFormatError(
                f"{path} lacks the tensor {error.args[0]!r}", "Copy or download the file again"
            ) from None
        factor = weight * (var + eps).rsqrt()
        offset = bias - mean * factor
        conv = f"{norm.rpartition('.')[0]}.0.weight"
        if norm.startswith("backbone.body.") or conv not in tensors:
            tensors |= {f"{norm}.weight": factor, f"{norm}.bias": offset}
            tensors[f"{norm}.running_mean"] = torch.zeros_like(factor)
            tensors[f"{norm}.running_var"] = torch.full_like(factor, 1 - our_eps)
        else:
            tensors[conv] = tensors[conv] * factor[:, None, None, None]
            tensors[f"{norm.rpartition('.')[0]}.0.bias"] = offset
    return tensors


def _our_name(name: str, model: PretrainedModel) -> str | None:
    """The name in our detector of a tensor of torchvision's; None if there is no such tensor."""
    fpn = _FPN_AT[model.backbone]
    if found := re.match(r"backbone\.body\.(\w+)\.(.+)$", name):
        stage, rest = found.groups()
        at = _STEM.get(stage) if model.backbone == "resnet50" else int(stage) if stage.isdigit() else None
        return None if at is None else f"conv.{at}.{rest}"
    if found := re.match(r"backbone\.fpn\.((?:inner|layer)_blocks\..+)$", name):
        return f"conv.{fpn}.{found[1]}"
    if found := re.match(r"rpn\.head\.conv\.(\d+)\.0\.(weight|bias)$", name):
        return f"rpn.conv.{2 * int(found[1])}.{found[2]}"
    if found := re.match(r"rpn\.head\.((?:cls_logits|bbox_pred)\.(?:weight|bias))$", name):
        return f"rpn.{found[1]}"
    if found := re.match(
        r"roi_heads\.(?:box_head|box_predictor)\.((?:fc6|fc7|cls_score|bbox_pred)\.(?:weight|bias))$", name
    ):
        return f"head.{found[1]}"
    if found := re.match(r"roi_heads\.box_head\.(\d+)\.0\.(weight|bias)$", name):
        return f"head.convs.{2 * int(found[1])}.{found[2]}"
    if found := re.match(r"roi_heads\.box_head\.5\.(weight|bias)$", name):
        return f"head.fc6.{found[1]}"
    return None


def _without_box_weights(value: Tensor) -> Tensor:
    divisors = torch.tensor(_BOX_WEIGHTS).repeat(len(value) // 4)
    return value / (divisors[:, None] if value.dim() == 2 else divisors)
