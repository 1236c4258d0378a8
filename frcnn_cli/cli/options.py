"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from frcnn_cli.recipes.sections import BackboneName

if TYPE_CHECKING:
    from frcnn_cli.detections.nms import Thresholds

F = TypeVar("F", bound=Callable[..., Any])
Option = Callable[[F], F]

PATH = click.Path(path_type=Path)
BACKBONE = click.Choice(get_args(BackboneName))
DATA_HELP = "Data set: voc:DIR, coco:JSON:DIR, or voc, voc2007, voc2012 (in $FRCNN_DATA or ./data); A+B for both."


class Number(click.FloatRange):
    """A number within bounds; neither NaN nor infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return float(number)


def output(example: str) -> Option[Any]:
    return click.option(
        "-o", "--output", type=PATH, required=True, metavar="FILE", help=f"HDF5 file to write, e.g. {example}."
    )


def recipe_value(name: str, key: str, kind: Any, **more: Any) -> Option[Any]:
    """An option that stands for one value of a recipe, with the recipe's own explanation."""
    from frcnn_cli.recipes.recipe import explanation

    return click.option(name, _PREFIX + key.replace(".", "__"), type=kind, default=None, help=explanation(key), **more)


_PREFIX = "recipe__"


def recipe_changes(given: dict[str, Any]) -> dict[str, Any]:
    """The values, by `section.name`, that were typed; takes them out of `given`."""
    names = [name for name in given if name.startswith(_PREFIX)]
    values = {name.removeprefix(_PREFIX).replace("__", "."): given.pop(name) for name in names}
    return {key: value for key, value in values.items() if value is not None}


images = click.argument("images", nargs=-1, required=True, metavar="IMAGES...")
force = click.option("--force", is_flag=True, help="Replace the output if it exists.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
split = click.option("--split", default=None, metavar="NAME", help="Split of the data set. Default: trainval.")
model = click.option(
    "--model",
    type=PATH,
    default=None,
    metavar="M",
    help="A run's folder or a model file. Default: $FRCNN_MODEL, else the newest run under ./runs.",
)
device = click.option("--device", default="auto", show_default=True, metavar="D", help="auto, cpu, cuda or cuda:N.")
dtype = click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="What conv maps are rounded to between the conv layers and the head.",
)
weights = click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    metavar="W",
    help="imagenet (torchvision's download), none, or FILE: a state dict of torchvision's model.",
)
short_side = click.option(
    "--short-side",
    default=600,
    show_default=True,
    type=click.IntRange(0),
    help="Resize to this; 0: images as they are.",
)
long_side = click.option(
    "--long-side", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="At most this."
)
precision = click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Of conv and hidden layers; float16 on a GPU only.",
)
batch = click.option(
    "--batch",
    type=click.IntRange(1),
    default=None,
    help="Images of one shape through the conv layers at once. Default: 8 on a GPU, 1 on a CPU.",
)
_FROM_RECIPE = " Default: as the model's recipe has it."
nms_iou = click.option(
    "--iou",
    default=None,
    type=Number(0, 1),
    help="A box that overlaps a better one of its class this much is suppressed." + _FROM_RECIPE,
)
min_score = click.option(
    "--min-score", default=None, type=Number(0, 1), help="Least probability to be kept." + _FROM_RECIPE
)
per_class = click.option(
    "--per-class",
    default=None,
    type=click.IntRange(0),
    help="Best boxes of a class and image that suppression looks at; 0: all." + _FROM_RECIPE,
)
max_per_image = click.option(
    "--max-per-image", default=None, type=click.IntRange(0), help="Detections kept an image; 0: all." + _FROM_RECIPE
)
refine = click.option(
    "--refine/--no-refine",
    default=None,
    help="Boxes as the network moves them, or as they were proposed." + _FROM_RECIPE,
)


def thresholds(base: Thresholds, **typed: Any) -> Thresholds:
    """`base`, with what was typed."""
    return base._replace(**{name: value for name, value in typed.items() if value is not None})


metric = click.option(
    "--metric",
    type=click.Choice(["area", "voc07"]),
    default="area",
    show_default=True,
    help="Area under the precision-recall curve, or VOC 2007's mean over 11 points.",
)
data = click.option(
    "--data",
    required=True,
    metavar="DATA",
    help=DATA_HELP,
)
bad_boxes = click.option(
    "--bad-boxes",
    type=click.Choice(["error", "fix"]),
    default="error",
    show_default=True,
    help="Annotated boxes without area or outside their image: stop and name one, or drop and clip them.",
)
classes = click.option(
    "--classes", default=None, metavar="A,B", help="Use only objects of these classes. Default: all that there are."
)
source = click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="NAME",
    help="Proposal source; frcnn plugins lists them. Default: selective-search (of frcnn detect: the model's). Given"
    " twice or more: the boxes of all, in turn.",
)
settings = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the source; repeat for more. With several sources: NAME.KEY=VALUE.",
)
