"""Opening the file of a stage, or several files as one."""

from __future__ import annotations

import glob
from pathlib import Path

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.store.reader import StageFile
from frcnn_cli.store.schema import Format
from frcnn_cli.store.several import StageFiles


def open_stage(path: str | Path, fmt: Format | None = None) -> StageFile:
    """Opens a proposals, features, scores, detections or vectors file for reading.

        with open_stage("props.h5") as file:
            for image, arrays in file:
                print(image.key, arrays["boxes"].shape)

    Args:
        path: a file; or several that are read as one, such as the shards of a run: "props-*.h5", "a.h5,b.h5".
        fmt: the required format; None: any.

    Raises:
        FileFormatError: not a file of frcnn, damaged, or of a newer version. MismatchError: several files that do not
            belong together. FrcnnError: a file cannot be read, or none matches.
    """
    paths = stage_paths(path)
    return StageFile(path, fmt) if paths is None else StageFiles(paths, Path(path), fmt)


def absolute_stage(path: Path) -> Path:
    """The same file or files for a process in another folder."""
    several = stage_paths(path)
    return path.absolute() if several is None else Path(",".join(str(one.absolute()) for one in several))


def stage_paths(path: str | Path) -> list[Path] | None:
    """The files that a pattern or a list with commas names; None if it is the path of one file.

    Raises:
        FrcnnError: no file matches the pattern.
    """
    text = str(path)
    if Path(text).exists() or not any(mark in text for mark in ",*?["):
        return None
    found: list[Path] = []
    for part in filter(None, map(str.strip, text.split(","))):
        matching = [part] if Path(part).exists() else sorted(glob.glob(part))  # noqa: PTH207 (absolute too)
        if not matching:
            raise FrcnnError(f"no file matches {part}", "Check the pattern")
        found += map(Path, matching)
    return list(dict.fromkeys(found))
