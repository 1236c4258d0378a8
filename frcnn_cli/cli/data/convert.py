"""frcnn data convert: labels in any format -> VOC or COCO layout."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from frcnn_cli.cli.common import options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console


@click.command(cls=Command)
@click.argument("source", metavar="SOURCE")
@click.option("--images", type=options.PATH, metavar="DIR", help="Folder of the images of a .csv.")
@click.option("--to", "layout", type=click.Choice(["voc", "coco"]), required=True, help="Layout to write.")
@click.option("-o", "--output", type=options.PATH, required=True, metavar="DIR", help="New folder to write.")
@click.option("--split", default=None, metavar="NAME", help="Convert only this split. Default: all splits.")
@options.bad_boxes
@options.bad_images
@click.pass_obj
def command(
    console: Console,
    source: str,
    images: Path | None,
    layout: Any,
    output: Path,
    split: str | None,
    bad_boxes: Any,
    bad_images: Any,
) -> None:
    """Write a labelled data set in VOC or COCO layout. The images are copied.

    SOURCE is one of:

    \b
    a .csv               one line per object: image, class, xmin, ymin, xmax, ymax or x, y, w, h, optionally split;
                         a line with only the image means that it has no objects
    a folder             in YOLO's layout: images/SPLIT, labels/SPLIT, data.yaml
    voc:DIR, coco:JSON:DIR  a data set

    \b
    frcnn data convert labels.csv --images photographs/ --to voc -o my-data
    frcnn data convert yolo-folder/ --to coco -o my-data --bad-boxes fix
    frcnn data convert coco:instances_val.json:val2017 --to voc -o coco-as-voc
    """
    from frcnn_cli.data.convert import convert_labels

    converted = convert_labels(source, layout, output, images, split, bad_boxes, bad_images)
    for error in converted.skipped.values():
        console.warn(f"skipped an image that cannot be read: {error.what}")
    if converted.unnamed:
        console.warn(
            f"{len(converted.unnamed)} image(s) are left out because no line names them, e.g. {converted.unnamed[0]};"
            " for an image without objects, write a line with only the image"
        )
    if layout == "voc" and converted.crowds:
        console.warn(f"{converted.crowds} crowd(s) are now marked difficult: train with --no-difficult to exclude them")
    for dataset in converted.datasets:
        for note in dataset.notes:
            console.warn(note)
        objects = sum(len(sample.truth) for sample in dataset.samples)
        console.result(f"{dataset.split}: {len(dataset)} images, {objects} objects of {len(dataset.classes)} classes")
    for dataset in converted.datasets:
        annotations = f"{output}/annotations/instances_{dataset.split}.json"
        spec = f"voc:{output}" if layout == "voc" else f"coco:{annotations}:{output}/images"
        split_option = f" --split {shlex.quote(dataset.split)}" if layout == "voc" else ""
        console.note(f"use it as --data {shlex.quote(spec)}{split_option}")
