"""frcnn compress: a model -> a smaller, faster one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from frcnn_cli.cli import options, resolve
from frcnn_cli.cli.command import NetworkCommand
from frcnn_cli.cli.display import Display

if TYPE_CHECKING:
    from frcnn_cli.compression import Scene
    from frcnn_cli.model import Detector


@click.command(cls=NetworkCommand)
@click.argument("model", type=options.PATH)
@click.option(
    "-o",
    "--output",
    type=options.PATH,
    required=True,
    metavar="OUT",
    help="Model file to write, e.g. fast.safetensors.",
)
@click.option(
    "--rank", "ranks", multiple=True, metavar="LAYER=R", help="Rank of fc6 or fc7; the paper's: fc6=1024, fc7=256."
)
@click.option(
    "--energy",
    type=options.Number(0, 1, min_open=True),
    help="Smallest ranks that keep this share of the squared singular values.",
)
@click.option(
    "--max-drop",
    type=options.Number(0),
    metavar="POINTS",
    help="Smallest ranks whose mAP is at most so many points (of 100) lower; needs --data and --props.",
)
@click.option("--data", metavar="DATA", help="Data set to measure mAP on: voc:DIR.")
@click.option("--props", type=options.PATH, metavar="FILE", help="Proposals of its images.")
@click.option("--split", default="val", show_default=True, metavar="NAME", help="Split of the data set.")
@click.option(
    "--images", default=200, show_default=True, type=click.IntRange(1), help="Measure on at most so many of its images."
)
@options.classes
@options.bad_boxes
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
    split: str,
    images: int,
    classes: str | None,
    bad_boxes: str,
    device: str,
    force: bool,
    as_json: bool,
) -> None:
    """Make MODEL faster by truncated SVD of its hidden layers.

    Each layer of size IN x OUT becomes two, IN x R and R x OUT. The result is a model like any other. With --data and
    --props mAP is measured before and after; milliseconds are of an image, from its conv map to its scores.

    \b
    frcnn compress runs/my -o fast.safetensors --rank fc6=1024 --rank fc7=256
    frcnn compress runs/my -o fast.safetensors --energy 0.9
    frcnn compress runs/my -o fast.safetensors --max-drop 0.3 --data voc:my-data --props props.h5
    """
    from frcnn_cli.compression import Compressor, made_up_scene, mean_ap, milliseconds
    from frcnn_cli.errors import FrcnnError, OutputExistsError
    from frcnn_cli.model import Detector

    display: Display = ctx.obj
    if sum(given is not None for given in (ranks or None, energy, max_drop)) != 1:
        raise click.UsageError("Give one of --rank, --energy and --max-drop.")
    if (data is None) != (props is None) or (max_drop is not None and data is None):
        raise click.UsageError("mAP needs both --data and --props.")
    for name in ("split", "images", "classes") if data is None else ():
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} goes with --data and --props.")
    wanted = _parsed(ranks)
    if output.is_dir() or output.suffix == ".h5":
        raise click.UsageError(f"-o {output}: name a model file to write, for example fast.safetensors.")
    resolve.must_differ(output, model / "model.safetensors" if model.is_dir() else model)
    if output.exists() and not force:
        raise OutputExistsError(output)
    detector = Detector.load(model, device)
    compressor = Compressor(detector)
    scenes = _scenes(display, detector, data, props, split, classes, images, bad_boxes) if data and props else []

    def reached(of: Detector, what: str) -> float:
        with display.progress(what, len(scenes)) as bar:
            return mean_ap(of, scenes, bar.advance)

    before = reached(detector, "before") if scenes else None
    if energy is not None:
        wanted = compressor.ranks_for(energy)
    elif max_drop is not None and before is not None:
        full = before

        def tell(trial: Mapping[str, int], found: float) -> None:
            display.note(f"{_told(trial)}: mAP {found:.4f} ({100 * (found - full):+.2f} points)")

        wanted = compressor.smallest_ranks(lambda made: reached(made, "trying"), full - max_drop / 100, tell)
    if not wanted:
        bound = "--energy" if energy is not None else "--max-drop"
        fix = "lower" if energy is not None else "larger"
        raise FrcnnError(
            f"no layer can be made smaller within this {bound}", f"Write a {fix} {bound}, or name a --rank"
        )
    made = compressor.compressed(wanted)
    after = reached(made, "after") if scenes else None
    slow, fast = milliseconds((detector, made), scenes[:20] or [made_up_scene(detector)] * 5)
    made.save(output)
    sizes = {name: (one.in_features, one.out_features) for name in wanted for one in [compressor.layer(name)]}
    if as_json:
        display.json(
            {
                "output": str(output),
                "ranks": wanted,
                "before": {"milliseconds": round(slow, 2), "map": before},
                "after": {"milliseconds": round(fast, 2), "map": after},
                "images": len(scenes),
            }
        )
        return
    rows = [
        (f"{name} {i} x {o}, million multiplications", f"{i * o / 1e6:.2f}", f"{wanted[name] * (i + o) / 1e6:.2f}")
        for name, (i, o) in sizes.items()
    ]
    on = "an image" if scenes else "2,000 random RoIs"
    rows.append((f"milliseconds, conv map to scores, {on}", f"{slow:.1f}", f"{fast:.1f}"))
    if before is not None and after is not None:
        rows.append((f"mAP, {len(scenes)} images", f"{before:.4f}", f"{after:.4f}"))
    display.table(("", "before", "after"), rows, title=f"{output}: {_told(wanted)}")


def _told(ranks: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={rank}" for name, rank in ranks.items())


def _parsed(pairs: tuple[str, ...]) -> dict[str, int]:
    ranks: dict[str, int] = {}
    for pair in pairs:
        name, _, rank = pair.partition("=")
        if not rank.isdigit():
            raise click.UsageError(f"--rank {pair}: write LAYER=R, for example fc6=1024.")
        if name in ranks:
            raise click.UsageError(f"--rank {name} is given twice.")
        ranks[name] = int(rank)
    return ranks


def _scenes(
    display: Display,
    detector: Detector,
    data: str,
    props: Path,
    split: str,
    classes: str | None,
    most: int,
    bad_boxes: str,
) -> list[Scene]:
    """Conv maps, proposals and objects of at most `most` images, evenly spread over the split."""
    import numpy as np

    from frcnn_cli.compression import Scene
    from frcnn_cli.data.decode import read_image
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import PROPOSALS

    with StageFile(props, PROPOSALS) as file:
        truth, rows = resolve.truth(data, split, bad_boxes, classes, detector.config.classes, file)
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))
        scenes = []
        with display.progress("conv maps", len(chosen)) as bar:
            for i in chosen:
                image = read_image(truth.samples[i].ref.path)
                features, scale = detector.feature_map(image)
                boxes = file[rows[i]]["boxes"]
                scenes.append(Scene(features, boxes, scale, image.height, image.width, truth.samples[i].truth))
                bar.advance()
    return scenes
