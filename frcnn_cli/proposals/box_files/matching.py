"""Which entry of a box file belongs to which image."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from frcnn_cli.core.errors import MismatchError
from frcnn_cli.core.image import ImageRef


class Names:
    """Finds the entry of an image by name.

    An entry belongs to an image if its name equals the key of the image, or the end of its key or path, with or without
    the file's ending (`b/1.jpg`, `1.jpg` and `1` are entries of `.../b/1.jpg`; `a/1.jpg` is not); the longest such name
    is used. A number belongs to the image whose file name is that number: `4` to `000004.jpg`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.exact = {name: i for i, name in enumerate(names)}
        self.by_parts = {(p.with_suffix("") if p.name else p).parts: i for i, p in enumerate(map(Path, names))}
        self.by_parts |= {Path(name).parts: i for i, name in enumerate(names)}
        self.by_number = {int(name): i for i, name in enumerate(names) if _is_number(name)}

    def find(self, key: str, path: Path | None) -> int | None:
        """The index of the image's entry, or None."""
        if key in self.exact:
            return self.exact[key]
        for place in (Path(key), *([path.absolute()] if path else [])):
            for parts in (place.parts, place.with_suffix("").parts):
                for start in range(len(parts)):
                    if parts[start:] in self.by_parts:
                        return self.by_parts[parts[start:]]
        stem = Path(key).stem
        return self.by_number.get(int(stem)) if _is_number(stem) else None


def match(names: Sequence[str], refs: Sequence[ImageRef]) -> tuple[list[int | None], str]:
    """The entry of each image, and how they were matched, for people.

    Of the images and entries that `Names` does not match, if names are unique on both sides, the file name without its
    folder is compared (the entry was written on another machine: `/data/voc/000004.jpg`), then COCO's number (`42`
    belongs to `COCO_val2014_000000000042`). If some entries match by name, the others are compared only if they are
    absolute paths: the folders of a relative path mean something.

    Raises:
        MismatchError: no image has an entry, or two images have the same one.
    """
    table = Names([name.replace("\\", "/") for name in names])
    found = [table.find(ref.key, ref.file) for ref in refs]
    how = ["by name"] if any(i is not None for i in found) else []
    for bare, called in ((_stem, "by file name, ignoring folders"), (_number, "by the number at the end of the name")):
        rest = [n for n, i in enumerate(found) if i is None]
        taken = set(found)
        free = [i for i in range(len(names)) if i not in taken and (not how or _is_absolute(names[i]))]
        entries = _unique([bare(names[i]) for i in free])
        if rest and entries is not None and _unique([bare(refs[n].key) for n in rest]) is not None:
            for n in rest:
                at = entries.get(bare(refs[n].key))
                found[n] = None if at is None else free[at]
            if any(found[n] is not None for n in rest):
                how.append(called)
    if all(i is None for i in found):
        raise MismatchError(
            f"none of its {len(names)} entries matches any of the {len(refs)} images (for example, entry"
            f" {names[0] if names else 'nothing'!r}, image {refs[0].key if refs else 'nothing'!r})",
            "Use --split to name the split that the file was made from, or name the folder of its images",
        )
    owners = defaultdict(list)
    for ref, i in zip(refs, found, strict=True):
        owners[i].append(ref.key)
    for i, keys in owners.items():
        if i is not None and len(keys) > 1:
            raise MismatchError(
                f"its entry {names[i]!r} matches {len(keys)} images, {keys[0]!r} and {keys[1]!r}",
                "Write more of each image's path into the file",
            )
    return found, ", otherwise ".join(how)


def _is_absolute(name: str) -> bool:
    """Whether a name is an absolute path, of any system, or a URL."""
    return name.startswith(("/", "\\")) or re.match(r"[a-zA-Z]:[\\/]|[a-z][a-z0-9+.-]+://", name) is not None


def _is_number(name: str) -> bool:
    return name.isdecimal() and len(name) < 19


def _unique(names: list[str]) -> dict[str, int] | None:
    table = {name: i for i, name in enumerate(names)}
    return table if len(table) == len(names) else None


def _stem(name: str) -> str:
    return Path(name.replace("\\", "/")).stem


def _number(name: str) -> str:
    """A number without leading zeros, from a name that is a number or ends in twelve digits as COCO's names do."""
    stem = _stem(name)
    digits = stem if stem.isdecimal() else stem[-12:]
    return digits.lstrip("0") or "0" if digits.isdecimal() and len(digits) in (len(stem), 12) else stem
