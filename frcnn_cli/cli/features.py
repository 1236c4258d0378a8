"""frcnn features: images -> feats.h5."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from frcnn_cli.cli.common import arguments, cluster, models, options
from frcnn_cli.cli.common.command import NetworkCommand
from frcnn_cli.cli.common.console import Console


@click.command(cls=NetworkCommand)
@options.images
@options.model
@options.backbone
@options.weights
@click.option("--fine", is_flag=True, help="Halve the cell size of the maps, as network.fine of a recipe does.")
@click.option(
    "--short-side",
    default=600,
    show_default=True,
    type=click.IntRange(0),
    help="Short side of the resized image, in pixels; 0: keep the original size.",
)
@click.option(
    "--long-side",
    default=1000,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Maximum long side of the resized image, in pixels.",
)
@click.option(
    "--mirrored", is_flag=True, help="Also compute the maps of mirrored images, which frcnn train --features needs."
)
@options.output("feats.h5")
@options.device
@options.precision
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32", "int8", "int4"]),
    default="float16",
    show_default=True,
    help="How maps are stored. int8: 8 bits and a scale per image and channel; int4: with --pca, 8 bits for one"
    " eighth of the components, those with the largest variance, 4 for the others.",
)
@click.option(
    "--pca",
    type=click.IntRange(1),
    metavar="N",
    help="Store N principal components in place of the channels; they are computed from 64 of the images.",
)
@click.option(
    "--basis",
    type=options.PATH,
    metavar="FILE",
    help="Take the principal components from this features file, so that files computed on different processors have"
    " the same ones.",
)
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
    model: Path | None,
    backbone: str | None,
    weights: str,
    fine: bool,
    short_side: int,
    long_side: int,
    mirrored: bool,
    output: Path,
    device: str,
    precision: str,
    dtype: str,
    pca: int | None,
    basis: Path | None,
    batch: int | None,
    split: str | None,
    shard: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compute conv maps, one pass per image.

    Images are resized and normalised as the model requires. After an interruption at any moment, the same command
    continues where it stopped. --weights, --fine, --short-side and --long-side need --backbone.

    IMAGES are files, folders, lists, data sets, or stored elsewhere, as for frcnn proposals.

    \b
    frcnn features images/ --model runs/my -o feats.h5
    frcnn features voc:VOCdevkit/VOC2007 --split test --model runs/my -o feats.h5 --device cuda
    frcnn features voc:my-data --backbone vgg16 --mirrored -o feats.h5
    frcnn features images/ --model runs/my -o feats.h5 --pca 96 --dtype int4
    """
    console: Console = ctx.obj
    if backbone is None:
        for name in ("weights", "fine", "short_side", "long_side"):
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(
                    f"--{name.replace('_', '-')} works only with --backbone; a model has its own value."
                )
    elif model is not None:
        raise click.UsageError("Give either --model or --backbone.")
    if dtype == "int4" and pca is None and basis is None:
        raise click.UsageError("--dtype int4 needs --pca or --basis.")
    if basis is not None:
        arguments.must_differ(output, basis)
    machines = cluster.chosen()
    refs = arguments.images(images, split)
    model = models.model(model) if backbone is None else None

    from frcnn_cli.detector.detector import Detector
    from frcnn_cli.inference.features import extract_features
    from frcnn_cli.recipes.recipe import Recipe

    if model is not None:
        detector = Detector.load(model, device, precision)
    else:
        network = {"network.backbone": backbone, "network.fine": fine}
        recipe = Recipe().changed({**network, "images.short_side": short_side, "images.long_side": long_side})
        detector = Detector.untrained(recipe, weights, device).to_precision(precision)
    done = extract_features(
        refs,
        detector,
        output,
        mirrored=mirrored,
        dtype=dtype,
        pca=pca,
        basis=basis,
        batch=batch,
        shard=shard,
        cluster=machines,
        force=force,
        progress=console,
    )
    if as_json:
        console.json(
            {"output": str(output), "images": done.images, "computed": done.computed}
            | {"seconds": round(done.seconds, 3), "network_busy": round(done.busy, 4)}
            | {"failed": console.failures_as_json()}
        )
    else:
        console.note(f"{output}: {done.images} images, {done.seconds:.1f} s")
        if console.debug:
            console.note(f"time spent in the network: {done.busy:.0%}")
    console.end(len(refs))
