"""Errors that a user can fix, each with its fix.

Every such error is a `FrcnnError`: what is wrong and where, and how to fix it. The command line prints both on one line
and exits with `exit_code`; a notebook sees an ordinary exception.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from pathlib import Path


class FrcnnError(Exception):
    """An error that the user can fix.

    Args:
        what: what is wrong and where (file, key, value), without a final full stop.
        fix: how to fix it.
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


def listed(names: Iterable[str], most: int = 10) -> str:
    """Names for a message: the first ones, and how many more there are."""
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")


class FrcnnWarning(UserWarning):
    """Something that a user should know, although the work continues. The command line prints it as a note."""


class UsageError(FrcnnError):
    """Arguments or options are wrong: an unknown source or option, a value of the wrong type."""

    exit_code = 2


class ImageError(FrcnnError):
    """One image cannot be read. A stage reports it, continues with the other images and exits with 1 at the end."""


class FeatureError(FrcnnError):
    """The conv map of one image cannot be stored. Like an ImageError, it concerns only that image."""


class DataError(FrcnnError):
    """The files of a data set are missing or inconsistent."""


class FileFormatError(FrcnnError):
    """A file is not what it should be: not HDF5, truncated, from another stage, from a newer version."""


class MismatchError(FrcnnError):
    """Two inputs that should describe the same images, classes or model do not."""


class SourceError(FrcnnError):
    """A proposal source cannot be used, or returned something that is not a set of boxes."""


class OutputExistsError(FrcnnError):
    """The output path exists; nothing is overwritten without --force."""

    def __init__(
        self, path: Path, fix: str = "Add --force (in Python: force=True) to replace it, or choose another output path"
    ) -> None:
        super().__init__(f"{path} exists already", fix)

    def __reduce__(self) -> tuple[type[OutputExistsError], tuple[Path, str]]:
        return type(self), (Path(self.what.removesuffix(" exists already")), self.fix)


def explain_os_error(error: OSError, path: Path | str | None = None) -> FrcnnError:
    """An `OSError` as one line that names the file and what the system refused."""
    where = path if path is not None else error.filename
    place = f" ({where})" if where else ""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return FrcnnError(
                f"no space left to write{place}",
                "Free some disk space and run the same command again; it continues with the images not yet finished",
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return FrcnnError(f"not allowed to open or write{place}", "Choose another path or change its permissions")
        case errno.ELOOP:
            return FrcnnError(f"a symbolic link is not followed{place}", "Remove it, or choose another path")
        case errno.EMFILE | errno.ENFILE:
            return FrcnnError(
                f"too many open files{place}", "Raise the limit with ulimit -n; or frcnn merge some of them"
            )
        case errno.ENOENT:
            return FrcnnError(f"no such file or folder{place}", "Check the spelling of the path")
        case errno.EISDIR | errno.ENOTDIR | errno.EEXIST:
            return FrcnnError(
                f"{error.strerror}{place}", "Name a file where a file is expected, a folder where a folder is"
            )
        case _:
            return FrcnnError(f"{error.strerror or error}{place}", "Check the path and the disk, then run again")


def explain_missing_library(error: BaseException) -> FrcnnError | None:
    """The error to show for an `ImportError` whose cause is a missing system library (OpenCV needs some for its
    windows); None for any other error."""
    missing = r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object file|Library not loaded: (\S+)"
    found = re.search(missing, str(error)) if isinstance(error, ImportError) else None
    if found is None:
        return None
    fix = f"Install the package of the system that has {found[1] or found[2]}"
    if found[2] or re.match(r"lib(GL|EGL|glib|gthread|SM|Xext|X11|xcb)", found[1]):
        fix = (
            "On Debian, apt install libgl1 libglib2.0-0; or install opencv-contrib-python-headless in place of"
            " opencv-contrib-python"
        )
    return FrcnnError(f"a system library is missing ({error})", fix)
