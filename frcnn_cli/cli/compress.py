"""frcnn compress: a model -> a smaller, faster one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from frcnn_cli.cli import options
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
@options.bad_boxes
@options.device
@options.force
@options.as_json
@click.pass_obj
def command(
    display: Display,
    model: Path,
    output: Path,
    ranks: tuple[str, ...],
    energy: float | None,
    max_drop: float | None,
    data: str | None,
    props: Path | None,
    split: str,
    images: int,
    bad_boxes: str,
    device: str,
    force: bool,
    as_json: bool,
) -> None:
    """Make detection faster: hidden layers of MODEL are replaced by truncated SVD.

    Each layer of size IN x OUT becomes two, IN x R and R x OUT. The result is a model like any other. With --data and
    --props mAP is measured before and after; milliseconds are of an image, from its conv map to its boxes.

    \b
    frcnn compress runs/my -o fast.safetensors --rank fc6=1024 --rank fc7=256
    frcnn compress runs/my -o fast.safetensors --energy 0.9
    frcnn compress runs/my -o fast.safetensors --max-drop 0.3 --data voc:my-data --props props.h5
    """
    from frcnn_cli.compression import Compressor, made_up_scene, measure
    from frcnn_cli.errors import FrcnnError, OutputExistsError
    from frcnn_cli.model import Detector

    if sum(bool(way) or way == 0 for way in (ranks or None, energy, max_drop)) != 1:
        raise click.UsageError("Give one of --rank, --energy and --max-drop.")
    if (data is None) != (props is None) or (max_drop is not None and data is None):
        raise click.UsageError("mAP needs both --data and --props.")
    wanted = _parsed(ranks)
    options.must_differ(output, model / "model.safetensors" if model.is_dir() else model)
    if output.exists() and not force:
        raise OutputExistsError(output)
    detector = Detector.load(model, device)
    compressor = Compressor(detector)
    scenes = _scenes(display, detector, data, props, split, images, bad_boxes) if data and props else []
    timed = scenes or [made_up_scene(detector)] * 3

    def measured(of: Detector, what: str):  # type: ignore[no-untyped-def]
        with display.progress(what, len(timed)) as bar:
            return measure(of, timed, bar.advance)

    before = measured(detector, "before")
    if energy is not None:
        wanted = compressor.ranks_for(energy)
    elif max_drop is not None:

        def tell(trial: Mapping[str, int], mean_ap: float) -> None:
            display.note(f"{_told(trial)}: mAP {mean_ap:.4f} ({100 * (mean_ap - before.mean_ap):+.2f})")

        wanted = compressor.smallest_ranks(
            lambda made: measured(made, "trying").mean_ap, before.mean_ap - max_drop / 100, tell
        )
    if not wanted:
        raise FrcnnError("no layer can be made smaller within these bounds", "Allow less energy, or a larger drop")
    made = compressor.compressed(wanted)
    after = measured(made, "after")
    made.save(output)
    sizes = {name: (one.in_features, one.out_features) for name in wanted for one in [compressor.layer(name)]}
    if as_json:
        display.json(
            {
                "output": str(output),
                "ranks": wanted,
                "before": {"milliseconds": round(before.milliseconds, 2), "map": before.mean_ap},
                "after": {"milliseconds": round(after.milliseconds, 2), "map": after.mean_ap},
                "images": len(scenes),
            }
        )
        return
    rows = [
        (f"{name} {i} x {o}, million multiplications", f"{i * o / 1e6:.1f}", f"{wanted[name] * (i + o) / 1e6:.1f}")
        for name, (i, o) in sizes.items()
    ]
    rows.append(("milliseconds, conv map to boxes", f"{before.milliseconds:.0f}", f"{after.milliseconds:.0f}"))
    if scenes:
        rows.append((f"mAP, {len(scenes)} images", f"{before.mean_ap:.4f}", f"{after.mean_ap:.4f}"))
    display.table(("", "before", "after"), rows, title=f"{output}: {_told(wanted)}")


def _told(ranks: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={rank}" for name, rank in ranks.items())


def _parsed(pairs: tuple[str, ...]) -> dict[str, int]:
    ranks = {}
    for pair in pairs:
        name, _, rank = pair.partition("=")
        if not rank.isdigit():
            raise click.UsageError(f"--rank {pair}: write LAYER=R, for example fc6=1024.")
        ranks[name] = int(rank)
    return ranks


def _scenes(
    display: Display, detector: Detector, data: str, props: Path, split: str, most: int, bad_boxes: str
) -> list[Scene]:
    """Conv maps, proposals and objects of at most `most` images, evenly spread over the split."""
    import numpy as np

    from frcnn_cli.compression import Scene
    from frcnn_cli.data.decode import digest_file, read_image
    from frcnn_cli.data.identify import records
    from frcnn_cli.errors import MismatchError
    from frcnn_cli.store.join import join
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import PROPOSALS

    dataset = options.resolve_dataset(data, split, bad_boxes, None)
    unknown = [name for name in dataset.classes if name not in detector.config.classes]
    if unknown:
        raise MismatchError(
            f"{data} has objects of class {unknown[0]!r}, which the model does not know", "Leave it out"
        )
    with StageFile(props, PROPOSALS) as file:
        rows = join(records(dataset.refs, digest_file), file.images, f"{data} {split}", str(props))
        truth = dataset.relabelled(detector.config.classes).within([file.images[row] for row in rows], bad_boxes)
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
