"""frcnn detect: images -> the objects in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.cli.common import arguments, options
from frcnn_cli.cli.common.command import NetworkCommand
from frcnn_cli.cli.common.console import Console
from frcnn_cli.cli.common.pictures import Pictures

if TYPE_CHECKING:
    from frcnn_cli.core.annotations import Detections


@click.command(cls=NetworkCommand)
@options.images
@options.model
@options.source("the source that the model was trained with")
@options.settings
@click.option("--show", is_flag=True, help="Open a window; without a display, save the image and report its path.")
@click.option(
    "-o",
    "--output",
    type=options.PATH,
    metavar="OUT",
    help="Folder for all images, with their boxes drawn; a .jpg or .png if there is one image; or a .h5 file for"
    " detections.",
)
@options.nms_iou
@options.min_score
@options.per_class
@options.max_per_image
@options.refine
@options.device
@options.precision
@options.dtype
@options.batch
@options.split
@options.force
@options.as_json
@click.pass_obj
def command(
    console: Console,
    /,
    images: tuple[str, ...],
    model: Path | None,
    sources: tuple[str, ...],
    settings: tuple[str, ...],
    show: bool,
    output: Path | None,
    device: str,
    precision: str,
    dtype: str,
    batch: int | None,
    split: str | None,
    force: bool,
    as_json: bool,
    refine: bool | None,
    **thresholds: float | int | None,
) -> None:
    """Detect objects in images: all stages in memory.

    Without a model, the smallest pretrained detector is used, which knows 80 classes of everyday objects; it is
    downloaded once. Proposals come from the source that the model was trained with, unless --source names another. The
    detections equal those of the commands proposals, features, score and nms, except with the paper recipe, which
    limits the boxes of each class over the whole set of images. detect cannot do this and uses the thresholds of the
    authors' later code.

    \b
    frcnn detect img.jpg --show
    frcnn detect img.jpg -o found.jpg
    frcnn detect images/ --model runs/my -o pictures/
    frcnn detect @list.txt --model runs/my -o dets.h5 --min-score 0.5 --json
    """
    from frcnn_cli.system.device import check_device_name

    if settings and not sources:
        raise click.UsageError(
            "--set needs --source: the model's own source always uses the options it was trained with."
        )
    check_device_name(device)
    arguments.check_images(images, split)
    to_file = output is not None and output.suffix.lower() == ".h5"
    refs = arguments.images(images, split)
    if show and len(refs) > 20:
        raise click.UsageError(f"--show opens at most 20 images, not {len(refs)}; use -o FOLDER.")
    pictures = Pictures(console, refs, None if to_file else output, show, force)
    model = arguments.model(model, or_pretrained=True)
    source = arguments.source(sources, settings) if sources else None

    from frcnn_cli.detector.detector import Detector
    from frcnn_cli.inference.detect import run_detection

    detector = Detector.load(model, device, precision)
    if refine is not None:
        detector.set_recipe_values(detection__refine=refine)
    run = run_detection(
        refs,
        detector,
        source=source,
        thresholds=detector.thresholds.changed(**thresholds),
        output=output if to_file else None,
        dtype=dtype,
        batch=batch,
        force=force,
        on_detected=pictures.add,
        revisit=show,
        progress=console,
    )
    if to_file:
        console.note(f"{output}: {run.written} images, {sum(map(len, run.detections.values()))} detections")
    if as_json:
        console.json({"images": _as_json(run.detections), "failed": console.failures_as_json()})
    elif not to_file:
        _print_table(console, run.detections)
    pictures.present()
    console.end(len(refs))


def _rows(detections: Detections) -> list[tuple[str, float, list[float]]]:
    columns = (detections.names.tolist(), detections.scores.tolist(), detections.boxes.tolist())
    return list(zip(*columns, strict=True))


def _as_json(found: dict[str, Detections]) -> list[dict[str, Any]]:
    return [
        {
            "image": key,
            "detections": [
                {"class": name, "score": round(score, 6), "box": [round(v, 3) for v in box]}
                for name, score, box in _rows(detections)
            ],
        }
        for key, detections in found.items()
    ]


def _print_table(console: Console, found: dict[str, Detections]) -> None:
    rows = [
        (key, name, f"{score:.3f}", *(f"{v:.1f}" for v in box))
        for key, detections in found.items()
        for name, score, box in _rows(detections)
    ]
    if rows:
        console.table(("image", "class", "score", "x1", "y1", "x2", "y2"), rows)
    elif found:
        console.result(f"no objects found in {len(found)} image(s)")
