"""frcnn compress: a model -> a smaller, faster one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from frcnn_cli.cli.common import arguments, models, options
from frcnn_cli.cli.common.command import NetworkCommand
from frcnn_cli.cli.common.console import Console

if TYPE_CHECKING:
    from frcnn_cli.inference.compress import Compression


@click.command(cls=NetworkCommand)
@click.argument("model", type=options.PATH)
@click.option("-o", "--output", type=options.PATH, required=True, metavar="OUT", help="Model file to write.")
@click.option("--rank", "ranks", multiple=True, metavar="LAYER=R", help="Rank of a layer; paper: fc6=1024, fc7=256.")
@click.option(
    "--energy",
    type=options.Number(0, 1, min_open=True),
    help="Choose the smallest ranks that keep this share of the squared singular values.",
)
@click.option(
    "--max-drop",
    type=options.Number(0),
    metavar="POINTS",
    help="Choose the smallest ranks whose mAP drops by at most this many percentage points; needs --data and --props.",
)
@click.option("--data", metavar="DATA", help="Data set to measure mAP on: voc:DIR.")
@click.option("--props", type=options.PATH, metavar="FILE", help="Proposals of the images of DATA.")
@options.split
@click.option(
    "--images", default=200, show_default=True, type=click.IntRange(1), help="Maximum number of images of DATA."
)
@options.classes
@options.bad_boxes
@options.size_mismatch
@options.device
@options.force
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: Path,
    output: Path,
    ranks: tuple[str, ...],
    energy: float | None,
    max_drop: float | None,
    data: str | None,
    props: Path | None,
    split: str | None,
    images: int,
    classes: str | None,
    bad_boxes: str,
    size_mismatch: str,
    device: str,
    force: bool,
    as_json: bool,
) -> None:
    """Make MODEL faster by truncated SVD of its hidden layers.

    Each layer of size IN x OUT is replaced by two, IN x R and R x OUT. The result is a model like any other. With
    --data and --props, mAP is measured before and after. The times printed are per image, from conv map to
    scores.

    \b
    frcnn compress runs/my -o fast.safetensors --rank fc6=1024 --rank fc7=256
    frcnn compress runs/my -o fast.safetensors --energy 0.9
    frcnn compress runs/my -o fast.safetensors --max-drop 0.3 --data voc:my-data --props props.h5
    """
    console: Console = ctx.obj
    if sum(given is not None for given in (ranks or None, energy, max_drop)) != 1:
        raise click.UsageError("Give one of --rank, --energy and --max-drop.")
    if (data is None) != (props is None) or (max_drop is not None and data is None):
        raise click.UsageError("mAP needs both --data and --props.")
    for name in ("split", "images", "classes") if data is None else ():
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} needs --data and --props.")
    wanted = _parse_ranks(ranks)
    model = models.model_file(model)
    arguments.check_output(output, force, (".safetensors",), model)

    from frcnn_cli.detector.detector import Detector
    from frcnn_cli.inference.compress import compress, map_samples

    detector = Detector.load(model, device)
    samples = []
    if data and props:
        dataset = arguments.dataset(data, split, bad_boxes, classes, arguments.images_in(props), size_mismatch)
        samples = map_samples(detector, dataset, props, images, bad_boxes, console)
    drop = None if max_drop is None else max_drop / 100
    made = compress(detector, ranks=wanted or None, energy=energy, max_drop=drop, samples=samples, progress=console)
    made.detector.save(output)
    console.json(_as_json(output, made)) if as_json else _print(console, output, made)


def _parse_ranks(pairs: tuple[str, ...]) -> dict[str, int]:
    ranks: dict[str, int] = {}
    for pair in pairs:
        name, _, rank = pair.partition("=")
        if not rank.isdigit():
            raise click.UsageError(f"--rank {pair}: write LAYER=R, for example fc6=1024.")
        if name in ranks:
            raise click.UsageError(f"--rank {name} is given twice.")
        ranks[name] = int(rank)
    return ranks


def _as_json(output: Path, made: Compression) -> dict[str, Any]:
    slow, fast = made.milliseconds
    before, after = made.mean_ap or (None, None)
    return {
        "output": str(output),
        "ranks": made.ranks,
        "before": {"milliseconds": round(slow, 2), "map": before},
        "after": {"milliseconds": round(fast, 2), "map": after},
        "images": made.images,
    }


def _print(console: Console, output: Path, made: Compression) -> None:
    from frcnn_cli.inference.compress import describe

    rows = [
        (f"{name} {i} x {o}, million multiplications", f"{i * o / 1e6:.2f}", f"{made.ranks[name] * (i + o) / 1e6:.2f}")
        for name, (i, o) in made.sizes.items()
    ]
    slow, fast = made.milliseconds
    per = "per image" if made.images else "for 2,000 random RoIs"
    rows.append((f"milliseconds from conv map to scores, {per}", f"{slow:.1f}", f"{fast:.1f}"))
    if made.mean_ap is not None:
        before, after = made.mean_ap
        rows.append((f"mAP, {made.images} images", f"{before:.4f}", f"{after:.4f}"))
    console.table(("", "before", "after"), rows, title=f"{output}: {describe(made.ranks)}")
