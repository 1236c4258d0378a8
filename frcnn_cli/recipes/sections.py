"""The sections of a recipe: every value with its default, which is the paper's, what it means, and its bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Box = tuple[float, float, float, float]
# fmt: off
BackboneName = Literal[
    "vgg16", "vgg11", "vgg13", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg_cnn_m_1024", "caffenet", "alexnet",
    "resnet18", "resnet50", "mobilenet_v3_large", "squeezenet1_0", "squeezenet1_1", "small",
]
# fmt: on


class Bounds(NamedTuple):
    """What a number, or each of a list, must lie in."""

    least: float
    most: float
    positive: bool

    def broken_by(self, value: float) -> str:
        """What is wrong with a value; empty where nothing is."""
        if self.positive and not value > 0:
            return "must be above 0"
        return "" if self.least <= value <= self.most else f"is {value:g}, not from {self.least:g} to {self.most:g}"


def _value(default: Any, help: str, least: float = -math.inf, most: float = math.inf, *, positive: bool = False) -> Any:
    return field(default=default, metadata={"help": help, "bounds": Bounds(least, most, positive)})


@dataclass(frozen=True)
class Network:
    """Which network, and which of its layers learn."""

    backbone: BackboneName = _value("vgg16", "the classification network that it starts from")
    fine: bool = _value(False, "cells of half the size, for small objects: without the last halving of the map")
    train_from: str = _value("", "first layer that learns, e.g. conv3_1; empty: the backbone's own; fc6: no conv layer")
    pooling: Literal["max", "align"] = _value("max", "RoI max pooling, or RoI align of the same grid")
    dropout: float = _value(0.5, "share of the units of fc6 and fc7 that training leaves out", 0, 0.95)
    classifier: Literal["softmax", "svm"] = _value("softmax", "svm: linear SVMs, fitted when all else is trained")
    class_agnostic: bool = _value(False, "one box for all classes, not one for each")


@dataclass(frozen=True)
class Images:
    """What the network is shown."""

    short_side: int = _value(600, "images are resized to this; 0: as they are", 0, 10_000)
    long_side: int = _value(1000, "but not above this", 1, 10_000)
    train_short_sides: tuple[int, ...] = _value(
        (), "training draws one of these an image; empty: short_side", 1, 10_000
    )
    test_short_sides: tuple[int, ...] = _value(
        (), "detection looks in all of these, each RoI where it is nearest 224 x 224; empty: short_side", 1, 10_000
    )
    normalisation: Literal["backbone", "torchvision", "caffe"] = _value(
        "backbone", "RGB as torchvision's weights want it, BGR as Caffe's; backbone: its own"
    )
    flip: bool = _value(True, "every image twice, as it is and mirrored")
    colour_jitter: float = _value(0.0, "brightness, contrast and saturation are drawn from 1 - this to 1 + this", 0, 1)


@dataclass(frozen=True)
class Sampling:
    """A mini-batch (section 2.3, "Mini-batch sampling")."""

    images: int = _value(2, "images a mini-batch", 1, 10_000)
    rois: int = _value(128, "RoIs a mini-batch, over its images", 1, 1_000_000)
    foreground_fraction: float = _value(0.25, "at most this share of an image's RoIs is foreground", 0, 1)
    foreground_iou: float = _value(0.5, "IoU with an object from which a RoI is foreground", 0, 1)
    background_iou: tuple[float, float] = _value((0.1, 0.5), "background has its best IoU in [low, high)", 0, 1)
    proposals: int = _value(0, "only the best so many of an image; 0: all that there are", 0, 1_000_000_000)
    difficult: bool = _value(True, "train on objects marked difficult (the code of 2015 does, its successor does not)")


@dataclass(frozen=True)
class Targets:
    """What box offsets are normalised by."""

    statistics: Literal["measured", "fixed"] = _value("measured", "of each class on the training set; or as below")
    mean: Box = _value((0.0, 0.0, 0.0, 0.0), "of tx, ty, tw, th, where fixed", -100, 100)
    std: Box = _value((0.1, 0.1, 0.2, 0.2), "of tx, ty, tw, th, where fixed", 0, 100, positive=True)


@dataclass(frozen=True)
class Loss:
    """L = Lcls + box_weight [u >= 1] Lloc."""

    box_weight: float = _value(1.0, "lambda of the multi-task loss; 0: classification only", 0, 1000)
    beta: float = _value(1.0, "where smooth L1 turns from a square to a line", 0, 1000, positive=True)


@dataclass(frozen=True)
class Solver:
    """Stochastic gradient descent. An epoch is one look at each image; every second look is mirrored."""

    epochs: float = _value(
        16.0, "40,000 iterations of 2 images on the 5,011 of VOC 2007 trainval", 0, 1e6, positive=True
    )
    learning_rate: float = _value(0.001, "of weights", 0, 1e9, positive=True)
    schedule: Literal["step", "cosine"] = _value(
        "step", "step_factor times the rate after step_at; or half a cosine to 0"
    )
    step_at: float = _value(0.75, "share of the iterations: 30,000 of 40,000", 0, 1)
    step_factor: float = _value(0.1, "0.001 becomes 0.0001", 0, 1)
    warmup: int = _value(0, "iterations over which the rate rises linearly", 0, 1_000_000_000)
    momentum: float = _value(0.9, "", 0, 1)
    weight_decay: float = _value(0.0005, "of weights", 0, 1)
    bias_rate: float = _value(2.0, "biases learn at this many times the rate", 0, 1000)
    bias_decay: bool = _value(False, "decay biases too (the paper says so; its code does not)")
    stages: Literal["joint", "one after the other"] = _value(
        "joint",
        "both losses at once; or all layers by the classification, then the box layer alone, each for all epochs",
    )
    clip_norm: float = _value(0.0, "gradients together are no longer than this; 0: any length", 0, 1e9)
    average: float = _value(
        0.0, "the model is a moving average of the weights with this decay; 0: the last weights", 0, 0.999999
    )
    precision: Literal["float32", "auto"] = _value("float32", "auto: half precision where a GPU has it")
    seed: int = _value(0, "of every random draw", 0, 1_000_000_000_000)


@dataclass(frozen=True)
class Detection:
    """From scores to detections (section 4.4)."""

    proposals: int = _value(0, "only the best so many of an image; 0: all that there are", 0, 1_000_000_000)
    refine: bool = _value(True, "boxes as the network refines them; otherwise as proposed")
    min_score: float = _value(0.0, "least probability", 0, 1)
    iou: float = _value(0.3, "a box that overlaps a better one of its class this much is suppressed", 0, 1)
    per_class: int = _value(100, "best boxes of a class and image that suppression looks at; 0: all", 0, 1_000_000_000)
    per_set: int = _value(
        40, "of a class, this many times the number of images are kept of a whole set; 0: all", 0, 1_000_000_000
    )
    max_per_image: int = _value(0, "best detections of an image that stay; 0: all", 0, 1_000_000_000)
