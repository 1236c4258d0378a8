"""frcnn recall: what proposals are worth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.cli import options, resolve
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display

if TYPE_CHECKING:
    from frcnn_cli.annotations import GroundTruth
    from frcnn_cli.image import ImageRecord
    from frcnn_cli.proposals.recall import Coverage, Recall

_COLUMNS = ("recall 0.5", "recall 0.7", "AR", "best overlap", "ceiling")


@click.command(cls=Command)
@click.argument("props", nargs=-1, required=True, type=options.PATH, metavar="PROPS...")
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="The objects: voc:DIR (VOC layout), voc (found in $FRCNN_DATA or ./data), or a proposals file, whose boxes are"
    " the objects then.",
)
@click.option("--split", default=None, metavar="NAME", help="Split of the data set. Default: test.")
@click.option(
    "--boxes", default="10,50,100,200,500,1000,2000", show_default=True, metavar="N,N", help="Numbers of boxes kept."
)
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(["class", "size", "iou"]),
    help="A table more, at the largest number of boxes: of each class, of COCO's sizes, or at each IoU.",
)
@click.option(
    "--plot",
    type=options.PATH,
    default=None,
    metavar="FILE",
    help="Draw recall against the number of boxes and against IoU: .png, .svg or .pdf.",
)
@options.classes
@options.bad_boxes
@options.force
@options.as_json
@click.pass_obj
def command(
    display: Display,
    props: tuple[Path, ...],
    data: str,
    split: str | None,
    boxes: str,
    by: tuple[str, ...],
    plot: Path | None,
    classes: str | None,
    bad_boxes: str,
    force: bool,
    as_json: bool,
) -> None:
    """Tell how well boxes cover the objects.

    By the number of boxes of PROPS that are kept; several files side by side.

    \b
    kept          boxes an image, on average: those that it has, at most so many
    recall 0.5    share of objects that some box covers with IoU 0.5 or more
    AR            average recall: mean of the recall at IoU 0.5, 0.55, ..., 0.95
    best overlap  mean over objects of the best IoU
    ceiling       the mAP that a perfect classifier of these boxes, as they are, would reach (IoU 0.5)

    \b
    frcnn recall props.h5 --data voc:VOCdevkit/VOC2007 --split test
    frcnn recall a.h5 b.h5 --data voc:my-data --boxes 100,2000 --by class --by size --plot recall.png
    frcnn recall ours.h5 --data theirs.h5
    """
    from frcnn_cli.errors import DataError, OutputExistsError
    from frcnn_cli.proposals.recall import NoObjectsError, cover

    counts = _counts(boxes)
    if plot is not None:
        if plot.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise click.UsageError(f"--plot {plot}: it ends in none of .png .svg .pdf.")
        resolve.must_differ(plot, *props)
        if plot.exists() and not force:
            raise OutputExistsError(plot)
    if data.endswith(".h5") and (split or classes or "class" in by):
        raise click.UsageError("--split, --classes and --by class go with a data set: a proposals file has no classes.")
    target = _Target(data, split or "test", bad_boxes, classes)
    found: dict[str, Coverage] = {}
    for name, path in zip(_names(props), props, strict=True):
        try:
            found[name] = cover(target.joined(path), counts)
        except NoObjectsError:
            raise DataError(f"{target.name} has no objects", "Name another split") from None
    if plot is not None:
        from frcnn_cli.cli.recall_plot import draw_recall

        draw_recall(found, plot, target.name)
        display.note(f"the plot is in {plot}")
    if as_json:
        display.json({"files": [_as_json(path, c, target) for path, c in zip(props, found.values(), strict=True)]})
        return
    what = str(props[0]) if len(props) == 1 else f"{len(props)} files"
    tables = _Tables(display, found)
    tables.by_count(f"{what} on {target.name}, {target.images} images")
    for kind in dict.fromkeys(by):
        if kind == "iou":
            tables.by_iou()
        else:
            tables.by_group(kind, target)


class _Tables:
    """The tables of one run; with several files, each line names its file."""

    def __init__(self, display: Display, found: dict[str, Coverage]) -> None:
        self.display = display
        self.found = found
        self.file = ("file",) if len(found) > 1 else ()
        self.most = next(iter(found.values())).counts[-1]

    def by_count(self, title: str) -> None:
        lines = {name: coverage.figures() for name, coverage in self.found.items()}
        rows = [
            (str(line.count), *self._name(name), f"{line.mean_boxes:.0f}", *_figures(line))
            for of_count in zip(*lines.values(), strict=True)
            for name, line in zip(lines, of_count, strict=True)
        ]
        self.display.table(("boxes", *self.file, "kept", *_COLUMNS), rows, title=title, left=1 + len(self.file))

    def by_group(self, kind: str, target: _Target) -> None:
        from frcnn_cli.proposals.recall import SIZES

        rows = []
        for group in target.classes if kind == "class" else SIZES:
            for name, coverage in self.found.items():
                line = _of_group(coverage, kind, group, target)
                if line is not None:
                    rows.append((group, *self._name(name), str(line.objects), *_figures(line)))
        self.display.table(
            (kind, *self.file, "objects", *_COLUMNS),
            rows,
            title=f"of each {kind}, {self.most} boxes",
            left=1 + len(self.file),
        )

    def by_iou(self) -> None:
        from frcnn_cli.proposals.recall import THRESHOLDS

        rows = [(name, *(f"{r:.3f}" for r in coverage.at_iou()[-1])) for name, coverage in self.found.items()]
        heads = ("file", *(f"{t:.2f}" for t in THRESHOLDS))
        self.display.table(heads, rows, title=f"recall at IoU, {self.most} boxes")

    def _name(self, name: str) -> tuple[str, ...]:
        return (name,) if self.file else ()


def _of_group(coverage: Coverage, kind: str, group: str, target: _Target) -> Recall | None:
    """The figures of a class or size at the largest number of boxes; None where it has no objects."""
    which = coverage.of_class(target.classes.index(group)) if kind == "class" else coverage.of_size(group)
    return coverage.figures(which)[-1] if which.any() else None


def _as_json(path: Path, coverage: Coverage, target: _Target) -> dict[str, Any]:
    from frcnn_cli.proposals.recall import SIZES, THRESHOLDS

    groups = {
        kind: {group: _of_group(coverage, kind, group, target) for group in names}
        for kind, names in (("class", target.classes), ("size", SIZES))
    }
    return {
        "props": str(path),
        "images": target.images,
        "recall": [asdict(line) for line in coverage.figures()],
        "iou": {f"{t:.2f}": float(r) for t, r in zip(THRESHOLDS, coverage.at_iou()[-1], strict=True)},
        **{kind: {name: asdict(line) for name, line in lines.items() if line} for kind, lines in groups.items()},
    }


def _counts(boxes: str) -> list[int]:
    try:
        counts = sorted({int(text) for text in boxes.split(",")})
        if counts[0] < 1:
            raise ValueError
    except ValueError:
        raise click.BadParameter(f"{boxes!r} is not a list of numbers from 1", param_hint="--boxes") from None
    return counts


def _names(props: tuple[Path, ...]) -> list[str]:
    """What to call the files: their names, with as many folders as tell them apart."""
    for parts in range(1, 10):
        names = ["/".join(path.parts[-parts:]) for path in props]
        if len(set(names)) == len(names):
            return names
    raise click.UsageError(f"{next(p for p in props if props.count(p) > 1)} is named twice.")


def _figures(line: Recall) -> tuple[str, ...]:
    values = (line.recall_50, line.recall_70, line.average_recall, line.average_best_overlap, line.ceiling)
    return tuple(f"{value:.3f}" for value in values)


class _Target:
    """The objects to cover: of a data set, or the boxes of another proposals file."""

    def __init__(self, data: str, split: str, bad_boxes: str, classes: str | None) -> None:
        from frcnn_cli.data.decode import digest_file
        from frcnn_cli.data.identify import records
        from frcnn_cli.data.spec import named

        self.name = data
        self.bad_boxes = bad_boxes
        self.classes: tuple[str, ...] = ()
        if data.endswith(".h5"):
            self.records, self.dataset = self._read_boxes(Path(data))
        else:
            self.dataset = resolve.data_set(data, split, bad_boxes, classes)
            self.records = records(self.dataset.refs, digest_file)
            self.classes = self.dataset.classes
            self.name = named(data, split)
        self.images = len(self.records)

    def _read_boxes(self, path: Path) -> tuple[list[ImageRecord], Any]:
        import numpy as np

        from frcnn_cli.annotations import GroundTruth
        from frcnn_cli.store.reader import StageFile
        from frcnn_cli.store.schema import PROPOSALS

        with StageFile(path, PROPOSALS) as file:
            truths = [GroundTruth(a["boxes"], np.zeros(len(a["boxes"]), np.int64)) for _, a in file]
            return list(file.images), truths

    def joined(self, props: Path) -> list[tuple[Any, GroundTruth]]:
        """Of every image the boxes of a proposals file, and the objects."""
        from frcnn_cli.store.join import join
        from frcnn_cli.store.reader import StageFile
        from frcnn_cli.store.schema import PROPOSALS

        with StageFile(props, PROPOSALS) as file:
            rows = join(self.records, file.images, self.name, str(props))
            if isinstance(self.dataset, list):
                truths = self.dataset
            else:
                dataset = self.dataset.within([file.images[row] for row in rows], self.bad_boxes)
                truths = [sample.truth for sample in dataset.samples]
            return [(file[row]["boxes"], truth) for row, truth in zip(rows, truths, strict=True)]
