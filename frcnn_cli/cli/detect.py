"""frcnn detect: images -> what is in them, in one go."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.cli import options, resolve
from frcnn_cli.cli.command import NetworkCommand
from frcnn_cli.cli.display import Display
from frcnn_cli.cli.failures import Failures

if TYPE_CHECKING:
    from frcnn_cli.annotations import Detections
    from frcnn_cli.boxes import Boxes
    from frcnn_cli.errors import FrcnnError, ImageError
    from frcnn_cli.image import Image, ImageRef


@click.command(cls=NetworkCommand)
@options.images
@options.model
@options.source
@options.settings
@click.option("--show", is_flag=True, help="Open a window; without a display, save the picture and say where.")
@click.option(
    "-o",
    "--output",
    type=options.PATH,
    metavar="OUT",
    help="A folder for pictures; a .jpg or .png, where there is one image; or a .h5 file for detections.",
)
@options.nms_iou
@options.min_score
@options.per_class
@options.max_per_image
@options.refine
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
    sources: tuple[str, ...],
    settings: tuple[str, ...],
    show: bool,
    output: Path | None,
    iou: float | None,
    min_score: float | None,
    per_class: int | None,
    max_per_image: int | None,
    refine: bool | None,
    device: str,
    precision: str,
    dtype: str,
    batch: int | None,
    split: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Detect objects in images: all stages in one go, in memory.

    Proposals are those of the source that the model was trained with, unless --source names another. The detections
    are the same as those of the commands proposals, features, score and nms, unless the recipe has a rule over a whole
    set of images (the paper's has); each image is then by itself, with the thresholds of the authors' later code.

    \b
    frcnn detect img.jpg --show
    frcnn detect img.jpg -o found.jpg
    frcnn detect images/ --model runs/my -o pictures/
    frcnn detect @list.txt --model runs/my -o dets.h5 --min-score 0.5 --json
    """
    from frcnn_cli.cli.reading import read_ahead
    from frcnn_cli.data.behind import Behind
    from frcnn_cli.data.decode import digest_file, read_ref
    from frcnn_cli.data.prefetch import prefetch
    from frcnn_cli.detections.columns import from_columns, to_columns
    from frcnn_cli.detections.nms import detect as detections_from_scores
    from frcnn_cli.errors import FrcnnError, ImageError
    from frcnn_cli.model import Detector
    from frcnn_cli.pipeline import Failed, FeaturePipeline
    from frcnn_cli.proposals.propose import propose
    from frcnn_cli.store.schema import DETECTIONS
    from frcnn_cli.store.writer import StageWriter

    if settings and not sources:
        raise click.UsageError("--set needs --source: options of the model's own source are the model's.")
    to_file = output is not None and output.suffix.lower() == ".h5"
    refs = resolve.images(images, split)
    if show and len(refs) > 20:
        raise click.UsageError(f"--show is for up to 20 images, not {len(refs)}; use -o FOLDER.")
    pictures = _Pictures(display, refs, None if to_file else output, show, force)
    detector = Detector.load(resolve.model(model), device, precision)
    proposer = resolve.source(sources, settings) if sources else detector.source()
    resolve.prepare(proposer)
    if refine is not None:
        detector.set_refine(refine)
    thresholds = options.thresholds(
        detector.thresholds, iou=iou, min_score=min_score, max_per_image=max_per_image, per_class=per_class
    )
    classes = detector.config.classes
    failures = Failures(display)
    found: dict[str, Detections] = {}
    with ExitStack() as stack:
        out = None
        if output is not None and to_file:
            provenance = {
                "classes": list(classes),
                "thresholds": thresholds._asdict(),
                "model": detector.model_id,
                "dtype": dtype,
                "recipe": detector.config.recipe,
                **({"precision": precision} if precision != "float32" else {}),
                "proposals": {"source": proposer.described(), **detector.limits._asdict()},
            }
            out = stack.enter_context(StageWriter(output, DETECTIONS, provenance, force))
        pending = set(out.missing(refs, digest_file)) if out is not None else set(refs)
        behind = stack.enter_context(Behind())
        bar = stack.enter_context(display.progress("detect", len(refs)))
        boxes: dict[str, Boxes] = {}

        def proposed(item: tuple[ImageRef, Image | ImageError]) -> tuple[ImageRef, Image | FrcnnError]:
            """The image with its proposals beside it, made on a thread while the network is at another."""
            ref, image = item
            try:
                if not isinstance(image, ImageError):
                    boxes[ref.key] = propose(image, proposer, detector.limits).boxes
            except FrcnnError as error:
                return ref, error
            return item

        read = read_ahead([ref for ref in refs if ref in pending])
        pipeline = FeaturePipeline(detector, dtype, batch, to_cpu=False)
        for done in pipeline.run(prefetch(proposed, read, threads=1)):
            if isinstance(done, Failed):
                failures.add(done.ref.key, done.error)
            else:
                image = done.image
                with pipeline.also_computing():
                    candidates = boxes.pop(done.ref.key)
                    scores = detector.score(done.features, candidates, done.scale, image.height, image.width)
                detections = detections_from_scores(*scores, thresholds)
                found[done.ref.key] = detections
                if out is not None:
                    behind(out.add, image.record, to_columns(detections))
                behind(pictures.add, image, detections, classes)
            bar.advance()
            bar.say(f"network busy {pipeline.busy:.0%}")
        behind.wait()
        if out is not None:
            for ref in refs:
                if ref not in pending:
                    found[ref.key] = from_columns(out.read(ref.key))
                    if show:
                        pictures.add(read_ref(ref), found[ref.key], classes)
                    bar.advance()
            failures.list_all(len(refs))
            written = out.finish()
            display.note(f"{output}: {written} images, {sum(map(len, found.values()))} detections")
        if len(refs) > 1:
            display.note(f"network busy {pipeline.busy:.0%} of the time")
    _report(display, [(ref.key, found[ref.key]) for ref in refs if ref.key in found], classes, failures, as_json)
    pictures.present()
    if out is None:
        failures.list_all(len(refs))
    failures.end()


class _Pictures:
    """Pictures with boxes drawn: into a folder or a file, into windows, or both."""

    def __init__(self, display: Display, refs: list[ImageRef], output: Path | None, show: bool, force: bool) -> None:
        from frcnn_cli.errors import FrcnnError, OutputExistsError

        self.display, self.show, self.force = display, show, force
        self.output = output
        self.shown: list[tuple[str, Any]] = []
        self.paths = _picture_paths(refs, output) if output is not None else {}
        sources = {ref.path.resolve() for ref in refs}
        for path in self.paths.values():
            if path.resolve() in sources:
                raise FrcnnError(f"{path} is also an input of this command", "Choose another output path")
            if path.exists() and not force:
                raise OutputExistsError(path)

    def add(self, image: Image, detections: Detections, classes: tuple[str, ...]) -> None:
        from frcnn_cli.detections.draw import draw
        from frcnn_cli.picture import save_picture

        if self.output is None and not self.show:
            return
        picture = draw(image.pixels, detections, classes)
        if self.output is not None:
            save_picture(picture, self.paths[image.key])
        if self.show:
            self.shown.append((image.key, picture))

    def present(self) -> None:
        """Opens the windows, or says where the pictures are."""
        from frcnn_cli.cli.window import present

        if self.output is not None:
            self.display.note(f"{'pictures are' if self.output.is_dir() else 'the picture is'} in {self.output}")
        for key, picture in self.shown:
            present(self.display, picture, key, f"{Path(key).stem}-detections", self.force)


def _picture_paths(refs: list[ImageRef], output: Path) -> dict[str, Path]:
    """Where the picture of each key goes: `output` itself, or a .jpg below it; keys that differ in their ending alone
    keep it (a.png.jpg).

    Raises:
        UsageError: `output` is a file that is no picture, or one picture for several images.
    """
    from frcnn_cli.errors import FrcnnError

    if output.suffix and not output.is_dir():
        if output.suffix.lower() not in (".jpg", ".jpeg", ".png"):
            raise click.UsageError(f"-o {output}: OUT is a folder, a .jpg or .png, or a .h5 file for detections.")
        if len(refs) != 1:
            raise click.UsageError(f"-o {output} is one picture, and there are {len(refs)} images: name a folder.")
        return {refs[0].key: output}
    if output.is_file():
        raise FrcnnError(f"{output} is a file", "Name a folder for the pictures")
    keys = {ref.key: Path(*(part for part in Path(ref.key).parts if part not in ("/", ".."))) for ref in refs}
    taken = Counter(path.with_suffix("") for path in keys.values())
    return {
        key: output / (path.with_suffix(".jpg") if taken[path.with_suffix("")] == 1 else f"{path}.jpg")
        for key, path in keys.items()
    }


def _report(
    display: Display, found: list[tuple[str, Detections]], classes: tuple[str, ...], failures: Failures, as_json: bool
) -> None:
    lines = [
        (key, classes[int(label)], float(score), [float(v) for v in box])
        for key, detections in found
        for box, score, label in zip(detections.boxes, detections.scores, detections.labels, strict=True)
    ]
    if as_json:
        by_image: dict[str, list[dict[str, Any]]] = {key: [] for key, _ in found}
        for key, name, score, box in lines:
            by_image[key].append({"class": name, "score": round(score, 6), "box": [round(v, 3) for v in box]})
        images = [{"image": key, "detections": detections} for key, detections in by_image.items()]
        display.json({"images": images, "failed": failures.as_json()})
    elif lines:
        rows = [(key, name, f"{score:.3f}", *(f"{v:.1f}" for v in box)) for key, name, score, box in lines]
        display.table(("image", "class", "score", "x1", "y1", "x2", "y2"), rows)
    elif found:
        display.result(f"nothing found in {len(found)} image(s)")
