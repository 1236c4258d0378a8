"""frcnn models: pretrained detectors, and getting one."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli.common import arguments, models, options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console


@click.command(cls=Command)
@click.argument("action", type=click.Choice(["list", "get"]), default="list")
@click.argument("name", required=False)
@click.option(
    "--weights",
    type=options.PATH,
    metavar="FILE",
    help="With get: a state dict of that detector (.pth, .safetensors) in place of the published one.",
)
@click.option(
    "--classes",
    metavar="A,B",
    help="With --weights: the class names in the order of training, or a text file with one per line. Default: those of"
    " COCO.",
)
@click.option(
    "--norm-eps",
    type=options.Number(0, 1),
    help="With --weights: what the detector adds to the variance in batch normalisation. Default: 1e-5 if the weights"
    " come from batch normalisation that is not frozen; otherwise the value of the published weights.",
)
@click.option(
    "-o", "--output", type=options.PATH, metavar="FILE", help="With get: also write a model file (.safetensors)."
)
@options.force
@options.as_json
@click.pass_obj
def command(
    console: Console,
    action: str,
    name: str | None,
    weights: Path | None,
    classes: str | None,
    norm_eps: float | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """List pretrained detectors, or get one ahead of time.

    They are torchvision's Faster, Mask and Keypoint R-CNN models, trained on COCO; only their boxes are used. Every
    command with --model takes their names. Weights are downloaded on first use, to the folder where torchvision keeps
    them, and verified by their checksum.

    \b
    frcnn models
    frcnn models get fasterrcnn_resnet50_fpn
    frcnn models get fasterrcnn_resnet50_fpn --weights mine.pth --classes cat,dog -o mine.safetensors
    frcnn models --json
    """
    if action == "list":
        if name is not None:
            raise click.UsageError(f"list takes no name: frcnn models get {name}")
        if weights or classes or output or norm_eps is not None:
            raise click.UsageError("--weights, --classes, --norm-eps and -o work only with get NAME.")
        _list(console, as_json)
        return
    if name is None:
        raise click.UsageError("get needs the name of a detector: frcnn models lists them.")
    if (classes is not None or norm_eps is not None) and weights is None:
        raise click.UsageError("--classes and --norm-eps need --weights.")
    if weights is not None and output is None:
        raise click.UsageError("--weights needs -o FILE, the model file to write.")
    if output is not None:
        arguments.check_output(output, force, (".safetensors",), *([weights] if weights else []))

    from frcnn_cli.detector.pretrained.models import LICENCE, pretrained_model
    from frcnn_cli.detector.pretrained.weights import fetch_weights, read_pretrained

    model = pretrained_model(name)
    if weights is None:
        models.fetch(model.name)
        path = fetch_weights(model).path
        console.note(f"licence: {LICENCE}")
    else:
        path = weights
    if output is not None:
        from frcnn_cli.detector.detector import Detector
        from frcnn_cli.system.device import choose_device

        stored = read_pretrained(name, weights, _names(classes), norm_eps)
        if weights is not None:
            stored.config.proposals["source"]["options"]["weights"] = str(output)
        Detector.of_stored(stored, choose_device("cpu")).save(output)
    if model.loses:
        console.note(f"{model.name} was also trained to predict {model.loses}, which frcnn does not use")
    result = output or path
    console.json({"model": model.name, "path": str(result)}) if as_json else console.result(str(result))


def _names(classes: str | None) -> list[str] | None:
    """Class names from a list with commas, or from a text file."""
    if classes is None:
        return None
    path = Path(classes)
    if len(classes) < 250 and path.is_file():
        from frcnn_cli.core.files import decode_text

        return [line.strip() for line in decode_text(path.read_bytes()).splitlines() if line.strip()]
    return [name.strip() for name in classes.split(",") if name.strip()]


def _list(console: Console, as_json: bool) -> None:
    from frcnn_cli.detector.pretrained.models import LICENCE, PRETRAINED, SMALLEST
    from frcnn_cli.detector.pretrained.weights import published_weights

    found = [(model, published_weights(model)) for model in PRETRAINED.values()]
    if as_json:
        console.json(
            [
                {
                    "name": model.name,
                    "megabytes": weights.megabytes,
                    "coco_box_ap": weights.box_ap,
                    "short_side": model.short_side,
                    "path": str(weights.path),
                    "is_here": weights.is_here,
                    "default": model.name == SMALLEST,
                    "get": f"frcnn models get {model.name}",
                }
                for model, weights in found
            ]
        )
        return
    rows = [
        (
            model.name,
            f"{weights.megabytes:.0f} MB",
            f"{weights.box_ap:.1f}",
            str(model.short_side),
            "here" if weights.is_here else f"frcnn models get {model.name}",
        )
        for model, weights in found
    ]
    console.table(("name", "size", "AP", "short side", "get it"), rows, left=1)
    console.note("AP: of boxes on COCO val2017, in percent, as torchvision states it")
    console.note(f"licence: {LICENCE}")
    console.note(f"{SMALLEST} is what frcnn detect uses without a model of your own; --model coco names it too")
