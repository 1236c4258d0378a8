"""Several files of a stage, copied into one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.store.several import StageFiles
from frcnn_cli.store.stage import stage_paths
from frcnn_cli.store.writer import StageWriter


def merge_files(
    paths: Sequence[str | Path], output: str | Path, *, force: bool = False, progress: Progress = SILENT
) -> int:
    """Copies the images of several files into one and returns their number. After an interruption, the same call
    continues where it stopped.

    Args:
        paths: files, or patterns. force: replace an existing file.

    Raises:
        MismatchError: the files do not belong together. FrcnnError: a file cannot be read or written.
    """
    every = [one for path in paths for one in stage_paths(path) or [Path(path)]]
    with (
        StageFiles(every, Path(",".join(map(str, paths)))) as files,
        StageWriter(Path(output), files.format, files.provenance, force) as out,
    ):
        todo = [i for i, image in enumerate(files.images) if not out.is_done(image)]
        with progress.task("merge", len(todo)) as bar:
            for i in todo:
                out.add(files.images[i], files[i])
                bar.advance()
        return out.finish()
