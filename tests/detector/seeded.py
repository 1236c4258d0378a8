"""Torchvision's detectors with seeded weights that behave like trained ones: activations of size 1, objectness and
class scores that differ from box to box, and as many proposals as the detector allows."""

from functools import cache
from unittest.mock import patch

import cv2
import numpy as np
import torch
from torchvision.models import detection

from frcnn_cli.detector.pretrained.models import PRETRAINED


@cache
def seeded_state(name, seed=0, classes=91):
    """A state dict of torchvision's detector `name`, as a file of published weights holds it."""
    torch.manual_seed(seed)
    made = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=classes)
    norms = [module for module in made.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.25, 0.75)
            norm.bias.normal_(std=0.2)
            norm.momentum = 1.0  # the statistics of the next batch
        for key, parameter in made.named_parameters():
            if key.endswith("bn3.weight"):  # the last of a residual block: small, as in trained networks
                parameter.mul_(0.2)
        made.transform.min_size, made.transform.max_size = (256,), 400  # takes a second
        images, _ = made.transform([_tensor(picture(i)) for i in range(2)])
        made.train()
        made.roi_heads.box_head(_pooled(made, made.backbone(images.tensors), images))
        made.eval()
        for norm in norms:  # a channel that hardly varies would be amplified, and rounding errors with it
            norm.running_var.clamp_(min=0.3 * float(norm.running_var.mean()))
        maps = made.backbone(images.tensors)
        for layer in (layer for layer in made.rpn.head.conv.modules() if isinstance(layer, torch.nn.Conv2d)):
            torch.nn.init.kaiming_normal_(layer.weight)
        sliding = made.rpn.head.conv(maps["0"])
        _spread(made.rpn.head.cls_logits, sliding, 2.0)
        _spread(made.rpn.head.bbox_pred, sliding, 0.05)
        hidden = made.roi_heads.box_head(_pooled(made, maps, images))
        _spread(made.roi_heads.box_predictor.cls_score, hidden, 1.5)
        _spread(made.roi_heads.box_predictor.bbox_pred, hidden, 1.0)
        made.roi_heads.box_predictor.cls_score.bias[0] += 4  # most boxes are background
    return {key: value.clone() for key, value in made.state_dict().items()}


def _pooled(made, maps, images):
    """The pooled features of some boxes."""
    rng = np.random.default_rng(0)
    height, width = images.image_sizes[0]
    corners = np.sort(rng.uniform(0, 1, (40, 2, 2)), axis=1) * [width, height]
    boxes = torch.from_numpy(corners.reshape(40, 4).astype(np.float32))
    return made.roi_heads.box_roi_pool(maps, [boxes, boxes], images.image_sizes)


def _spread(layer, x, std):
    """Scales a layer so that each of its outputs has mean 0 and this standard deviation on x."""
    out = layer(x)
    axes = [axis for axis in range(out.dim()) if axis != 1]
    mean, factor = out.mean(dim=axes), std / out.std(dim=axes)
    layer.weight.mul_(factor.view(-1, *[1] * (layer.weight.dim() - 1)))
    layer.bias.sub_(mean).mul_(factor)


def published(state, name):
    """The state dict without the counters that published weights lack, except in the second version."""
    if name.endswith("_v2"):
        return state
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def theirs(name, state, **options):
    """Torchvision's detector, made as for its published weights, with this state dict in their place."""
    weights = getattr(detection, PRETRAINED[name].enum).COCO_V1
    with patch.object(type(weights), "get_state_dict", lambda self, *_, **__: published(state, name)):
        return getattr(detection, name)(weights=weights, **options).eval()


def picture(seed, height=240, width=320):
    """A picture of smooth blobs: uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 20), max(2, width // 20), 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _tensor(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
