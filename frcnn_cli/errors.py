"""What a user can get wrong, each with its fix.

Every error that is the user's to mend is a `FrcnnError`: one line that says what is wrong and where, and one that says
how to mend it. The command line prints that line and exits with `exit_code`; a notebook sees an ordinary exception.
"""

from __future__ import annotations

import errno
from pathlib import Path


class FrcnnError(Exception):
    """Something the user can mend.

    Args:
        what: what is wrong and where (file, key, value), without a final full stop.
        fix: how to mend it.
    """

    exit_code = 1

    def __init__(self, what: str, fix: str = "") -> None:
        self.what = what
        self.fix = fix
        super().__init__(what, fix)

    def __str__(self) -> str:
        stop = "" if self.what.endswith((".", "?", "!")) else "."
        one_line = " ".join(f"{self.what}{stop} {self.fix}".split()) if self.fix else " ".join(self.what.split())
        return one_line if one_line.endswith((".", "?", "!")) else one_line + "."


class UsageError(FrcnnError):
    """The words of the command are wrong: an unknown option of a source, a value of the wrong type."""

    exit_code = 2


class ImageError(FrcnnError):
    """One image cannot be read. A stage names it, goes on with the rest, and exits with 1 at the end."""


class FeatureError(FrcnnError):
    """The conv map of one image cannot be kept. Like an ImageError, it is that image's alone."""


class DataError(FrcnnError):
    """A data set's files are missing or contradict themselves."""


class FileFormatError(FrcnnError):
    """A file is not what it should be: not HDF5, truncated, of another stage, of a newer version."""


class MismatchError(FrcnnError):
    """Two inputs that should describe the same images, classes or model do not."""


class SourceError(FrcnnError):
    """A proposal source is unknown, cannot be set up, or returned something that is not boxes."""


class OutputExistsError(FrcnnError):
    """The output path is taken; nothing is overwritten without being asked."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists already", "Add --force to replace it, or choose another output path")

    def __reduce__(self) -> tuple[type[OutputExistsError], tuple[Path]]:
        return type(self), (Path(self.what.removesuffix(" exists already")),)


def explain_os_error(error: OSError, path: Path | str | None = None) -> FrcnnError:
    """The one line for an `OSError`, which names the file and what the system refused."""
    where = path if path is not None else error.filename
    place = f" ({where})" if where else ""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return FrcnnError(
                f"no space left to write{place}",
                "Free some disk space and run the same command again; it continues from the images already finished",
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return FrcnnError(f"not allowed to open or write{place}", "Choose another path or change its permissions")
        case errno.ENOENT:
            return FrcnnError(f"no such file or folder{place}", "Check the spelling of the path")
        case errno.EISDIR | errno.ENOTDIR | errno.EEXIST:
            return FrcnnError(
                f"{error.strerror}{place}", "Name a file where a file is meant, a folder where a folder is"
            )
        case _:
            return FrcnnError(f"{error.strerror or error}{place}", "Check the path and the disk, then run again")
