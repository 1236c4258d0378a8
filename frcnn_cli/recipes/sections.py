"""The sections of a recipe: every value with its default, meaning and bounds.

The defaults are the `paper` recipe: the authors' released code of 2015, for VOC 2007 and VGG16. Where the paper and the
code differ, the code produced the published figures, so the defaults follow the code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from frcnn_cli.core.options import option

Box = tuple[float, float, float, float]
# fmt: off
BackboneName = Literal[
    "vgg16", "vgg11", "vgg13", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg16_caffe", "vgg_cnn_m_1024", "caffenet",
    "alexnet", "resnet18", "resnet50", "mobilenet_v3_large", "squeezenet1_0", "squeezenet1_1", "small",
]
# fmt: on


@dataclass(frozen=True)
class Network:
    """The network, and which of its layers are trained."""

    backbone: str = option(
        "vgg16", help="The classification network to start from; FAMILY:NAME for others, e.g. timm:convnext_tiny."
    )
    fine: bool = option(
        False, help="Halve the cell size of the conv map, for small objects, by leaving out its last downsampling."
    )
    pyramid: bool = option(
        False,
        help="Feature pyramid (FPN): conv maps at several strides, each RoI pooled on the one that suits its size. For"
        " resnet18, resnet50, mobilenet_v3_large and conv networks of timm.",
    )
    head: Literal["backbone", "mlp", "conv"] = option(
        "backbone",
        help="Hidden layers. backbone: those of the backbone (with a pyramid: mlp); mlp: two new fully connected layers"
        " of 1,024; conv: four new conv layers and a fully connected one.",
    )
    train_from: str = option(
        "", help="First layer to train, e.g. conv3_1; fc6: no conv layer; empty: the default of the backbone."
    )
    pooling: Literal["max", "align", "align_v1"] = option(
        "max",
        help="max: RoI max pooling; align: RoI align on the same grid; align_v1: without its shift by half a cell, as"
        " in torchvision's detectors.",
    )
    grid: tuple[int, ...] = option(
        (),
        help="Rows and columns of the grid on which RoIs are pooled, e.g. 7,5; empty: the grid of the backbone. Any"
        " other grid changes the input size of fc6, which then starts from random weights.",
        minimum=1,
        maximum=64,
    )
    dropout: float = option(0.5, help="Dropout probability after fc6 and fc7.", minimum=0, maximum=0.95)
    classifier: Literal["softmax", "svm"] = option(
        "softmax", help="softmax, or svm: linear SVMs, fitted after all other training."
    )
    class_agnostic: bool = option(False, help="Predict one box for all classes instead of one per class.")


@dataclass(frozen=True)
class Images:
    """How images are resized, normalised and augmented."""

    short_side: int = option(
        600, help="Short side of the resized image, in pixels; 0: keep the original size.", minimum=0, maximum=10_000
    )
    long_side: int = option(1000, help="Maximum long side of the resized image, in pixels.", minimum=1, maximum=10_000)
    train_short_sides: tuple[int, ...] = option(
        (), help="Short sides that training draws from, one per image; empty: short_side.", minimum=1, maximum=10_000
    )
    test_short_sides: tuple[int, ...] = option(
        (),
        help="Short sides for detection; a RoI uses the scale at which it is closest to 224 x 224 pixels; empty:"
        " short_side.",
        minimum=1,
        maximum=10_000,
    )
    resizing: Literal["exact", "torchvision"] = option(
        "exact",
        help="exact: pixels are sampled at the scale itself, as in the authors' code; torchvision: as in its detectors,"
        " to whole numbers of pixels, and padded to multiples of 32.",
    )
    normalisation: Literal["backbone", "torchvision", "caffe"] = option(
        "backbone",
        help="torchvision: RGB, mean and standard deviation of ImageNet; caffe: BGR, mean only; backbone: what the"
        " weights of the backbone expect.",
    )
    flip: bool = option(
        True, help="Also train on mirrored images: in two epochs, each image is used once as it is and once mirrored."
    )
    colour_jitter: float = option(
        0.0,
        help="Brightness, contrast and saturation are multiplied by factors from 1 - x to 1 + x in training.",
        minimum=0,
        maximum=1,
    )


@dataclass(frozen=True)
class Sampling:
    """The mini-batch (section 2.3, "Mini-batch sampling")."""

    images: int = option(2, help="Images per mini-batch.", minimum=1, maximum=10_000)
    rois: int = option(128, help="RoIs per mini-batch, over all its images.", minimum=1, maximum=1_000_000)
    foreground_fraction: float = option(
        0.25, help="Maximum fraction of foreground among the RoIs of an image.", minimum=0, maximum=1
    )
    foreground_iou: float = option(
        0.5, help="A RoI is foreground if its IoU with some object is at least this.", minimum=0, maximum=1
    )
    background_iou: tuple[float, float] = option(
        (0.1, 0.5), help="A RoI is background if its largest IoU is in [low, high).", minimum=0, maximum=1
    )
    proposals: int = option(
        0, help="Maximum number of proposals per image, best first; 0: all.", minimum=0, maximum=1_000_000_000
    )
    difficult: bool = option(
        True, help="Train on objects marked difficult (the authors' 2015 code does; their later code does not)."
    )


@dataclass(frozen=True)
class Targets:
    """The box regression targets and their normalisation."""

    widths: Literal["whole", "2015"] = option(
        "whole",
        help="How width and height of a box are measured for its deltas. whole: x2 - x1, as in the authors' later code;"
        " 2015: one pixel less, as in their code of 2015.",
    )

    statistics: Literal["measured", "fixed"] = option(
        "measured", help="measured: per class, on the training set; fixed: the two values below."
    )
    mean: Box = option(
        (0.0, 0.0, 0.0, 0.0), help="Mean of tx, ty, tw, th if statistics = fixed.", minimum=-100, maximum=100
    )
    std: Box = option(
        (0.1, 0.1, 0.2, 0.2),
        help="Standard deviation of tx, ty, tw, th if statistics = fixed.",
        maximum=100,
        positive=True,
    )

    @property
    def less(self) -> int:
        """Pixels that `roi.box_coder` subtracts from widths and heights."""
        return 1 if self.widths == "2015" else 0


@dataclass(frozen=True)
class Loss:
    """L = L_cls + box_weight [u >= 1] L_loc."""

    box_weight: float = option(
        1.0, help="Weight of the box loss (lambda); 0: train the classification only.", minimum=0, maximum=1000
    )
    beta: float = option(
        1.0, help="The error at which smooth L1 changes from quadratic to linear.", maximum=1000, positive=True
    )


@dataclass(frozen=True)
class Solver:
    """Stochastic gradient descent. In one epoch every image is used once; in two epochs, once
    as it is and once mirrored."""

    iterations: int = option(
        40_000, help="Iterations of training, whatever the number of images, if epochs is 0.", minimum=1, maximum=10**9
    )
    epochs: float = option(
        0.0,
        help="Epochs of training, used instead of solver.iterations. (In a recipe, 0 means: use solver.iterations."
        " The paper's 40,000 iterations are 16 epochs of VOC 2007 trainval.)",
        minimum=0,
        maximum=1e6,
    )
    learning_rate: float = option(0.001, help="Learning rate of the weights.", maximum=1e9, positive=True)
    schedule: Literal["step", "cosine"] = option(
        "step", help="step: multiply the rate by step_factor at step_at; cosine: lower the rate to 0 along a cosine."
    )
    step_at: float = option(
        0.75, help="Fraction of the iterations after which the rate steps (30,000 of 40,000).", minimum=0, maximum=1
    )
    step_factor: float = option(
        0.1, help="Factor of the learning rate at the step (0.001 becomes 0.0001).", minimum=0, maximum=1
    )
    warmup: int = option(
        0, help="Iterations over which the learning rate rises linearly.", minimum=0, maximum=1_000_000_000
    )
    momentum: float = option(0.9, help="Momentum.", minimum=0, maximum=1)
    weight_decay: float = option(0.0005, help="Weight decay of the weights.", minimum=0, maximum=1)
    bias_lr_factor: float = option(
        2.0, help="Learning rate of the biases, as a multiple of the weights' rate.", minimum=0, maximum=1000
    )
    bias_decay: bool = option(False, help="Apply weight decay to biases too (the paper says so; its code does not).")
    stages: Literal["joint", "sequential"] = option(
        "joint",
        help="joint: both losses at once; sequential: first all layers with the classification loss, then only the box"
        " layer; each stage runs for all epochs.",
    )
    clip_norm: float = option(
        0.0, help="Maximum norm of the gradient of all weights together; 0: no clipping.", minimum=0, maximum=1e9
    )
    ema_decay: float = option(
        0.0,
        help="The model is the exponential moving average of the weights, with this decay; 0: the last weights.",
        minimum=0,
        maximum=0.999999,
    )
    precision: Literal["float32", "auto"] = option(
        "float32", help="float32, or auto: half precision (bfloat16) on GPUs that support it."
    )
    seed: int = option(0, help="Random seed.", minimum=0, maximum=1_000_000_000_000)


@dataclass(frozen=True)
class Detection:
    """From scores to detections (section 4.4)."""

    proposals: int = option(
        0, help="Maximum number of proposals per image, best first; 0: all.", minimum=0, maximum=1_000_000_000
    )
    refine: bool = option(True, help="Report boxes refined by the network instead of the proposals.")
    min_score: float = option(
        0.0, help="Keep only detections with a higher probability than this.", minimum=0, maximum=1
    )
    min_size: float = option(
        0.0, help="Drop refined boxes that are narrower or lower than this, in pixels.", minimum=0, maximum=10_000
    )
    iou: float = option(
        0.3,
        help="NMS threshold: a box is suppressed if its IoU with a better box of its class is at least this.",
        minimum=0,
        maximum=1,
    )
    per_class: int = option(
        100,
        help="Maximum number of boxes per class and image before NMS; 0: all.",
        minimum=0,
        maximum=1_000_000_000,
    )
    per_set: int = option(
        40,
        help="Per class, keep at most this number times the number of images over the whole set, before NMS; 0: no"
        " limit.",
        minimum=0,
        maximum=1_000_000_000,
    )
    max_per_image: int = option(
        0, help="Maximum number of detections per image, over all classes; 0: all.", minimum=0, maximum=1_000_000_000
    )
