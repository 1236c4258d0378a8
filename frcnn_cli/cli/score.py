"""frcnn score: feats.h5 + props.h5 -> scores.h5."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli.common import arguments, cluster, models, options
from frcnn_cli.cli.common.command import NetworkCommand
from frcnn_cli.cli.common.console import Console


@click.command(cls=NetworkCommand)
@click.argument("feats", type=options.PATH)
@click.option("--props", type=options.PATH, required=True, metavar="FILE", help="Proposals of the same images.")
@options.model
@options.output("scores.h5")
@options.device
@options.precision
@options.refine
@options.shard
@cluster.for_files
@options.force
@options.as_json
@click.pass_obj
def command(
    console: Console,
    feats: Path,
    props: Path,
    model: Path | None,
    output: Path,
    device: str,
    precision: str,
    refine: bool | None,
    shard: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Score proposals by RoI pooling on the conv maps in FEATS.

    Every proposal gets a probability per class and for the background, and a refined box per class.

    \b
    frcnn score feats.h5 --props props.h5 --model runs/my -o scores.h5
    """
    arguments.must_differ(output, feats, props)
    machines = cluster.chosen()
    model = models.model(model)

    from frcnn_cli.detector.detector import Detector
    from frcnn_cli.inference.score import score_proposals

    detector = Detector.load(model, device, precision)
    if refine is not None:
        detector.set_recipe_values(detection__refine=refine)
    done = score_proposals(feats, props, detector, output, shard=shard, cluster=machines, force=force, progress=console)
    if as_json:
        result = {"output": str(output), "images": done.images, "boxes_computed": done.rows}
        console.json(result | {"seconds": round(done.seconds, 3)})
    else:
        console.note(f"{output}: {done.images} images, {done.rows} boxes scored, {done.seconds:.1f} s")
