"""Backbones: the conv layers that compute the map, and the layers that read its pooled RoIs.

A backbone is one short function from `Weights` to `Backbone`, registered below under its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from frcnn_cli.core.errors import UsageError
from frcnn_cli.core.options import did_you_mean
from frcnn_cli.features.backbones.alexnet import alexnet
from frcnn_cli.features.backbones.backbone import Backbone
from frcnn_cli.features.backbones.caffe import caffenet, vgg_cnn_m_1024
from frcnn_cli.features.backbones.heads import Head, with_head
from frcnn_cli.features.backbones.loading import Weights
from frcnn_cli.features.backbones.mobilenet import mobilenet_v3_large, mobilenet_v3_large_pyramid
from frcnn_cli.features.backbones.resnet import RESNET_PYRAMIDS, RESNETS
from frcnn_cli.features.backbones.small import small
from frcnn_cli.features.backbones.spec import BackboneSpec
from frcnn_cli.features.backbones.squeezenet import SQUEEZENETS
from frcnn_cli.features.backbones.vgg import VGGS, vgg16_caffe
from frcnn_cli.recipes.sections import Network

BACKBONES: dict[str, BackboneSpec] = {
    **{name: BackboneSpec(build) for name, build in VGGS.items()},
    "vgg16_caffe": BackboneSpec(vgg16_caffe, "caffe"),
    "vgg_cnn_m_1024": BackboneSpec(vgg_cnn_m_1024, "caffe", geometry=2),
    "caffenet": BackboneSpec(caffenet, "caffe", geometry=2),
    "alexnet": BackboneSpec(alexnet),
    **{name: BackboneSpec(build, build_pyramid=RESNET_PYRAMIDS[name]) for name, build in RESNETS.items()},
    "mobilenet_v3_large": BackboneSpec(mobilenet_v3_large, build_pyramid=mobilenet_v3_large_pyramid),
    **{name: BackboneSpec(build) for name, build in SQUEEZENETS.items()},
    "small": BackboneSpec(small),
}


def backbone_spec(name: str) -> BackboneSpec:
    """How a backbone is built. Raises UsageError for an unknown name."""
    if name in BACKBONES:
        return BACKBONES[name]
    if ":" not in name:
        known = f"The backbones are {', '.join(BACKBONES)}, and timm:NAME"
        raise UsageError(f"there is no backbone {name!r}{did_you_mean(name, BACKBONES)}", known)
    from frcnn_cli.features.backbones.families import load_families

    return load_families().spec(name)


def build(
    name: str,
    *,
    weights: str | Path = "none",
    fine: bool = False,
    grid: Sequence[int] = (),
    pyramid: bool = False,
    head: Head = "backbone",
) -> Backbone:
    """A backbone with its weights.

    Args:
        name: one of `BACKBONES`, or FAMILY:NAME, e.g. "timm:convnext_tiny" (see `features.hook`).
        weights: "imagenet" (torchvision's download), "none" (random; nothing is frozen), "later" (random, to be
            replaced by the caller), or the path of a state dict of the classification network (`.pth`, read with
            `weights_only`, or `.safetensors`).
        fine: halve the cell size (see `Backbone.halve_cells`).
        grid: rows and columns of a pooled RoI, if not those of the backbone (see `Backbone.set_grid`).
        pyramid: feature maps at several strides (see `pyramid.FeaturePyramid`).
        head: "backbone", "mlp" or "conv" (see `heads.with_head`).

    Raises:
        UsageError: the backbone has no pyramid. FrcnnError: the download failed, or the file is not the state dict of
            this network.
    """
    spec = backbone_spec(name)
    make = spec.build
    if pyramid:
        if spec.build_pyramid is None:
            able = ", ".join(known for known, one in BACKBONES.items() if one.build_pyramid)
            raise UsageError(f"{name} has no feature pyramid", f"Choose one of {able}, or network.pyramid=false")
        make = spec.build_pyramid
    backbone = make(Weights(name, str(weights)))
    if weights == "none":
        backbone.frozen = 0
    if fine:
        if backbone.geometry:
            raise UsageError(f"network.fine=true is not supported for {name}", "Set network.fine=false")
        backbone.halve_cells()
    backbone = with_head(backbone, head)
    if grid:
        backbone.set_grid(*grid)
    return backbone


def build_network(network: Network, weights: str | Path = "none") -> Backbone:
    """The backbone that a recipe describes; see `build`."""
    return build(
        network.backbone,
        weights=weights,
        fine=network.fine,
        grid=network.grid,
        pyramid=network.pyramid,
        head=network.head,
    )
