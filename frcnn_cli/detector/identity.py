"""Which model this is, and which conv maps it computes: hashes of weights and configuration."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

from torch import nn

from frcnn_cli.detector.folding import state_of
from frcnn_cli.features.backbones import backbone_spec
from frcnn_cli.features.transform import ImageTransform
from frcnn_cli.recipes.sections import Network

if TYPE_CHECKING:
    from frcnn_cli.detector.detector import Detector
_ADDED = {"grid", "pyramid", "head", "resizing"}  # options that models of frcnn 0.1 lack
_RESIZING = "sampled at the scale"  # since 0.3; maps that were computed before differ where sides were rounded


def model_id(detector: Detector) -> str:
    """A hash of all weights, the network, the image transform, the classes, and `targets.widths` if not the default."""
    config = detector.config
    coder = (config.as_recipe.targets.widths,) if config.as_recipe.targets.less else ()
    rest = ", ".join(map(repr, (config.classes, *coder)))
    return _hash(detector, f"({_described(config.network)}, {_described(config.transform)}, {rest})")


def features_id(detector: Detector) -> str:
    """A hash of everything that determines a conv map: the weights of the conv layers and the image transforms.

    Models with equal `features_id` can share cached maps.
    """
    network = detector.config.network
    geometry = backbone_spec(network.backbone).geometry
    name = network.backbone if geometry == 1 else f"{network.backbone} {geometry}"
    resized = any(one.short_side and one.resizing == "exact" for one in detector.transforms)
    about = [repr(name), repr(network.fine), *map(_described, detector.transforms)]
    about += [repr(_RESIZING)] if resized else []
    return _hash(detector.conv, f"({', '.join(about)})")


def _described(config: Network | ImageTransform) -> str:
    """Like `repr`, without options that were added later and have their default, so that old identities remain."""
    shown = [
        f"{field.name}={getattr(config, field.name)!r}"
        for field in dataclasses.fields(config)
        if field.name not in _ADDED or getattr(config, field.name) != field.default
    ]
    return f"{type(config).__qualname__}({', '.join(shown)})"


def _hash(module: nn.Module, description: str) -> str:
    state = state_of(module)
    known: dict[str, Any] = module.__dict__.setdefault("_known_hashes", {})
    if state is not None and known.get("state") == (state, description):
        return str(known["hash"])
    digest = hashlib.blake2b(description.encode(), digest_size=16)
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().data)
    known |= {"state": (state, description), "hash": digest.hexdigest()}
    return digest.hexdigest()
