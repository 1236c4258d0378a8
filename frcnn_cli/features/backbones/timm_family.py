"""Networks of timm (PyTorch Image Models): timm:convnext_tiny, timm:vit_small_patch14_dinov2, and so on.

Conv networks: the map is the last one of stride 16, and the stages after it are the head of each RoI ("C4"). Other
networks (image towers of DINO and CLIP, for example): the last map of stride 16, or the last of all, and two new hidden
layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frcnn_cli.core.errors import FileFormatError, FrcnnError, UsageError
from frcnn_cli.features.backbones.backbone import Backbone, new_hidden_layers
from frcnn_cli.features.backbones.family import BackboneFamily, hookimpl
from frcnn_cli.features.backbones.geometry import geometry_of
from frcnn_cli.features.backbones.loading import Weights, read_state_dict
from frcnn_cli.features.backbones.pyramid import CHANNELS, UNITS, FeaturePyramid
from frcnn_cli.features.backbones.spec import BackboneSpec, MeanStd

_STRIDE = 16  # of the map, where a network has several
_GRID = (14, 14)  # on which RoIs are pooled for conv layers
# timm's options that allow images of other sizes than in training; each network knows at most one of these sets.
_ANY_SIZE: tuple[dict[str, bool], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"dynamic_img_size": True},
    {"strict_img_size": False},
    {},
)
_EXAMPLES = ("convnext_tiny", "resnet50d", "efficientnet_b0", "vit_small_patch16_224.dino", "vit_base_patch16_clip_224")


class Timm(BackboneFamily):
    """Any network of timm that gives feature maps; needs the extra frcnn-cli[timm]."""

    name = "timm"

    def spec(self, network: str) -> BackboneSpec:
        timm = _timm()
        if not network or ":" in network or "/" in network:  # not a network of a hub, whose files could be anything
            raise UsageError(f"timm:{network} is not the name of a network", "Write, for example, timm:convnext_tiny")
        if not timm.is_model(network):
            close = timm.list_models(f"*{network.partition('.')[0][:8]}*")[:3]
            fix = f"Did you mean {' or '.join(close)}?" if close else "timm.list_models() lists them"
            raise UsageError(f"timm has no network {network!r}", fix)
        config = timm.get_pretrained_cfg(network)
        mean, std = (tuple(float(v) for v in getattr(config, name)) for name in ("mean", "std"))
        return BackboneSpec(
            partial(_build, network),
            MeanStd(mean, std),  # type: ignore[arg-type]
            build_pyramid=partial(_build_pyramid, network),
        )

    def names(self) -> list[str]:
        return list(_EXAMPLES)


@hookimpl
def frcnn_backbones() -> list[BackboneFamily]:
    """The family of timm, also where timm is not installed."""
    return [Timm()]


class MapOf(nn.Module):
    """The last feature map of a network, [B, C, h, w], of images of any size: they are padded with zeros on the right
    and bottom to a multiple of its largest cells."""

    def __init__(self, network: nn.Module, channels_last: bool, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.channels_last = channels_last
        self.multiple = multiple

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))
        maps: Tensor = self.network(x)[-1]
        return maps.permute(0, 3, 1, 2) if self.channels_last else maps


def _build(name: str, weights: Weights) -> Backbone:
    network = _create(name, weights)
    strides = list(network.feature_info.reduction())
    fitting = [i for i, stride in enumerate(strides) if stride == _STRIDE]
    at = fitting[-1] if fitting else len(strides) - 1
    stages = _stages(network)
    if stages is None:
        return _of_one_map(name, weights, network.feature_info.out_indices[at], max(strides))
    channels, end = network.feature_info.channels()[at], stages[at] + 1
    modules = list(network.children())
    conv, rest = nn.Sequential(*modules[:end]), nn.Sequential(*modules[end:])
    geometry = tuple(_geometry(name, network, lambda maps: [maps[at]]))
    frozen = stages[0] + 1 if at else 0
    layers = {child: i for i, (child, _) in enumerate(network.named_children()) if i < end}
    if any(isinstance(layer, nn.Conv2d) for layer in rest.modules()):
        return Backbone(conv, rest, channels, strides[at], _GRID, frozen, layers, geometry)
    hidden = new_hidden_layers(channels * 7 * 7, UNITS)
    return Backbone(conv, hidden, channels, strides[at], (7, 7), frozen, layers, geometry)


def _of_one_map(name: str, weights: Weights, at: int, multiple: int) -> Backbone:
    """A network whose stages cannot be told apart: one of its maps, everything before it frozen by default.

    Args:
        at: which map, in timm's numbering of all maps. multiple: of pixels, to which images are padded.
    """
    network = _create(name, weights, out_indices=(at,))
    channels = network.feature_info.channels()[-1]
    conv = nn.Sequential(MapOf(network, _is_channels_last(network), multiple))
    geometry = _geometry(name, network, lambda maps: [_channels_first(network, maps[-1])])
    hidden = new_hidden_layers(channels * 7 * 7, UNITS)
    return Backbone(conv, hidden, channels, geometry[0][0], (7, 7), 1, {"network": 0}, tuple(geometry))


def _build_pyramid(name: str, weights: Weights) -> Backbone:
    network = _create(name, weights)
    strides = list(network.feature_info.reduction())
    stages = _stages(network)
    levels = [i for i, stride in enumerate(strides) if stride >= 4]
    if stages is None or len(levels) < 2 or len(set(strides)) < len(strides):
        raise UsageError(
            f"timm:{name} has maps at one stride only, so there is no pyramid", "Leave network.pyramid false"
        )
    channels = [network.feature_info.channels()[i] for i in levels]
    conv = FeaturePyramid(list(network.children()), [stages[i] for i in levels], channels)
    geometry = _geometry(name, network, lambda maps: [maps[i] for i in levels])
    layers = {child: i for i, (child, _) in enumerate(network.named_children())} | {"fpn": len(conv) - 1}
    hidden = new_hidden_layers(CHANNELS * 7 * 7, UNITS)
    return Backbone(conv, hidden, CHANNELS, strides[levels[0]], (7, 7), stages[levels[0]] + 1, layers, tuple(geometry))


def _create(name: str, weights: Weights, **more: Any) -> Any:
    """The network as timm builds it for feature maps. more: further options of timm."""
    timm = _timm()
    options: dict[str, Any] = {"features_only": True, "pretrained": weights.which not in ("none", "later"), **more}
    if options["pretrained"] and weights.which != "imagenet":
        path = Path(weights.which)
        if not path.is_file():
            raise FrcnnError(f"there is no file of weights {path}", "Check the path")
        _check_weights(timm, name, path)
        options["pretrained_cfg_overlay"] = {"file": str(path)}
    try:
        with torch.device("meta"):
            _create_for_any_size(timm, name, {**options, "pretrained": False, "pretrained_cfg_overlay": None})
    except Exception as error:  # what timm raises for a network without maps is not documented
        raise UsageError(f"timm:{name} gives no feature maps ({_short(error)})", "Choose another network") from None
    try:
        network = _create_for_any_size(timm, name, options)
    except Exception as error:  # the network can be built, so this is about its weights
        if weights.which != "imagenet":
            fix = "Name a state dict that timm reads for this network"
            raise FileFormatError(f"{weights.which} are not weights of timm:{name} ({_short(error)})", fix) from None
        raise FrcnnError(
            f"the weights of timm:{name} could not be downloaded ({_short(error)})",
            "Download them elsewhere and name the file with --weights FILE, or train from scratch with --weights none",
        ) from None
    timm.layers.freeze_batch_norm_2d(network)
    return network


def _create_for_any_size(timm: Any, name: str, options: dict[str, Any]) -> Any:
    """The network, with whichever options it has for images of other sizes than in training."""
    for flexible in _ANY_SIZE[:-1]:
        try:
            return timm.create_model(name, **options, **flexible)
        except TypeError:  # the network does not know these options
            continue
    return timm.create_model(name, **options, **_ANY_SIZE[-1])


def _check_weights(timm: Any, name: str, path: Path) -> None:
    """Refuses a state dict that lacks weights of the network: timm would silently leave these random."""
    state = read_state_dict(path)
    with torch.device("meta"):
        whole = timm.create_model(name, pretrained=False)
    classifier = whole.default_cfg.get("classifier") or "fc"
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    for key, value in whole.state_dict().items():
        if key.startswith(names):
            continue
        if key not in state or state[key].shape != value.shape:
            what = "lacks" if key not in state else "has another shape for"
            fix = "Name a state dict that timm wrote for this network"
            raise FileFormatError(f"{path} are not weights of timm:{name}: it {what} the tensor {key!r}", fix)


def _stages(network: Any) -> list[int] | None:
    """For each map, the index of the child that gives it, if the children run one after the other; otherwise None."""
    if type(network).__name__ != "FeatureListNet" or _is_channels_last(network):
        return None
    names = [name for name, _ in network.named_children()]
    ends = [info["module"].replace(".", "_") for info in network.feature_info.get_dicts()]
    return [names.index(end) for end in ends] if set(ends) <= set(names) else None


def _is_channels_last(network: Any) -> bool:
    return str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")


def _channels_first(network: Any, maps: Tensor) -> Tensor:
    return maps.permute(0, 3, 1, 2) if _is_channels_last(network) else maps


def _geometry(name: str, network: Any, maps: Any) -> Sequence[tuple[int, float]]:
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    try:
        return geometry_of(network, network, maps)
    except ValueError as error:
        # Transformers that merge patches have cells of whole pixels, each with its centre in its middle.
        if first is not None and first.kernel_size == first.stride:
            strides = network.feature_info.reduction()
            return [(stride, stride / 2) for stride in strides[-1:]]
        raise UsageError(f"timm:{name} cannot be used: {_short(error)}", "Choose another network") from None
    except (RuntimeError, TypeError, AssertionError) as error:
        raise UsageError(f"timm:{name} cannot be used: {_short(error)}", "Choose another network") from None


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:150]


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise FrcnnError("timm is not installed", "pip install 'frcnn-cli[timm]', or pip install timm") from None
    return timm
