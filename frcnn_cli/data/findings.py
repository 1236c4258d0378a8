"""What is wrong with labels: one finding per problem, with its fix."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from frcnn_cli.core.boxes import are_fractions, in_blocks, iou
from frcnn_cli.core.errors import listed
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.core.names import clean, stem
from frcnn_cli.data.labels import LabelledImage, Labels, all_boxes, has_area

_NEARLY_SAME = 0.9  # IoU of boxes that probably mark the same object
_WRAPPED = 60_000  # pixels: negative numbers stored in 16 bits wrap around to more than this
_SIMILAR = 0.8  # minimum ratio, by difflib, of two names of which one may be misspelt
_RARE = 0.1  # a similar name with at most this fraction of the objects is taken for a misspelling


class Finding(NamedTuple):
    """level: an "error" harms training or evaluation, a "warning" may. file, object: where. fix: what to do."""

    level: Literal["error", "warning"]
    kind: str
    file: str
    object: str
    what: str
    fix: str


def lint_labels(splits: Sequence[Labels], records: Mapping[Path, ImageRecord | str]) -> list[Finding]:
    """Everything that is wrong with a data set.

    Args:
        splits: as annotated.
        records: for each image file its record, or the error text of a file that cannot be read.
    """
    images = {image.ref.path: image for labels in splits for image in labels.images}
    found = [finding for path, image in images.items() for finding in _image(image, records[path])]
    names = Counter(obj.name for image in images.values() for obj in image.objects)
    misspelt = list(_names(names))
    found += misspelt
    found += _whole(splits)
    found += _missing_classes(splits, {finding.object for finding in misspelt})
    found += _duplicates(splits, records)
    return found


def _whole(splits: Sequence[Labels]) -> Iterator[Finding]:
    """Findings on a split as a whole: notes of its reader, numbers that are not pixels, and nothing to learn from."""
    told: set[str] = set()
    for labels in splits:
        for note in labels.notes:
            if note not in told:
                told.add(note)
                fix = "Nothing to do if this is intended"
                yield Finding("warning", "skipped or assumed", labels.name, labels.split, note, fix)
        if are_fractions(all_boxes(labels.images)):
            what = "most boxes are fractions of the image size, not pixels"
            fix = "Multiply them by the width and height of each image"
            yield Finding("error", "fractions", labels.name, labels.split, what, fix)
        objects = [obj for image in labels.images for obj in image.objects]
        reason = "there is no object" if not objects else ""
        if objects and all(obj.crowd for obj in objects):
            reason = f"all {len(objects)} objects are crowds"
        elif objects and all(obj.crowd or obj.difficult for obj in objects):
            reason = f"all {len(objects)} objects are marked difficult"
        if reason:
            fix = "Label single objects; evaluation and training have nothing to find here"
            yield Finding("error", "nothing to learn", labels.name, labels.split, reason, fix)


def _image(image: LabelledImage, record: ImageRecord | str) -> Iterator[Finding]:
    file = str(image.source)
    if isinstance(record, str):
        yield Finding("error", "unreadable", str(image.ref.path), "", record, "Get the file again, or remove it")
        return
    turned = record.orientation >= 5
    size = (float(record.width), float(record.height))
    if turned and image.objects and not image.size_stated:
        what = f"EXIF rotates it (orientation {record.orientation}), and its labels state no size"
        fix = "Check on a picture that the boxes are those of the rotated image"
        yield Finding("warning", "rotated image", file, image.ref.key, what, fix)
    if not image.objects:
        yield Finding(
            "warning", "no objects", file, image.ref.key, "no object is marked", "Nothing to do if the image shows none"
        )
    if image.size is not None and image.size != size:
        written = f"{image.size[0]:g} x {image.size[1]:g}"
        what = f"annotated as {written}, but the image is {record.width} x {record.height}"
        fix = "Write its actual size; if the boxes belong to the annotated one, convert them with --size-mismatch scale"
        if turned and image.size == size[::-1]:
            what, fix = f"annotated as {written}, its size before EXIF rotated it", "Annotate the image as it is shown"
        yield Finding("error", "other size", file, image.ref.key, what, fix)
    if image.file_name and stem(clean(image.file_name).rpartition("/")[2]) != stem(image.ref.path.name):
        what = f"it names the picture {image.file_name}"
        fix = "Check that the boxes belong to this image; frcnn goes by the name of the annotation"
        yield Finding("warning", "other picture", file, image.ref.key, what, fix)
    fits_upright = all(_inside(obj.box, size) for obj in image.objects)
    fits_as_stored = all(_inside(obj.box, size[::-1]) for obj in image.objects)
    if turned and not fits_upright and fits_as_stored:
        yield Finding(
            "error",
            "rotated image",
            file,
            image.ref.key,
            f"its boxes match the image as stored, not as rotated by EXIF (orientation {record.orientation})",
            "Rotate the boxes, or store the image upright",
        )
        return
    for (name, box), times in Counter((obj.name, obj.box) for obj in image.objects).items():
        if times > 1:
            corners = " ".join(f"{v:g}" for v in box)
            what = f"the same object is marked {times} times"
            yield Finding(
                "error",
                "object twice",
                file,
                f"{name} {corners}",
                what,
                "Remove the copies: a detection finds only one of them",
            )
    yield from _near_duplicates(image)
    for obj in image.objects:
        x1, y1, x2, y2 = obj.box
        if max(obj.box) > _WRAPPED:
            fix = "A corner below 0 was stored in 16 bits: write 1 instead"
            yield Finding("error", "wrapped box", file, obj.written, "a corner has wrapped around", fix)
        elif not has_area(obj, image.min_side):
            how = "inverted" if x2 < x1 or y2 < y1 else "without area"
            yield Finding("error", "no area", file, obj.written, f"the box is {how}", "Draw it again, or remove it")
        elif x1 >= size[0] or y1 >= size[1] or x2 <= 0 or y2 <= 0:
            yield Finding("error", "outside", file, obj.written, "the box lies outside its image", "Remove it")
        elif not _inside(obj.box, size):
            beyond = max(-x1, -y1, x2 - size[0], y2 - size[1])
            what = f"the box reaches {beyond:g} pixel(s) outside its image"
            yield Finding("error", "outside", file, obj.written, what, "Clip it, or pass --bad-boxes fix")


def _near_duplicates(image: LabelledImage) -> Iterator[Finding]:
    """Boxes of one class that nearly coincide."""
    for name in dict.fromkeys(obj.name for obj in image.objects):
        same = list({obj.box: obj for obj in image.objects if obj.name == name and not obj.crowd}.values())
        boxes = np.array([obj.box for obj in same]).reshape(-1, 4)
        for rows in in_blocks(len(same), len(same)):
            overlaps = iou(boxes[rows], boxes)
            overlaps[np.arange(len(same)) >= np.arange(len(same))[rows, None]] = 0  # each pair once
            for i, j in enumerate(overlaps.argmax(axis=1).tolist()):
                if overlaps[i, j] >= _NEARLY_SAME:
                    what = f"it nearly coincides with {same[j].written} (IoU {overlaps[i, j]:.2f})"
                    fix = "Remove one if they mark the same object"
                    yield Finding(
                        "warning", "near duplicate", str(image.source), same[rows.start + i].written, what, fix
                    )


def _inside(box: Sequence[float], size: tuple[float, float], slack: float = 0.1) -> bool:
    return min(box[0], box[1]) >= -slack and box[2] <= size[0] + slack and box[3] <= size[1] + slack


def _names(names: Counter[str]) -> Iterator[Finding]:
    """Rare names that are similar to a common one."""
    by_count = [name for name, _ in names.most_common()]
    for i, rare in enumerate(by_count):
        for common in by_count[:i]:
            same = rare.casefold().strip(" _-") == common.casefold().strip(" _-")
            swapped = sorted(rare.casefold()) == sorted(common.casefold())
            if same or (names[rare] <= _RARE * names[common] and (swapped or _similar(rare, common))):
                what = f"{names[rare]} object(s) of {rare!r}, {names[common]} of {common!r}"
                yield Finding("error", "misspelt class", "", rare, what, f"Is it {common!r}? Rename one")
                break


def _similar(first: str, second: str) -> bool:
    matcher = SequenceMatcher(None, first.casefold(), second.casefold())
    bounds = matcher.real_quick_ratio(), matcher.quick_ratio()  # not smaller than the ratio
    return min(bounds) >= _SIMILAR and matcher.ratio() >= _SIMILAR


def _missing_classes(splits: Sequence[Labels], but: set[str]) -> Iterator[Finding]:
    everywhere = {obj.name for labels in splits for image in labels.images for obj in image.objects}
    for labels in splits:
        here = {obj.name for image in labels.images for obj in image.objects}
        for name in sorted(everywhere - here - but):
            what = f"split {labels.split} has no object of it"
            yield Finding("warning", "missing class", "", name, what, "It has no AP there; move some images")


def _duplicates(splits: Sequence[Labels], records: Mapping[Path, ImageRecord | str]) -> Iterator[Finding]:
    """The same image twice in a split, or in two splits of which neither contains the other."""
    members: dict[str, set[Path]] = defaultdict(set)
    called: dict[tuple[str, str], set[Path]] = defaultdict(set)  # by split and key
    for labels in splits:
        members[labels.split] |= {image.ref.path for image in labels.images}
        for image in labels.images:
            called[labels.split, image.ref.key].add(image.ref.path)
    for (split, key), files in called.items():
        if len(files) > 1:
            what = f"{len(files)} images of split {split} are called {key!r}: {listed(sorted(map(str, files)), 4)}"
            yield Finding("error", "shared name", "", key, what, "Rename one: results are stored by name")
    by_content: dict[str, list[tuple[str, LabelledImage]]] = defaultdict(list)
    for labels in splits:
        for image in labels.images:
            record = records[image.ref.path]
            if not isinstance(record, str):
                by_content[record.digest].append((labels.split, image))
    for places in by_content.values():
        paths = {image.ref.path for _, image in places}
        if len(paths) > 1:
            where = ", ".join(f"{image.ref.key} ({split})" for split, image in places)
            across = len({split for split, _ in places}) > 1
            what = f"these are the same image: {where}"
            fix = "Keep it in one split: testing on training images proves nothing" if across else "Keep only one"
            yield Finding("error" if across else "warning", "duplicate", str(places[0][1].ref.path), "", what, fix)
    for first, second in _pairs(sorted(members)):
        shared = members[first] & members[second]
        part_of = members[first] <= members[second] or members[second] <= members[first]
        if shared and not part_of:
            what = f"{len(shared)} image(s) are in {first} and in {second}, e.g. {min(shared).stem}"
            yield Finding("error", "shared image", "", "", what, "Keep each in one of them")


def _pairs(names: Sequence[str]) -> Iterable[tuple[str, str]]:
    return ((a, b) for i, a in enumerate(names) for b in names[i + 1 :])
