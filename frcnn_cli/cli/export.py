"""frcnn export: props.h5 or dets.h5 -> other tools' files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from frcnn_cli.cli import options, resolve
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display

if TYPE_CHECKING:
    from frcnn_cli.store.reader import StageFile


@click.command(cls=Command)
@click.argument("file", type=options.PATH)
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(["detectron2", "mmdet", "mat", "coco", "csv", "voc"]),
    help="Of boxes: detectron2, mmdet (pickles), mat (cell arrays as selective search was published), coco (results),"
    " csv. Of detections: coco, voc (a folder of the devkit's comp4_det_SPLIT_CLASS.txt).",
)
@click.option("-o", "--output", type=options.PATH, required=True, metavar="FILE", help="File or folder to write.")
@click.option("--data", metavar="DATA", help="For COCO: the data set, whose numbers of images and classes are written.")
@click.option("--split", default="test", show_default=True, metavar="NAME", help="Split of detections.")
@options.force
@click.pass_obj
def command(display: Display, file: Path, form: str, output: Path, data: str | None, split: str, force: bool) -> None:
    """Write FILE, boxes or detections, as another tool reads it.

    frcnn import reads boxes back to the same (COCO results have no place for images without any), frcnn eval reads
    detections. detectron2 and COCO want scores: boxes that have none get falling ones by their rank.

    \b
    frcnn export props.h5 --format detectron2 -o props.pkl
    frcnn export props.h5 --format mat -o boxes.mat
    frcnn export dets.h5 --format voc -o results/ --split test
    frcnn export dets.h5 --format coco -o results.json --data coco:instances_val.json:val2017
    """
    from frcnn_cli.errors import OutputExistsError, UsageError
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import DETECTIONS

    resolve.must_differ(output, file)
    if output.exists() and not force:
        raise OutputExistsError(output)
    with StageFile(file) as opened:
        if opened.format is not DETECTIONS:
            if form == "voc":
                raise UsageError(f"{file} holds {opened.format.name}, not detections", "Name what frcnn nms wrote")
            count = _boxes(opened, form, output)
        elif form == "voc":
            count = _voc(opened, output, split)
        elif form == "coco":
            count = _coco(opened, output, data, split)
        else:
            raise UsageError(f"detections are not written as {form}", "Write --format voc or --format coco")
        display.note(f"{output}: {len(opened)} images, {count} boxes")


def _ends_in(output: Path, ending: str, form: str) -> None:
    if output.suffix.lower() != ending:
        raise click.UsageError(f"-o {output}: {form} is a {ending} file.")


def _boxes(opened: StageFile, form: str, output: Path) -> int:
    from frcnn_cli.errors import FileFormatError
    from frcnn_cli.files import write_whole
    from frcnn_cli.proposals.files.exporting import FORMATS
    from frcnn_cli.proposals.source import Proposals
    from frcnn_cli.store.schema import PROPOSALS

    if opened.format is not PROPOSALS:
        raise FileFormatError(f"{opened.path} holds {opened.format.name}", "Name a file of proposals or detections")
    ending, write = FORMATS[form]
    _ends_in(output, ending, form)
    items = [(image, Proposals(arrays["boxes"], arrays.get("scores"))) for image, arrays in opened]
    write_whole(output, write(items))
    return opened.row_count


def _voc(opened: StageFile, output: Path, split: str) -> int:
    from frcnn_cli.detections.columns import from_columns
    from frcnn_cli.errors import FrcnnError
    from frcnn_cli.evaluation.results import voc_lines
    from frcnn_cli.files import write_whole

    if output.is_file():
        raise FrcnnError(f"{output} is a file", "VOC's results are a folder; name one")
    for name in opened.classes:
        if not name.strip() or set(name) & set("/\\\0"):
            raise FrcnnError(f"class {name!r} cannot be part of a file's name", "Write --format coco")
    found = {image.key: from_columns(arrays) for image, arrays in opened}
    for name, text in voc_lines(found, opened.classes).items():
        write_whole(output / f"comp4_det_{split}_{name}.txt", text.encode())
    return opened.row_count


def _coco(opened: StageFile, output: Path, data: str | None, split: str) -> int:
    import json

    from frcnn_cli.data.decode import digest_file
    from frcnn_cli.data.identify import records
    from frcnn_cli.data.spec import load_dataset, named
    from frcnn_cli.detections.columns import from_columns
    from frcnn_cli.errors import MismatchError
    from frcnn_cli.evaluation.coco import to_results
    from frcnn_cli.files import write_whole
    from frcnn_cli.store.join import join

    _ends_in(output, ".json", "coco")
    ids = {image.key: number for number, image in enumerate(opened.images, 1)}
    categories = None
    if data is not None:
        dataset = load_dataset(data, split, "fix")
        if dataset.image_ids:
            rows = join(records(dataset.refs, digest_file), opened.images, named(data, split), str(opened.path))
            own = {ref.key: opened.images[row].key for ref, row in zip(dataset.refs, rows, strict=True)}
            ids = {own[key]: number for number, key in dataset.image_ids.items()}
            categories = {name: number for number, name in dataset.categories.items()}
    for image in opened.images:
        if image.key not in ids:
            raise MismatchError(
                f"{data} has no image {image.key!r} of {opened.path}", "Name the data set of these images"
            )
    for name in opened.classes:
        if categories is not None and name not in categories:
            raise MismatchError(f"{data} has no class {name!r} of {opened.path}", "Name the data set of these images")
    numbers = None if categories is None else [categories[name] for name in opened.classes]
    results = to_results({image.key: from_columns(arrays) for image, arrays in opened}, ids, numbers)
    write_whole(output, json.dumps(results).encode())
    return opened.row_count
