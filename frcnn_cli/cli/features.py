"""frcnn features: images -> feats.h5."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from frcnn_cli.cli import options, resolve
from frcnn_cli.cli.command import NetworkCommand
from frcnn_cli.cli.display import Display
from frcnn_cli.cli.failures import Failures

if TYPE_CHECKING:
    from frcnn_cli.errors import ImageError
    from frcnn_cli.image import Image, ImageRef


@click.command(cls=NetworkCommand)
@options.images
@options.model
@click.option("--backbone", type=options.BACKBONE, help="Instead of a model: conv layers that are not trained further.")
@options.weights
@click.option("--fine", is_flag=True, help="Cells of half the size, as the recipe's network.fine.")
@options.short_side
@options.long_side
@click.option("--mirrored", is_flag=True, help="Also the maps of mirrored images, which frcnn train --features wants.")
@options.output("feats.h5")
@options.device
@options.precision
@options.dtype
@options.batch
@options.split
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
    batch: int | None,
    split: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compute conv maps: one pass an image.

    Images are resized and normalised as the model says, and decoded on threads while the network computes. Stopped at
    any moment, the same command goes on where it was. --weights, --fine, --short-side and --long-side go with
    --backbone.

    \b
    frcnn features images/ --model runs/my -o feats.h5
    frcnn features voc:VOCdevkit/VOC2007 --split test --model runs/my -o feats.h5 --device cuda
    frcnn features voc:my-data --backbone vgg16 --mirrored -o feats.h5
    """
    from frcnn_cli.cli.reading import read_ahead
    from frcnn_cli.data.behind import Behind
    from frcnn_cli.data.decode import digest_file
    from frcnn_cli.features.columns import to_columns
    from frcnn_cli.model import Detector
    from frcnn_cli.pipeline import Failed, FeaturePipeline
    from frcnn_cli.recipes.recipe import Recipe
    from frcnn_cli.store.schema import FEATURES
    from frcnn_cli.store.writer import StageWriter

    display: Display = ctx.obj
    refs = resolve.images(images, split)
    if backbone is None:
        for name in ("weights", "fine", "short_side", "long_side"):
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{name.replace('_', '-')} goes with --backbone; a model has its own.")
        detector = Detector.load(resolve.model(model), device, precision)
    elif model is not None:
        raise click.UsageError("Give --model or --backbone, not both.")
    else:
        network = {"network.backbone": backbone, "network.fine": fine}
        recipe = Recipe().changed({**network, "images.short_side": short_side, "images.long_side": long_side})
        detector = Detector.untrained(recipe, weights, device).to_precision(precision)
    provenance: dict[str, Any] = {
        "features_id": detector.features_id,
        "backbone": detector.config.network.backbone,
        "fine": detector.config.network.fine,
        "dtype": dtype,
        "recipe": detector.config.recipe,
    }
    provenance |= {"short_side": detector.config.transform.short_side, "long_side": detector.config.transform.long_side}
    if precision != "float32":
        provenance["precision"] = precision
    if mirrored:
        provenance["mirrored"] = True
    failures = Failures(display)
    started = time.perf_counter()
    with StageWriter(output, FEATURES, provenance, force, extend=True) as out:
        todo = out.missing(refs, digest_file)
        pipeline = FeaturePipeline(detector, dtype, batch)
        with Behind() as behind, display.progress("features", len(todo)) as bar:
            looks = pipeline.run(_with_mirror_images(read_ahead(todo)) if mirrored else read_ahead(todo))
            for done in looks:
                # After each image comes its mirror image.
                mirror = next(looks) if mirrored else done
                if isinstance(done, Failed):
                    failures.add(done.ref.key, done.error)
                elif isinstance(mirror, Failed):
                    failures.add(mirror.ref.key, mirror.error)
                else:
                    columns = to_columns(done.features, done.scale)
                    if mirrored:
                        columns["mirrored"] = to_columns(mirror.features, mirror.scale)["maps"]
                    behind(out.add, done.image.record, columns)
                bar.advance()
                bar.say(f"network busy {pipeline.busy:.0%}")
        failures.list_all(len(refs))
        written = out.finish()
    seconds = time.perf_counter() - started
    if as_json:
        display.json(
            {"output": str(output), "images": written, "computed": len(todo) - len(failures.errors)}
            | {"seconds": round(seconds, 3), "network_busy": round(pipeline.busy, 4), "failed": failures.as_json()}
        )
    else:
        display.note(f"{output}: {written} images, {seconds:.1f} s, network busy {pipeline.busy:.0%} of the time")
    failures.end()


def _with_mirror_images(
    images: Iterator[tuple[ImageRef, Image | ImageError]],
) -> Iterator[tuple[ImageRef, Image | ImageError]]:
    from frcnn_cli.errors import ImageError

    for ref, image in images:
        yield ref, image
        yield ref, image if isinstance(image, ImageError) else replace(image, pixels=image.pixels[:, ::-1])
