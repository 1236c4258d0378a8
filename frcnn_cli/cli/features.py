"""frcnn features: images -> feats.h5."""

from __future__ import annotations

import time
from pathlib import Path

import click

from frcnn_cli.cli import options
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display
from frcnn_cli.cli.failures import Failures


@click.command(cls=Command)
@options.images
@options.model
@options.output("feats.h5")
@options.device
@options.precision
@options.dtype
@options.batch
@options.split
@options.force
@options.as_json
@click.pass_obj
def command(
    display: Display,
    images: tuple[str, ...],
    model: Path | None,
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
    any moment, the same command goes on where it was.

    \b
    frcnn features images/ --model runs/my -o feats.h5
    frcnn features voc:VOCdevkit/VOC2007 --split test --model runs/my -o feats.h5 --device cuda
    """
    from frcnn_cli.cli.reading import read_ahead
    from frcnn_cli.data.behind import Behind
    from frcnn_cli.data.decode import digest_file
    from frcnn_cli.features.columns import to_columns
    from frcnn_cli.model import Detector
    from frcnn_cli.pipeline import Failed, FeaturePipeline
    from frcnn_cli.store.schema import FEATURES
    from frcnn_cli.store.writer import StageWriter

    refs = options.resolve_images(images, split)
    detector = Detector.load(options.resolve_model(model), device, precision)
    provenance = {"features_id": detector.features_id, "backbone": detector.config.backbone, "dtype": dtype}
    if precision != "float32":
        provenance["precision"] = precision
    failures = Failures(display)
    started = time.perf_counter()
    with StageWriter(output, FEATURES, provenance, force, extend=True) as out:
        todo = out.missing(refs, digest_file)
        pipeline = FeaturePipeline(detector, dtype, batch)
        with Behind() as behind, display.progress("features", len(todo)) as bar:
            for done in pipeline.run(read_ahead(todo)):
                if isinstance(done, Failed):
                    failures.add(done.ref.key, done.error)
                else:
                    behind(out.add, done.image.record, to_columns(done.features, done.scale))
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
