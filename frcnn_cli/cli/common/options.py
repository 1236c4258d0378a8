"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

F = TypeVar("F", bound=Callable[..., Any])
Option = Callable[[F], F]

PATH = click.Path(path_type=Path)
DATA_HELP = (
    "Data set: voc:DIR (VOC layout), coco:JSON:DIR, labels:PATH (labels of other tools), voc (the VOC data set in"
    " $FRCNN_DATA or ./data), voc2007 or voc2012 (that year's); A+B: both together; A@SPLIT: only that split of A."
)
SPLIT_HELP = (
    "Split of the data set. Default: the largest split whose images are all in the .h5 file that the command reads;"
    " without such a file, trainval if it exists, or the only split."
)


class Number(click.FloatRange):
    """A number within bounds; neither NaN nor infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return float(number)


class Backbone(click.Choice):  # type: ignore[type-arg]  # not generic before click 8.2
    """The name of a backbone."""

    def __init__(self) -> None:
        from frcnn_cli.recipes.sections import BackboneName

        super().__init__(get_args(BackboneName))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices and ":" not in value:
            from frcnn_cli.core.options import did_you_mean

            self.fail(
                f"{value!r} is not one of {', '.join(self.choices)}{did_you_mean(value, self.choices)}", param, ctx
            )
        return str(value)


class ShardType(click.ParamType[str]):
    """One of several parts of the images, written 2/8."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from frcnn_cli.core.errors import UsageError
        from frcnn_cli.core.shards import Shard

        try:
            return str(Shard.parse(str(value)))
        except UsageError as error:
            self.fail(str(error), param, ctx)


shard = click.option(
    "--shard",
    type=ShardType(),
    metavar="I/N",
    help="Compute only the images of shard I of N, where I is 1 to N. A hash of an image's key decides its shard. Later"
    " commands read the files of all shards as one, if you give a pattern in quotes ('props-*.h5').",
)


def output(example: str) -> Option[Any]:
    return click.option(
        "-o", "--output", type=PATH, required=True, metavar="FILE", help=f"HDF5 file to write, e.g. {example}."
    )


_PREFIX = "recipe__"


def recipe_value(name: str, key: str, kind: Any, **more: Any) -> Option[Any]:
    """An option for one value of a recipe, with the recipe's own help text."""
    from frcnn_cli.recipes.recipe import recipe_options

    opt = recipe_options()[key]
    help = f"{opt.help} ({key}; paper: {opt.default_text})"
    return click.option(name, _PREFIX + key.replace(".", "__"), type=kind, default=None, help=help, **more)


def recipe_changes(given: dict[str, Any]) -> dict[str, Any]:
    """The recipe values that were given, by `section.name`; removes them from `given`."""
    names = [name for name in given if name.startswith(_PREFIX)]
    values = {name.removeprefix(_PREFIX).replace("__", "."): given.pop(name) for name in names}
    return {key: value for key, value in values.items() if value is not None}


images = click.argument("images", nargs=-1, required=True, metavar="IMAGES...")
force = click.option("--force", is_flag=True, help="Replace the output if it exists.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
split = click.option("--split", default=None, metavar="NAME", help=SPLIT_HELP)
model = click.option(
    "--model",
    type=PATH,
    default=None,
    metavar="M",
    help="Folder of a run, model file, or pretrained detector (frcnn models lists them). Default: $FRCNN_MODEL, else"
    " the newest run under ./runs. If there is no run, frcnn detect and embed use the smallest pretrained detector, and"
    " other commands stop.",
)
device = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="D",
    help="auto (the GPU if there is one), cpu, cuda or cuda:N.",
)
dtype = click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="Precision to which conv maps are rounded.",
)
backbone = click.option(
    "--backbone",
    type=Backbone(),
    help="Instead of a model: a backbone that is not trained further.",
)
weights = click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    metavar="W",
    help="imagenet (downloaded by torchvision), none (random), or the path of a state dict.",
)
precision = click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Precision of conv and hidden layers; float16 only on a GPU.",
)
batch = click.option(
    "--batch",
    type=click.IntRange(1),
    default=None,
    help="Maximum number of images of equal shape per batch. Default: 8 on a GPU, 1 on a CPU.",
)
_FROM_RECIPE = " Default: that of the model's recipe."
nms_iou = click.option(
    "--iou",
    default=None,
    type=Number(0, 1),
    help="NMS threshold: a box is suppressed if its IoU with a better box of its class is at least this."
    + _FROM_RECIPE,
)
min_score = click.option(
    "--min-score",
    default=None,
    type=Number(0, 1),
    help="Keep only detections with a higher probability than this." + _FROM_RECIPE,
)
per_class = click.option(
    "--per-class",
    default=None,
    type=click.IntRange(0),
    help="Maximum number of boxes per class and image before NMS; 0: all." + _FROM_RECIPE,
)
max_per_image = click.option(
    "--max-per-image",
    default=None,
    type=click.IntRange(0),
    help="Maximum number of detections per image; 0: all." + _FROM_RECIPE,
)
refine = click.option(
    "--refine/--no-refine",
    default=None,
    help="Report boxes refined by the network, or the proposals themselves." + _FROM_RECIPE,
)
metric = click.option(
    "--metric",
    type=click.Choice(["area", "voc07"]),
    default="area",
    show_default=True,
    help="area: area under the precision-recall curve; voc07: VOC 2007's mean over 11 points.",
)
iou = click.option(
    "--iou",
    default=0.5,
    show_default=True,
    type=Number(0, 1, min_open=True),
    help="Minimum IoU of a correct detection.",
)
data = click.option("--data", required=True, metavar="DATA", help=DATA_HELP)
bad_boxes = click.option(
    "--bad-boxes",
    type=click.Choice(["error", "fix"]),
    default="error",
    show_default=True,
    help="Annotated boxes without area, or that reach outside their image. error: stop at the first; fix: drop boxes"
    " that have no area or lie wholly outside the image, and clip the others.",
)
size_mismatch = click.option(
    "--size-mismatch",
    type=click.Choice(["error", "scale", "keep"]),
    default="error",
    show_default=True,
    help="Images whose size differs from the annotated size. error: stop at the first; scale: scale the boxes to the"
    " image, or rotate them if EXIF rotated it; keep: use the boxes as they are.",
)
order = click.option(
    "--order", type=click.Choice(["xyxy", "yxyx", "xywh", "yxhw", "cxcywh"]), help="Order of the four numbers of a box."
)
base = click.option("--base", type=click.Choice(["0", "1"]), help="Coordinate of the first pixel.")
end = click.option(
    "--end",
    type=click.Choice(["inside", "beyond"]),
    help="Whether the bottom right corner is the last pixel inside the box, or the first beyond it (width = x2 - x1).",
)
relative = click.option(
    "--relative/--absolute", default=None, help="Whether coordinates are fractions of the image size, or pixels."
)
bad_images = click.option(
    "--bad-images",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="Image files that cannot be decoded. error: stop; skip: name them, and leave them out.",
)
classes = click.option(
    "--classes", default=None, metavar="A,B", help="Use only objects of these classes. Default: all classes."
)


def convention(order: str | None, base: str | None, end: str | None, relative: bool | None) -> dict[str, Any]:
    """The fields of a `Convention` that the options state."""
    inclusive = None if end is None else end == "inside"
    every = {"order": order, "base": None if base is None else int(base), "inclusive": inclusive, "relative": relative}
    return {name: value for name, value in every.items() if value is not None}


def source(default: str) -> Option[Any]:
    return click.option(
        "--source",
        "sources",
        multiple=True,
        metavar="NAME",
        help=f"Proposal source (frcnn plugins lists them). Default: {default}. Repeat to combine sources.",
    )


settings = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Option of the source; repeat for more. With several sources: NAME.KEY=VALUE.",
)
