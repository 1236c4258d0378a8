"""Which entry of a box file is which image's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from frcnn_cli.errors import MismatchError
from frcnn_cli.image import ImageRef


class Names:
    """Finds an image's entry among names.

    An entry is the image's if it is the image's key, or the end of its key or path, with or without the file's ending
    (`b/1.jpg`, `1.jpg` and `1` are all entries of `.../b/1.jpg`; `a/1.jpg` is not); the longest such entry is taken.
    A bare number is the entry of the image whose name is that number: `4` of `000004.jpg`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.exact = {name: i for i, name in enumerate(names)}
        self.by_parts = {(p.with_suffix("") if p.name else p).parts: i for i, p in enumerate(map(Path, names))}
        self.by_parts |= {Path(name).parts: i for i, name in enumerate(names)}
        self.by_number = {int(name): i for i, name in enumerate(names) if _is_number(name)}

    def find(self, key: str, path: Path | None) -> int | None:
        """The index of the entry, or None."""
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

    Where no entry fits as `Names` has it, and names are unique on both sides, the file's bare name is enough (the entry
    was made on another machine: `/data/voc/000004.jpg`), or COCO's number (`42` is `COCO_val2014_000000000042`).

    Raises:
        MismatchError: no image has an entry, or two images have the same.
    """
    table = Names(names)
    found = [table.find(ref.key, ref.path) for ref in refs]
    how = "by name"
    for bare, called in ((_stem, "by bare name, whatever the folder"), (_number, "by the number that ends the name")):
        if any(i is not None for i in found):
            break
        entries = _unique([bare(name) for name in names])
        images = _unique([bare(ref.key) for ref in refs])
        if entries is not None and images is not None:
            found = [entries.get(bare(ref.key)) for ref in refs]
            how = called
    if all(i is None for i in found):
        raise MismatchError(
            f"none of its {len(names)} entries is one of the {len(refs)} images: it has for example"
            f" {names[0] if names else 'nothing'!r}, they {refs[0].key if refs else 'nothing'!r}",
            "Name the split that the file was made from with --split, or the folder of its images",
        )
    taken = defaultdict(list)
    for ref, i in zip(refs, found, strict=True):
        taken[i].append(ref.key)
    for i, keys in taken.items():
        if i is not None and len(keys) > 1:
            raise MismatchError(
                f"its entry {names[i]!r} fits {len(keys)} images, {keys[0]!r} and {keys[1]!r}",
                "Write more of each image's path into the file",
            )
    return found, how


def _is_number(name: str) -> bool:
    return name.isdecimal() and len(name) < 19


def _unique(names: list[str]) -> dict[str, int] | None:
    table = {name: i for i, name in enumerate(names)}
    return table if len(table) == len(names) else None


def _stem(name: str) -> str:
    return Path(name.replace("\\", "/")).stem


def _number(name: str) -> str:
    """What a bare number and the twelve digits that end a name of COCO's have in common."""
    stem = _stem(name)
    digits = stem if stem.isdecimal() else stem[-12:]
    return digits.lstrip("0") or "0" if digits.isdecimal() and len(digits) in (len(stem), 12) else stem
