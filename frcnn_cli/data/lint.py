"""What is wrong with a data set, found before training on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.boxes import MIN_SIZE, are_fractions
from frcnn_cli.core.decoding import read_image
from frcnn_cli.core.errors import DataError, ImageError, MismatchError, UsageError, listed
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.data.contradictions import Contradiction, contradictions
from frcnn_cli.data.findings import Finding, lint_labels
from frcnn_cli.data.formats.voc_tree import VocTree
from frcnn_cli.data.labels import Labels, Problems, has_area, joined
from frcnn_cli.data.layouts import read_layout
from frcnn_cli.data.load import read_splits, voc_folders
from frcnn_cli.data.pairing import pair_detections
from frcnn_cli.data.small_objects import advice_on_floor
from frcnn_cli.data.spec import is_dataset_spec
from frcnn_cli.store.schema import DETECTIONS, PROPOSALS
from frcnn_cli.store.stage import open_stage
from frcnn_cli.system.prefetch import prefetch


def unreadable(problems: Sequence[DataError]) -> Iterator[Finding]:
    """Errors of files that cannot be read; each once, even if several splits name the file."""
    for problem in dict.fromkeys((error.what, error.fix) for error in problems):
        yield Finding("error", "unreadable", "", "", *problem)


def lint_folder(folder: Path) -> Iterator[Finding]:
    """Findings in a folder in VOC layout: images without annotation, annotations without image, images that no split
    lists, and images that a split lists twice."""
    tree = VocTree(folder)
    listed = {key for split in tree.splits for key in tree.keys(split)}
    for split, key in tree.repeated():
        where = str(folder / "ImageSets" / "Main" / f"{split}.txt")
        yield Finding("warning", "listed twice", where, key, "the split lists it more than once", "It is read once")
    if not tree.listed:
        return
    marked, shown = tree.annotations(""), tree.pictures("")
    # Files that a split lists are reported by `read_splits`.
    for key in sorted(shown.keys() - marked - listed):
        fix = "Annotate it (without objects if there are none), or remove it"
        yield Finding("warning", "no annotation", str(shown[key]), "", "the image has no annotation", fix)
    for key in sorted(marked.keys() - shown - listed):
        fix = "Add the image, or remove the annotation"
        yield Finding("warning", "no image", str(marked[key]), "", "the annotation has no image", fix)
    for key in sorted((marked.keys() & shown) - listed):
        fix = "Add it to a list in ImageSets/Main"
        yield Finding("warning", "in no split", str(shown[key]), "", "no split lists it", fix)


def lint_proposals(
    name: str,
    images: Sequence[ImageRecord],
    counts: NDArray[np.int64],
    splits: Sequence[Labels],
    records: Mapping[Path, ImageRecord | str],
) -> Iterator[Finding]:
    """Findings in a proposals file of the data set: other images, images without boxes, and splits that it holds only
    in part.

    Args:
        images, counts: the images in the file, and the number of boxes of each.
    """
    by_key, by_content = ({getattr(image, part): image for image in images} for part in ("key", "digest"))
    known = {record.digest for record in records.values() if not isinstance(record, str)}
    for image, count in zip(images, counts.tolist(), strict=True):
        if image.digest not in known:
            fix = "Compute the proposals again from the present images"
            yield Finding("error", "other image", name, image.key, "no image of the data set has this content", fix)
        if count == 0:
            yield Finding("warning", "no proposals", name, image.key, "no box", "No object can be detected in it")
    for labels in splits:
        readable = [image.ref for image in labels.images if not isinstance(records[image.ref.path], str)]
        lacking = [
            ref.key
            for ref in readable
            if ref.key not in by_key and records[ref.path].digest not in by_content  # type: ignore[union-attr]
        ]
        if lacking and len(lacking) < len(readable):
            what = f"lacks {len(lacking)} of the {len(readable)} images of split {labels.split}, e.g. {lacking[0]}"
            yield Finding("error", "images missing", name, "", what, "Run frcnn proposals on the whole split")


class LintResult(NamedTuple):
    """images: the number of distinct image files; splits: the number of splits; findings: errors first; layouts: those
    that were recognised; contradictions: labels that the detections contradict, the most confident first."""

    images: int
    splits: int
    findings: list[Finding]
    layouts: list[str]
    contradictions: list[Contradiction]
    files: Mapping[str, Path]

    @property
    def errors(self) -> int:
        return sum(finding.level == "error" for finding in self.findings)


def lint_dataset(
    source: str | Path,
    proposals: Sequence[Path] = (),
    images: str | Path | None = None,
    detections: str | Path | None = None,
    min_score: float = 0.5,
    progress: Progress = SILENT,
) -> LintResult:
    """Checks all splits of a data set, and proposals files of it.

        for finding in lint_dataset("voc:my-data").findings:
            print(finding.file, finding.what, finding.fix)

    Args:
        source: labels in any layout that `read_layout` recognises, or the text that names a data set (see `spec`).
        images: the folder of the images, if it is not that of the labels.
        detections: a detections file of images of the data set, to find labels that it contradicts.
        min_score: detections of a lower score contradict nothing.

    Raises:
        DataError: the data set has no split, or its files cannot be read at all.
    """
    source, images = str(source), None if images is None else Path(images)
    problems: Problems = []
    is_spec = is_dataset_spec(source) and not Path(source).exists()
    if is_spec and images is not None:
        raise UsageError(f"--images has no effect on {source}", "Remove it")
    splits = read_splits(source, problems) if is_spec else read_layout(Path(source), images, problems=problems)
    if not splits and not problems:
        raise DataError(
            f"{source} has no split", "List the names of its images, without endings, in ImageSets/Main/trainval.txt"
        )
    refs = list({image.ref.path: image.ref for labels in splits for image in labels.images}.values())
    records: dict[Path, ImageRecord | str] = {}
    with progress.task("lint", len(refs)) as bar:
        for ref, record in zip(refs, prefetch(_decoded_record, refs), strict=True):
            records[ref.path] = record
            bar.advance()
    found = [*unreadable(problems), *lint_labels(splits, records)]
    for folder in voc_folders(source if is_spec else f"labels:{source}"):
        found += lint_folder(folder)
    floors: dict[float, str] = {}  # the minimum sizes of proposals, and a file that has each
    for path in proposals:
        with open_stage(path, PROPOSALS) as file:
            found += lint_proposals(str(path), file.images, file.counts(), splits, records)
            floors.setdefault(float(file.provenance["min_size"]), str(path))
    for floor, name in (floors or {MIN_SIZE: source}).items():
        found += _lint_sizes(name, splits, floor)
    contradicted = [] if detections is None else _contradictions(splits, Path(detections), min_score, found)
    found.sort(key=lambda finding: (finding.level, finding.kind, finding.file))
    layouts = list(dict.fromkeys(labels.layout for labels in splits if labels.layout))
    files = {image.ref.key: image.ref.path for labels in splits for image in labels.images}
    return LintResult(len(refs), len(splits), found, layouts, contradicted, files)


def _lint_sizes(name: str, splits: Sequence[Labels], min_size: float) -> Iterator[Finding]:
    """A finding if many objects are narrower than the smallest proposals."""
    objects = [obj for labels in splits for image in labels.images for obj in image.objects]
    objects = [obj for obj in objects if has_area(obj, 1) and not obj.difficult]
    boxes = np.array([obj.box for obj in objects], np.float64).reshape(-1, 4)
    if len(boxes) and not are_fractions(boxes):
        sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
        for advice in advice_on_floor([sides], min_size):
            yield Finding("warning", "small objects", name, "", advice.what, advice.fix[0].upper() + advice.fix[1:])


def _contradictions(
    splits: Sequence[Labels], path: Path, min_score: float, found: list[Finding]
) -> list[Contradiction]:
    """The contradictions in the split that a detections file covers; `found` receives what cannot be compared.

    Raises:
        MismatchError: it covers none.
    """
    with open_stage(path, DETECTIONS) as file:
        known = {name for image in file.images for name in (image.key, Path(image.key).stem)}
        classes = file.classes
    by_split: dict[str, list[Labels]] = {}
    for labels in splits:
        by_split.setdefault(labels.split, []).append(labels)
    every = [joined(some) for some in by_split.values()]
    covered = [one for one in every if one.images and {image.ref.key for image in one.images} <= known]
    if not covered:
        raise MismatchError(
            f"{path} does not hold all images of any split ({listed(by_split)})", "Name the detections of a whole split"
        )
    dataset = replace(max(covered, key=lambda one: len(one.images)).dataset("fix"), size_mismatch="scale")
    for name in dataset.classes:
        if name not in classes:
            what, fix = "the detector does not know this class", "Its labels are not compared"
            found.append(Finding("warning", "unknown class", str(path), name, what, fix))
    some = dataset.with_classes(name for name in dataset.classes if name in classes)
    paired = pair_detections(some, path, "fix")
    return contradictions(paired.dataset.truth, paired.detections, paired.dataset.classes, min_score)


def _decoded_record(ref: ImageRef) -> ImageRecord | str:
    """The record of an image that decodes completely (a truncated file has a valid header), or the error text."""
    try:
        return read_image(ref.path).record
    except ImageError as error:
        return error.what
