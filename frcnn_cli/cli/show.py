"""frcnn show: proposals on the picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from frcnn_cli.cli import options, resolve
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from frcnn_cli.annotations import GroundTruth
    from frcnn_cli.image import Image

_BOX, _OBJECT, _MISSED = (70, 200, 90), (250, 200, 40), (235, 60, 60)


@click.command(cls=Command)
@click.argument("props", type=options.PATH)
@click.argument("image", type=options.PATH)
@click.option("--top", default=20, show_default=True, type=click.IntRange(1), help="Boxes drawn, the best first.")
@click.option(
    "--data",
    default=None,
    metavar="DATA",
    help="Data set of the image (voc:DIR): draw each object, and the box that covers it best with its IoU.",
)
@click.option("--split", default=None, metavar="NAME", help="Split of the data set. Default: the one with the image.")
@click.option("--boxes", default=2000, show_default=True, type=click.IntRange(1), help="With --data: boxes considered.")
@click.option(
    "-o", "--output", type=options.PATH, default=None, metavar="FILE", help="Save the picture; open no window."
)
@options.force
@click.pass_obj
def command(
    display: Display,
    props: Path,
    image: Path,
    top: int,
    data: str | None,
    split: str | None,
    boxes: int,
    output: Path | None,
    force: bool,
) -> None:
    """Draw the boxes of PROPS on IMAGE.

    The best, or with --data those that cover the objects: objects are yellow, the box that covers one best is green, or
    red where its IoU is under 0.5.

    \b
    frcnn show props.h5 img.jpg --top 50
    frcnn show props.h5 voc/JPEGImages/000004.jpg --data voc:voc -o covered.jpg
    """
    from frcnn_cli.cli.window import present
    from frcnn_cli.data.decode import read_image
    from frcnn_cli.errors import MismatchError, OutputExistsError
    from frcnn_cli.picture import save_picture
    from frcnn_cli.store.join import Lookup
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import PROPOSALS

    if output is not None and output.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise click.UsageError(f"-o {output}: a picture ends in .jpg or .png.")
    if split is not None and data is None:
        raise click.UsageError("--split goes with --data.")
    if output is not None:
        resolve.must_differ(output, image, props)
        if output.exists() and not force:
            raise OutputExistsError(output)
    picture = read_image(image)
    with StageFile(props, PROPOSALS) as file:
        i = Lookup(file.images, str(props)).find(picture.record, str(image))
        if i is None:
            raise MismatchError(f"{props} has no boxes for {image}", "Name an image that it was made from")
        found = file[i]["boxes"]
    if data is None:
        drawn = _best(picture, found[:top])
        display.note(f"{min(top, len(found))} of {len(found)} boxes")
    else:
        drawn = _covering(display, picture, found[:boxes], data, split)
    if output is not None:
        save_picture(drawn, output)
        display.note(f"the picture is in {output}")
    else:
        present(display, drawn, image.name, f"{image.stem}-proposals", force)


def _best(picture: Image, boxes: NDArray[np.float32]) -> NDArray[np.uint8]:
    from frcnn_cli.picture import class_colour, draw_boxes

    colours = [class_colour(i, len(boxes)) for i in range(len(boxes))]
    return draw_boxes(picture.pixels, boxes, [str(i + 1) for i in range(len(boxes))], colours)


def _covering(
    display: Display, picture: Image, boxes: NDArray[np.float32], data: str, split: str | None
) -> NDArray[np.uint8]:
    import numpy as np

    from frcnn_cli.boxes import iou
    from frcnn_cli.picture import draw_boxes

    truth, classes = _objects(picture, data, split)
    overlaps = iou(boxes, truth.boxes)
    best = overlaps.max(axis=0, initial=0.0)
    rows = []
    covering, texts, colours = [], [], []
    for j, value in enumerate(best):
        place = int(overlaps[:, j].argmax()) if len(boxes) else -1
        rows.append((classes[truth.labels[j]], f"{value:.3f}", str(place + 1) if value > 0 else "-"))
        if value > 0:
            covering.append(boxes[place])
            texts.append(f"{value:.2f}")
            colours.append(_BOX if value >= 0.5 else _MISSED)
    covered = f"{(best >= 0.5).sum()} of {len(best)} objects covered (IoU 0.5) by {len(boxes)} boxes"
    display.table(("object", "best IoU", "rank"), rows, title=covered)
    every = np.concatenate([np.array(covering, np.float32).reshape(-1, 4), truth.boxes])
    return draw_boxes(picture.pixels, every, texts + [""] * len(truth), colours + [_OBJECT] * len(truth))


def _objects(picture: Image, data: str, split: str | None) -> tuple[GroundTruth, tuple[str, ...]]:
    """The objects of the picture, found by name and content in the data set, and the names of classes."""
    from frcnn_cli.data.decode import digest_file
    from frcnn_cli.data.spec import load_dataset, splits_of
    from frcnn_cli.errors import DataError

    for name in [split] if split else splits_of(data):
        dataset = load_dataset(data, name, "fix")
        for sample in dataset.samples:
            if sample.ref.path.stem == Path(picture.key).stem and digest_file(sample.ref.path) == picture.record.digest:
                return sample.truth, dataset.classes
    raise DataError(f"{data} has no such image as {picture.path}", "Name the data set and split that holds it")
