"""frcnn embed: images and boxes -> a vector per box."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from frcnn_cli.cli.common import arguments, cluster, models, options
from frcnn_cli.cli.common.command import NetworkCommand
from frcnn_cli.cli.common.console import Console


@click.command(cls=NetworkCommand)
@options.images
@click.option(
    "--boxes",
    type=options.PATH,
    metavar="FILE",
    help="Boxes that get a vector: any file that frcnn import reads, or a props.h5.",
)
@click.option(
    "--per-image",
    metavar="N",
    help="In place of --boxes: the N best detections per image. Or N-M: all above the model's score threshold; if there"
    " are fewer than N, the best N; if more than M, the best M.",
)
@options.model
@options.backbone
@options.weights
@options.source("the source that the model was trained with (for --per-image)")
@options.settings
@options.output("vectors.h5")
@click.option(
    "--layer",
    type=click.Choice(["hidden", "pooled", "mean"]),
    default="hidden",
    show_default=True,
    help="hidden: the output of the last hidden layer; pooled: the pooled map, C * H * W numbers; mean: its mean over"
    " the bins, C numbers.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default="float32",
    show_default=True,
    help="Precision of the vectors.",
)
@click.option("--normalise", is_flag=True, help="Divide each vector by its length.")
@options.device
@options.precision
@options.batch
@options.split
@options.shard
@cluster.for_networks
@options.force
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    /,
    images: tuple[str, ...],
    boxes: Path | None,
    per_image: str | None,
    model: Path | None,
    backbone: str | None,
    weights: str,
    sources: tuple[str, ...],
    settings: tuple[str, ...],
    output: Path,
    layer: Literal["hidden", "pooled", "mean"],
    dtype: Literal["float16", "float32"],
    normalise: bool,
    device: str,
    precision: str,
    batch: int | None,
    split: str | None,
    shard: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compute a vector per box, the output of the last hidden layer: for retrieval, captioning or clustering.

    The boxes are those of --boxes, or the best detections. The output also holds the most probable class of each box,
    its probability, and for detections the index of the proposal. After an interruption at any moment, the same command
    continues where it stopped. frcnn vectors writes the formats of other programs.

    A detector's vector tells classes apart, not individuals: two dogs have similar vectors.

    IMAGES are files, folders, lists, data sets, or stored elsewhere, as for frcnn proposals.

    \b
    frcnn embed images/ --boxes props.h5 --model coco -o vectors.h5
    frcnn embed images/ --per-image 10-100 --model runs/my -o vectors.h5 --dtype float16
    frcnn embed images/ --boxes boxes.csv --backbone squeezenet1_0 --layer mean -o vectors.h5
    """
    from frcnn_cli.system.device import check_device_name

    console: Console = ctx.obj
    if (boxes is None) == (per_image is None):
        raise click.UsageError("Give either --boxes FILE or --per-image N.")
    if boxes is not None and sources:
        raise click.UsageError("--source works only with --per-image.")
    if settings and not sources:
        raise click.UsageError("--set needs --source.")
    if backbone is not None and (model is not None or per_image is not None):
        raise click.UsageError("--backbone has no trained head: it works with --boxes, and without --model.")
    check_device_name(device)
    machines = cluster.chosen()
    arguments.check_output(output, force=True, endings=(".h5",))
    refs = arguments.images(images, split)
    chosen = models.model(model, or_pretrained=True) if backbone is None else None
    source = arguments.source(sources, settings) if sources else None

    from frcnn_cli.inference.embed import PerImage, embed_boxes

    best = None if per_image is None else PerImage.parse(per_image)
    detector = models.detector(chosen, backbone, weights, device, precision)
    done = embed_boxes(
        refs, detector, output, boxes=boxes, per_image=best, source=source, layer=layer, dtype=dtype,
        normalise=normalise, batch=batch, shard=shard, cluster=machines, force=force, progress=console,
    )  # fmt: skip
    if as_json:
        console.json(
            {"output": str(output), "images": done.images, "computed": done.computed, "boxes": done.rows}
            | {"seconds": round(done.seconds, 3), "failed": console.failures_as_json()}
        )
    else:
        console.note(f"{output}: {done.images} images, {done.rows} new vectors, {done.seconds:.1f} s")
    console.end(len(refs))
