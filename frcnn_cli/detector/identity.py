"""Which model this is, and which conv maps it computes: hashes of weights and configuration."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from torch import nn

from frcnn_cli.features.backbones import BACKBONES

if TYPE_CHECKING:
    from frcnn_cli.detector.detector import Detector
_RESIZING = "sampled at the scale"  # since 0.3; maps that were computed before differ where sides were rounded


def model_id(detector: Detector) -> str:
    """A hash of all weights, the network, the image transform, the classes, and `targets.widths` if not the default."""
    config = detector.config
    coder = (config.as_recipe.targets.widths,) if config.as_recipe.targets.less else ()
    network = repr(config.network).replace(", grid=()", "")  # as before there was this option
    return _hash(detector, f"({network}, {', '.join(map(repr, (config.transform, config.classes, *coder)))})")


def features_id(detector: Detector) -> str:
    """A hash of everything that determines a conv map: the weights of the conv layers and the image transforms.

    Models with equal `features_id` can share cached maps.
    """
    network = detector.config.network
    geometry = BACKBONES[network.backbone].geometry
    name = network.backbone if geometry == 1 else f"{network.backbone} {geometry}"
    resized = any(transform.short_side for transform in detector.transforms)
    about = (name, network.fine, *detector.transforms, *((_RESIZING,) if resized else ()))
    return _hash(detector.conv, repr(about))


def _hash(module: nn.Module, description: str) -> str:
    digest = hashlib.blake2b(description.encode(), digest_size=16)
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()
