"""Finding a file by a name that another tool, perhaps on another machine, wrote.

A name may be an absolute path, a path with backslashes, a URL, or a name without folders or without its ending. It
means the known file that shares the longest tail of folders with it; if several files share it, the name is ambiguous.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from frcnn_cli.core.decoding import IMAGE_ENDINGS
from frcnn_cli.core.splits import SPLIT_FOLDERS

# Label Studio's: 4f3a12bc-a.jpg. Shorter prefixes need a letter, so that the year in 2008-a.jpg is not one.
_UPLOAD_PREFIX = re.compile(r"(?:[0-9a-f]{8}|(?=[0-9]*[a-f])[0-9a-f]{4,7})-(?=.)")


class AmbiguousNameError(ValueError):
    """A name that could mean several files."""

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(f"{name!r} could be {first} or {second}")


class FileNames:
    """Known files; finds the one that another path or name refers to.

        FileNames(["train/a.jpg", "val/a.jpg"]).find(r"C:\\data\\val\\a.jpg")  # "val/a.jpg"

    Args:
        paths: relative to one folder, with slashes.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = list(paths)
        self._exact = {_normal(path): path for path in self.paths}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            name = PurePosixPath(_normal(path)).name.casefold()
            self._by_name[name].append(path)
            self._by_stem[stem(name)].append(path)

    def find(self, written: str) -> str | None:
        """The file that a name means, or None.

        Raises:
            AmbiguousNameError: it could be several.
        """
        name = clean(written)
        if name in self._exact:
            return self._exact[name]
        last = PurePosixPath(name).name
        for table, wanted in (
            (self._by_name, last),
            (self._by_stem, last),  # a name without an ending
            (self._by_name, stem(last)),  # a known name without an ending
            (self._by_name, _UPLOAD_PREFIX.sub("", last, count=1)),
        ):
            found = [path for path in table.get(wanted.casefold(), []) if not _contradicts(name, path)]
            same_case = [path for path in found if PurePosixPath(_normal(path)).name.startswith(wanted)]
            if found:
                return self._closest(written, name, same_case or found)
        return None

    def _closest(self, written: str, name: str, candidates: list[str]) -> str:
        """The candidate that shares the most folders with the name; of several, one without other folders."""
        folders = PurePosixPath(name).parts[-2::-1]
        own = {path: PurePosixPath(_normal(path)).parts[-2::-1] for path in candidates}
        shared = {path: _common(folders, parts) for path, parts in own.items()}
        most = max(shared.values())
        best = [path for path in candidates if shared[path] == most]
        best = [path for path in best if shared[path] == len(own[path])] or best
        if len(best) > 1:
            raise AmbiguousNameError(written, *best[:2])
        return best[0]


def clean(written: str) -> str:
    """A name with slashes, without the server of a URL, `./` and a drive."""
    name = written.strip().strip('"').rpartition("?d=")[2]  # Label Studio: /data/local-files/?d=a.jpg
    if re.match(r"[a-z][a-z0-9+.-]+://", name, re.IGNORECASE):
        try:
            parts = urlsplit(name)
            name = unquote(parts.path or parts.netloc)
        except ValueError:  # brackets without a valid address
            pass
    name = name.replace("\\", "/")
    return re.sub(r"^(?:[a-zA-Z]:)?(?:\./+)*", "", _normal(name))


def stem(name: str) -> str:
    """A file name without the ending of an image; other names, such as `v1.2`, stay whole."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in IMAGE_ENDINGS else path.name


def _contradicts(name: str, path: str) -> bool:
    """Whether both paths name a split in their folders, and not the same."""
    mine, theirs = (
        next((part.lower() for part in PurePosixPath(one).parts[-2::-1] if part.lower() in SPLIT_FOLDERS), None)
        for one in (name, path)
    )
    return mine is not None and theirs is not None and mine != theirs


def _normal(name: str) -> str:
    """The name with accents joined to their letters, which macOS separates."""
    return unicodedata.normalize("NFC", name)


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count
