"""frcnn data convert: labels as they are kept -> VOC or COCO layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from frcnn_cli.cli import options
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display


@click.command(cls=Command)
@click.argument("source", metavar="SOURCE")
@click.option("--images", type=options.PATH, metavar="DIR", help="Of a .csv: the folder of its pictures.")
@click.option("--to", "layout", type=click.Choice(["voc", "coco"]), required=True, help="Layout to write.")
@click.option("-o", "--output", type=options.PATH, required=True, metavar="DIR", help="Folder to write; a new one.")
@click.option("--split", default=None, metavar="NAME", help="Only this split. Default: all that there are.")
@options.bad_boxes
@click.pass_obj
def command(
    display: Display,
    source: str,
    images: Path | None,
    layout: str,
    output: Path,
    split: str | None,
    bad_boxes: Any,
) -> None:
    """Write a labelled data set in VOC or COCO layout; pictures are copied.

    SOURCE is a .csv (a line an object: image, class, xmin, ymin, xmax, ymax or x, y, w, h, perhaps split; a line with
    the image alone: it has no objects), a folder in YOLO's manner (images/SPLIT, labels/SPLIT, data.yaml), or a data
    set (voc:DIR, coco:JSON:DIR).

    \b
    frcnn data convert labels.csv --images pictures/ --to voc -o my-data
    frcnn data convert yolo-folder/ --to coco -o my-data --bad-boxes fix
    frcnn data convert coco:instances_val.json:val2017 --to voc -o coco-as-voc
    """
    from frcnn_cli.data.dataset import Dataset, union
    from frcnn_cli.data.decode import read_record
    from frcnn_cli.data.loose import pictures_below, read_csv, read_yolo
    from frcnn_cli.data.prefetch import prefetch
    from frcnn_cli.data.spec import is_dataset_spec, read_splits
    from frcnn_cli.data.writing import WRITERS, without_slivers
    from frcnn_cli.errors import DataError

    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise DataError(f"{output} exists already", "Name a new folder")
    path = Path(source)
    if is_dataset_spec(source) and not path.exists():
        labels, _, problems = read_splits(source)
        if problems:
            raise problems[0]
        by_split: dict[str, list[Dataset]] = {}
        for one in labels:
            if split in (None, one.split):
                by_split.setdefault(one.split, []).append(one.dataset(bad_boxes))
        datasets = [union(found) for found in by_split.values()]
    else:
        if not path.exists():
            raise DataError(f"{path} is not there", "Name a .csv, a folder in YOLO's manner, or voc:DIR")
        is_table = path.is_file()
        if is_table and images is None:
            raise click.UsageError("A .csv wants --images DIR, the folder of its pictures.")
        folder = images if is_table and images is not None else path
        if not folder.is_dir():
            wanted = "the folder of the pictures" if is_table else "a .csv, a folder in YOLO's manner, or voc:DIR"
            raise DataError(f"{folder} is not a folder", f"Name {wanted}")
        if (folder / "Annotations").is_dir() and not is_table:
            raise DataError(f"{folder} is in VOC layout", f"Write voc:{folder}")
        refs = pictures_below(folder)
        records = {record.key: record for record in prefetch(read_record, refs)}
        found = read_csv(path, folder, records) if is_table else read_yolo(path, records)
        datasets = [one.dataset(bad_boxes) for one in found if split in (None, one.split)]
        unnamed = set(records) - {image.ref.key for one in found for image in one.images}
        if is_table and unnamed:
            display.warn(
                f"{len(unnamed)} picture(s) that no line names are left out, e.g. {min(unnamed)}: where nothing is to"
                " be found, write a line with the image alone"
            )
    if not datasets:
        raise DataError(f"{source} has no split{f' {split!r}' if split else ''}", "Leave --split out to convert all")
    refs = [sample.ref for dataset in datasets for sample in dataset.samples]
    sizes = {record.key: record for record in prefetch(read_record, refs)}
    datasets = [d.within([sizes[sample.ref.key] for sample in d.samples], bad_boxes) for d in datasets]
    if layout == "voc" and bad_boxes == "fix":
        datasets = [without_slivers(dataset) for dataset in datasets]
    WRITERS[layout](datasets, sizes, output)
    crowds = sum(int(sample.truth.crowd.sum()) for dataset in datasets for sample in dataset.samples)
    if layout == "voc" and crowds:
        display.warn(f"{crowds} crowd(s) are difficult objects now: train with --no-difficult, or they are learnt from")
    for dataset in datasets:
        for note in dataset.notes:
            display.warn(note)
        objects = sum(len(sample.truth) for sample in dataset.samples)
        display.result(f"{dataset.split}: {len(dataset)} images, {objects} objects of {len(dataset.classes)} classes")
    for dataset in datasets:
        annotations = f"{output}/annotations/instances_{dataset.split}.json"
        use = f"voc:{output} --split {dataset.split}" if layout == "voc" else f"coco:{annotations}:{output}/images"
        display.note(f"use it as --data {use}")
