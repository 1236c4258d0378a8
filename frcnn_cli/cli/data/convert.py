"""frcnn data convert: labels in any layout -> VOC, COCO or YOLO layout, or a table."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.cli.common import options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console

if TYPE_CHECKING:
    from frcnn_cli.data.convert import Converted


@click.command(cls=Command)
@click.argument("source", metavar="SOURCE")
@click.option(
    "--images",
    type=options.PATH,
    metavar="DIR",
    help="Folder of the images. Default: the folder of the labels or, if that folder holds no images, its parent.",
)
@click.option(
    "--to", "layout", type=click.Choice(["voc", "coco", "yolo", "csv"]), required=True, help="Layout to write."
)
@click.option("-o", "--output", type=options.PATH, required=True, metavar="DIR", help="New folder to write.")
@click.option("--split", default=None, metavar="NAME", help="Convert only this split. Default: all splits.")
@click.option(
    "--val",
    type=options.Number(0, 1, max_open=True),
    default=0.0,
    help="Fraction of the images for the split named val; the others become train. Copies of an image, and frames of"
    " a clip, stay together, and each class is divided in the same proportions. Default: keep the splits of SOURCE.",
)
@click.option(
    "--test",
    type=options.Number(0, 1, max_open=True),
    default=0.0,
    help="Fraction of the images for the split named test.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of --val and --test.")
@options.bad_boxes
@options.size_mismatch
@options.bad_images
@options.order
@options.base
@options.end
@options.relative
@options.as_json
@click.pass_obj
def command(
    console: Console,
    source: str,
    images: Path | None,
    layout: Any,
    output: Path,
    split: str | None,
    val: float,
    test: float,
    seed: int,
    bad_boxes: Any,
    size_mismatch: Any,
    bad_images: Any,
    order: str | None,
    base: str | None,
    end: str | None,
    relative: bool | None,
    as_json: bool,
) -> None:
    """Write a labelled data set in VOC, COCO or YOLO layout, or as a table. The images are copied.

    SOURCE is a folder or file of labels, whose layout is recognised and reported, or a data set:

    \b
    VOC XML              the folders of PASCAL VOC, XML beside the pictures, or XML in a folder of its own
    COCO                 a .json, or a folder with one .json per split (Roboflow)
    YOLO                 a folder, its data.yaml, or obj.data (darknet, CVAT)
    a table (.csv)       one line per object: image, class, and xmin, ymin, xmax, ymax or x, y, w, h; optionally split,
                         width, height; also the tables of TensorFlow, OpenImages and keras-retinanet
    labelme, the VGG Image Annotator, Label Studio, Supervisely
    voc:DIR, coco:JSON:DIR  a data set

    What the numbers of a table mean is detected from the images, and from VOC XML of the same images, and is printed;
    --order, --base, --end and --relative set it instead.

    \b
    frcnn data convert labels.csv --images photographs/ --to voc -o my-data
    frcnn data convert labels.csv --to coco -o my-data --val 0.2 --test 0.1
    frcnn data convert yolo-folder/ --to coco -o my-data --bad-boxes fix
    frcnn data convert coco:instances_val.json:val2017 --to voc -o coco-as-voc
    """
    from frcnn_cli.data.convert import convert_labels

    stated = options.convention(order, base, end, relative)
    converted = convert_labels(
        source, layout, output, images, split, bad_boxes, bad_images, size_mismatch, stated, val, test, seed
    )
    for name in converted.layouts:
        console.note(f"{source}: read as {name}")
    for error in converted.skipped.values():
        console.warn(f"skipped an image that cannot be read: {error.what}")
    if layout == "voc" and converted.crowds:
        console.warn(f"{converted.crowds} crowd(s) are now marked difficult: train with --no-difficult to exclude them")
    if layout == "yolo" and converted.difficult:
        console.warn(f"{converted.difficult} difficult object(s) or crowd(s) are now ordinary objects")
    for note in dict.fromkeys(note for dataset in converted.datasets for note in dataset.notes):
        console.warn(note)
    if as_json:
        console.json(_as_json(converted, output, layout))
        return
    for dataset in converted.datasets:
        objects = sum(len(sample.truth) for sample in dataset.samples)
        console.result(f"{dataset.split}: {len(dataset)} images, {objects} objects of {len(dataset.classes)} classes")
    for dataset in converted.datasets:
        console.note(f"use it as --data {_spec(output, layout, dataset.split)}")
    console.note(
        f"find mistakes in it with: frcnn data lint {shlex.quote(f'voc:{output}' if layout == 'voc' else str(output))}"
    )


def _spec(output: Path, layout: str, split: str) -> str:
    """How a split that was written is named on the command line, with its option --split."""
    if layout == "coco":
        return shlex.quote(f"coco:{output}/annotations/instances_{split}.json:{output}/images")
    spec = f"voc:{output}" if layout == "voc" else f"labels:{output}"
    return f"{shlex.quote(spec)} --split {shlex.quote(split)}"


def _as_json(converted: Converted, output: Path, layout: str) -> dict[str, Any]:
    return {
        "output": str(output),
        "layout": layout,
        "read_as": converted.layouts,
        "classes": list(converted.datasets[0].classes),
        "splits": {
            dataset.split: {
                "images": len(dataset),
                "objects": sum(len(sample.truth) for sample in dataset.samples),
                "data": _spec(output, layout, dataset.split),
            }
            for dataset in converted.datasets
        },
        "skipped": {key: error.what for key, error in converted.skipped.items()},
        "notes": list(dict.fromkeys(note for dataset in converted.datasets for note in dataset.notes)),
    }
