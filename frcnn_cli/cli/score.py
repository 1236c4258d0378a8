"""frcnn score: feats.h5 + props.h5 -> scores.h5."""

from __future__ import annotations

import time
from pathlib import Path

import click

from frcnn_cli.cli import options, resolve
from frcnn_cli.cli.command import NetworkCommand
from frcnn_cli.cli.display import Display


@click.command(cls=NetworkCommand)
@click.argument("feats", type=options.PATH)
@click.option("--props", type=options.PATH, required=True, metavar="FILE", help="Proposals of the same images.")
@options.model
@options.output("scores.h5")
@options.device
@options.precision
@options.refine
@options.force
@options.as_json
@click.pass_obj
def command(
    display: Display,
    feats: Path,
    props: Path,
    model: Path | None,
    output: Path,
    device: str,
    precision: str,
    refine: bool | None,
    force: bool,
    as_json: bool,
) -> None:
    """Score proposals by RoI pooling on the conv maps of FEATS.

    Every proposal gets a probability for each class and the background, and a refined box for each class.

    \b
    frcnn score feats.h5 --props props.h5 --model runs/my -o scores.h5
    """
    from frcnn_cli.errors import FileFormatError, MismatchError
    from frcnn_cli.features.columns import from_columns
    from frcnn_cli.model import Detector
    from frcnn_cli.store.join import join
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import FEATURES, PROPOSALS, SCORES
    from frcnn_cli.store.writer import StageWriter

    resolve.must_differ(output, feats, props)
    with StageFile(feats, FEATURES) as maps, StageFile(props, PROPOSALS) as proposals:
        rows = join(maps.images, proposals.images, str(feats), str(props))
        model = resolve.model(model)
        detector = Detector.load(model, device, precision)
        if refine is not None:
            detector.set_refine(refine)
        if maps.provenance.get("features_id") != detector.features_id:
            raise MismatchError(
                f"the maps of {feats} were computed with other conv layers than those of {model}",
                f"Make them anew: frcnn features IMAGES --model {model} -o {feats} --force",
            )
        provenance = {
            "classes": list(detector.config.classes),
            "model": detector.model_id,
            "recipe": detector.config.recipe,
            "features": maps.provenance,
            "proposals": {**proposals.provenance, "boxes": proposals.rows_digest("boxes")},
        }
        if precision != "float32":
            provenance["precision"] = precision
        started = time.perf_counter()
        boxes = 0
        with StageWriter(output, SCORES, provenance, force) as out:
            todo = [i for i, image in enumerate(maps.images) if not out.is_done(image)]
            with display.progress("score", len(todo)) as bar:
                for i in todo:
                    image = maps.images[i]
                    try:
                        features, scale = from_columns(maps[i])
                    except ValueError as error:
                        raise FileFormatError(f"{feats}: image {image.key!r} ({error})", "Make it anew") from None
                    candidates = proposals[rows[i]]["boxes"]
                    scores = detector.score(features, candidates, scale, image.height, image.width)
                    out.add(image, scores._asdict())
                    boxes += len(candidates)
                    bar.advance()
            written = out.finish()
    seconds = time.perf_counter() - started
    if as_json:
        result = {"output": str(output), "images": written, "boxes_computed": boxes, "seconds": round(seconds, 3)}
        display.json(result)
    else:
        display.note(f"{output}: {written} images, {boxes} boxes scored, {seconds:.1f} s")
