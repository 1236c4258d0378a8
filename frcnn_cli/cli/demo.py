"""frcnn demo: all stages on a synthetic data set."""

from __future__ import annotations

import shlex
import shutil
import time
from pathlib import Path

import click

from frcnn_cli.cli.common import options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console

_TRAINING = (
    "--backbone small --weights none --epochs 12 --lr 0.02 --schedule cosine --warmup 50"
    " --background-iou 0 0.5 --short-side 0 --set network.dropout=0.2"
)


@click.command(cls=Command)
@click.option(
    "-o", "--output", type=options.PATH, default=Path("frcnn-demo"), show_default=True, help="Folder for all files."
)
@click.option("--force", is_flag=True, help="Start again from scratch if the folder exists.")
@click.pass_obj
def command(console: Console, output: Path, force: bool) -> None:
    """Run everything on synthetic data, in up to three minutes.

    Generates a small data set and runs the actual commands on it, one after the other. The last outputs are the AP
    table and images with detections (DIR/detections.jpg).

    \b
    frcnn demo
    frcnn demo -o /tmp/demo
    """
    from frcnn_cli.core.errors import OutputExistsError
    from frcnn_cli.data.synthetic import CLASSES, make_dataset

    if output.exists():
        if not force:
            raise OutputExistsError(output)
        if not (output / "data" / "Annotations").is_dir():
            raise click.UsageError(f"{output} was not made by frcnn demo; choose another folder with -o.")
        shutil.rmtree(output)
    started = time.perf_counter()
    data = output / "data"
    console.result(f"Generating a data set in VOC layout: {data} ({', '.join(CLASSES)})")
    make_dataset(data)
    spec, run = f"voc:{data}", str(output / "run")
    props, props_test, feats, scores, dets = (
        str(output / f"{name}.h5") for name in ("props", "props-test", "feats", "scores", "dets")
    )
    test = (data / "ImageSets" / "Main" / "test.txt").read_text().split()
    (output / "some.txt").write_text("".join(f"data/JPEGImages/{key}.jpg\n" for key in test[:8]))
    for line in (
        ["proposals", spec, "--split", "trainval", "-o", props],
        ["proposals", spec, "--split", "test", "-o", props_test],
        ["recall", props_test, "--data", spec, "--split", "test"],
        ["train", "--data", spec, "--split", "trainval", "--props", props, "-o", run, *_TRAINING.split()],
        ["features", spec, "--split", "test", "--model", run, "-o", feats],
        ["score", feats, "--props", props_test, "--model", run, "-o", scores],
        ["nms", scores, "-o", dets],
        ["eval", dets, "--data", spec, "--split", "test"],
        ["detect", f"@{output}/some.txt", "--model", run, "-o", str(output / "pictures"), "--min-score", "0.5"],
    ):
        _run(console, line)
    _save_sheet(output / "pictures", output / "detections.jpg")
    console.result(f"\nThe demo took {(time.perf_counter() - started) / 60:.1f} min. Its files are in {output}:")
    console.result(f"open {output}/detections.jpg, or run: frcnn inspect {shlex.quote(str(output / 'scores.h5'))}")


def _save_sheet(folder: Path, path: Path) -> None:
    """One image of all images in a folder."""
    from frcnn_cli.core.decoding import read_image
    from frcnn_cli.core.drawing import contact_sheet
    from frcnn_cli.core.files import save_image

    pictures = [read_image(file).pixels for file in sorted(folder.rglob("*.jpg"))]
    save_image(contact_sheet(pictures, columns=4), path)


def _run(console: Console, line: list[str]) -> None:
    """Runs one command as a user would type it."""
    from frcnn_cli.cli import main

    console.result(f"\n$ frcnn {shlex.join(line)}")
    code = main.main(line + (["--quiet"] if console.quiet else []), prog_name="frcnn", standalone_mode=False)
    if code:
        raise click.exceptions.Exit(code)
