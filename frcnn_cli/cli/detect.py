"""frcnn detect: images -> the objects in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.cli.common import arguments, cluster, models, options
from frcnn_cli.cli.common.command import NetworkCommand
from frcnn_cli.cli.common.console import Console
from frcnn_cli.cli.common.pictures import Pictures

if TYPE_CHECKING:
    from frcnn_cli.core.annotations import Detections


@click.command(cls=NetworkCommand)
@options.images
@options.model
@options.backbone
@options.weights
@click.option(
    "--classes-from",
    metavar="EXAMPLES",
    help="Name boxes by examples, without training: a folder with a folder of crops per class, or a data set (voc:DIR)."
    " A box gets the class whose mean vector is most similar.",
)
@click.option(
    "--examples",
    type=click.IntRange(1),
    metavar="N",
    help="With --classes-from a data set: use only the first N objects of each class.",
)
@click.option(
    "--class-vectors",
    type=options.PATH,
    metavar="FILE",
    help="Name boxes by vectors of classes, e.g. text vectors of CLIP: an .npz with names [K] and matrix [K, D].",
)
@click.option(
    "--layer",
    type=click.Choice(["hidden", "pooled", "mean"]),
    help="Which vectors of boxes are compared (see frcnn embed). Default: hidden; pooled for backbones whose hidden"
    " layers are not trained.",
)
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
@click.option(
    "--indices",
    is_flag=True,
    help="Also print the index of the proposal that each box was refined from (0: the best).",
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
@options.shard
@cluster.for_networks
@options.force
@options.as_json
@click.pass_obj
def command(
    console: Console,
    /,
    images: tuple[str, ...],
    model: Path | None,
    backbone: str | None,
    weights: str,
    classes_from: str | None,
    examples: int | None,
    class_vectors: Path | None,
    layer: str | None,
    sources: tuple[str, ...],
    settings: tuple[str, ...],
    show: bool,
    indices: bool,
    output: Path | None,
    device: str,
    precision: str,
    dtype: str,
    batch: int | None,
    split: str | None,
    shard: str | None,
    force: bool,
    as_json: bool,
    refine: bool | None,
    **thresholds: float | int | None,
) -> None:
    """Detect objects in images: all stages in memory.

    If there is no --model, no $FRCNN_MODEL and no run under ./runs, the smallest pretrained detector is downloaded
    once and used; it knows 80 classes of everyday objects. Proposals come from the source that the model was trained
    with, unless --source names another. The detections equal those of the commands proposals, features, score and nms,
    except with the paper recipe, which limits the boxes of each class over the whole set of images. detect cannot do
    this and uses the thresholds of the authors' later code.

    IMAGES are files, folders, lists, data sets, or stored elsewhere, as for frcnn proposals.

    \b
    frcnn detect img.jpg --show
    frcnn detect img.jpg -o found.jpg
    frcnn detect images/ --model runs/my -o pictures/
    frcnn detect @list.txt --model runs/my -o dets.h5 --min-score 0.5 --json
    frcnn detect images/ --backbone squeezenet1_0 --classes-from examples/ --source selective-search -o pictures/
    """
    from frcnn_cli.system.device import check_device_name

    if settings and not sources:
        raise click.UsageError(
            "--set needs --source: the model's own source always uses the options it was trained with."
        )
    by_vectors = classes_from is not None or class_vectors is not None
    if classes_from is not None and class_vectors is not None:
        raise click.UsageError("Give either --classes-from or --class-vectors.")
    if backbone is not None and (model is not None or not by_vectors):
        raise click.UsageError("--backbone needs --classes-from or --class-vectors, and no --model.")
    if layer is not None and not by_vectors:
        raise click.UsageError("--layer needs --classes-from or --class-vectors.")
    if examples is not None and classes_from is None:
        raise click.UsageError("--examples needs --classes-from.")
    if by_vectors and refine:
        raise click.UsageError("--refine cannot be used with vectors of classes: the boxes are the proposals.")
    check_device_name(device)
    machines = cluster.chosen()
    arguments.check_images(images, split)
    to_file = output is not None and output.suffix.lower() == ".h5"
    refs = arguments.images(images, split)
    if show and len(refs) > 20:
        raise click.UsageError(f"--show opens at most 20 images, not {len(refs)}; use -o FOLDER.")
    pictures = Pictures(console, refs, None if to_file else output, show, force)
    model = models.model(model, or_pretrained=True) if backbone is None else None
    source = arguments.source(sources, settings) if sources or backbone is not None else None

    from frcnn_cli.inference.detect import run_detection

    detector = models.detector(model, backbone, weights, device, precision)
    if by_vectors:
        models.name_by_vectors(detector, classes_from, class_vectors, source, layer, examples)
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
        shard=shard,
        cluster=machines,
        force=force,
        on_detected=None if to_file and not show else pictures.add,
        revisit=show,
        progress=console,
    )
    if to_file:
        console.note(f"{output}: {run.written} images, {sum(map(len, run.detections.values()))} detections")
    if as_json:
        console.json({"images": _as_json(run.detections, indices), "failed": console.failures_as_json()})
    elif not to_file:
        _print_table(console, run.detections, indices)
    pictures.present()
    console.end(len(refs))


def _rows(detections: Detections) -> list[tuple[str, float, list[float], int]]:
    columns = (detections.names, detections.scores, detections.boxes, detections.proposals)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _as_json(found: dict[str, Detections], indices: bool) -> list[dict[str, Any]]:
    return [
        {
            "image": key,
            "detections": [
                {"class": name, "score": round(score, 6), "box": [round(v, 3) for v in box]}
                | ({"proposal": proposal} if indices else {})
                for name, score, box, proposal in _rows(detections)
            ],
        }
        for key, detections in found.items()
    ]


def _print_table(console: Console, found: dict[str, Detections], indices: bool) -> None:
    rows = [
        (key, name, f"{score:.3f}", *(f"{v:.1f}" for v in box), *([str(proposal)] if indices else []))
        for key, detections in found.items()
        for name, score, box, proposal in _rows(detections)
    ]
    if rows:
        titles = ("image", "class", "score", "x1", "y1", "x2", "y2", *(["proposal"] if indices else []))
        console.table(titles, rows)
    elif found:
        console.result(f"no objects found in {len(found)} image(s)")
