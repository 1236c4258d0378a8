"""frcnn demo: the whole chain on a data set made on the spot."""

from __future__ import annotations

import shlex
import shutil
import time
from pathlib import Path

import click

from frcnn_cli.cli import options
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display

_TRAINING = (
    "--backbone small --weights none --epochs 12 --lr 0.02 --schedule cosine --warmup 50"
    " --background-iou 0 0.5 --short-side 0 --set network.dropout=0.2"
)


@click.command(cls=Command)
@click.option(
    "-o", "--output", type=options.PATH, default=Path("frcnn-demo"), show_default=True, help="Folder for everything."
)
@click.option("--force", is_flag=True, help="Begin anew if the folder exists.")
@click.pass_obj
def command(display: Display, output: Path, force: bool) -> None:
    """See it all work, in three minutes.

    Makes a small data set, then runs the real commands on it, one after the other. Ends with the AP table, and
    pictures of detections (DIR/detections.jpg).

    \b
    frcnn demo
    frcnn demo -o /tmp/demo
    """
    from frcnn_cli.data.synthetic import CLASSES, make_dataset
    from frcnn_cli.errors import OutputExistsError

    if output.exists():
        if not force:
            raise OutputExistsError(output)
        if not (output / "data" / "Annotations").is_dir():
            raise click.UsageError(f"{output} is not a demo's folder; choose another with -o.")
        shutil.rmtree(output)
    started = time.perf_counter()
    data = output / "data"
    display.result(f"Making a data set in VOC layout: {data} ({', '.join(CLASSES)})")
    make_dataset(data)
    spec = f"voc:{data}"
    run = str(output / "run")
    props, props_test, feats, scores, dets = (
        str(output / f"{name}.h5") for name in ("props", "props-test", "feats", "scores", "dets")
    )
    test = (data / "ImageSets" / "Main" / "test.txt").read_text().split()
    (output / "some.txt").write_text("".join(f"data/JPEGImages/{key}.jpg\n" for key in test[:8]))
    for line in (
        ["proposals", spec, "--split", "trainval", "-o", props],
        ["proposals", spec, "--split", "test", "-o", props_test],
        ["recall", props_test, "--data", spec, "--split", "test"],
        ["train", "--data", spec, "--props", props, "-o", run, *_TRAINING.split()],
        ["features", spec, "--split", "test", "--model", run, "-o", feats],
        ["score", feats, "--props", props_test, "--model", run, "-o", scores],
        ["nms", scores, "-o", dets],
        ["eval", dets, "--data", spec, "--split", "test"],
        ["detect", f"@{output}/some.txt", "--model", run, "-o", str(output / "pictures"), "--min-score", "0.5"],
    ):
        _run(display, line)
    _sheet(output / "pictures", output / "detections.jpg")
    display.result(f"\nAll of it took {(time.perf_counter() - started) / 60:.1f} min. The files are in {output}:")
    display.result(f"look at {output}/detections.jpg, or try: frcnn inspect {output}/scores.h5")


def _sheet(folder: Path, path: Path) -> None:
    """One picture of all pictures in a folder."""
    from frcnn_cli.data.decode import read_image
    from frcnn_cli.picture import contact_sheet, save_picture

    pictures = [read_image(file).pixels for file in sorted(folder.rglob("*.jpg"))]
    save_picture(contact_sheet(pictures, columns=4), path)


def _run(display: Display, line: list[str]) -> None:
    """Runs one command as a user would type it."""
    from frcnn_cli.cli import main

    display.result(f"\n$ frcnn {shlex.join(line)}")
    code = main.main(line + (["--quiet"] if display.quiet else []), prog_name="frcnn", standalone_mode=False)
    if code:
        raise click.exceptions.Exit(code)
