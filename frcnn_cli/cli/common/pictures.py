"""Images with detections drawn on them: in a folder, a file, or windows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.cli.common.console import Console
from frcnn_cli.core.errors import FrcnnError, OutputExistsError

if TYPE_CHECKING:
    from frcnn_cli.core.annotations import Detections
    from frcnn_cli.core.image import Image, ImageRef


class Pictures:
    """Draws images with their detections, saves them as they come, and shows them at the end."""

    def __init__(self, console: Console, refs: list[ImageRef], output: Path | None, show: bool, force: bool) -> None:
        """
        Args:
            output: a folder, or an image file if there is one image; None: save nothing.
            show: whether to open windows at the end.

        Raises:
            FrcnnError: a picture exists, or is also an input.
        """
        self.console, self.output, self.show, self.force = console, output, show, force
        self.shown: list[tuple[str, Any]] = []
        self.saved = 0
        self.paths = _paths(refs, output) if output is not None else {}
        inputs = {ref.file.resolve() for ref in refs if ref.file is not None}
        for path in self.paths.values():
            if path.resolve() in inputs:
                raise FrcnnError(f"{path} is also an input of this command", "Choose another output path")
            if path.exists() and not force:
                raise OutputExistsError(path)

    def add(self, image: Image, detections: Detections) -> None:
        """Draws one image."""
        if self.output is None and not self.show:
            return
        from frcnn_cli.core.files import save_image

        pixels = detections.plot(image)
        if self.output is not None:
            save_image(pixels, self.paths[image.key])
            self.saved += 1
        if self.show:
            self.shown.append((image.key, pixels))

    def present(self) -> None:
        """Reports where the pictures are, and opens the windows."""
        if self.output is not None and self.saved:
            self.console.note(f"{'the pictures are' if self.output.is_dir() else 'the picture is'} in {self.output}")
        if self.shown:
            from frcnn_cli.cli.common.window import present

            for key, pixels in self.shown:
                present(self.console, pixels, key, f"{Path(key).stem}-detections", self.force)


def _paths(refs: list[ImageRef], output: Path) -> dict[str, Path]:
    """The picture of each key: `output` itself, or a .jpg below it. Keys that differ only in their ending keep it
    (a.png.jpg)."""
    if output.suffix and not output.is_dir():
        if output.suffix.lower() not in (".jpg", ".jpeg", ".png"):
            raise click.UsageError(f"-o {output}: OUT is a folder, a .jpg or .png, or a .h5 file for detections.")
        if len(refs) != 1:
            raise click.UsageError(f"-o {output} is one picture, but there are {len(refs)} images: name a folder.")
        return {refs[0].key: output}
    if output.is_file():
        raise FrcnnError(f"{output} is a file", "Name a folder for the pictures")
    keys = {ref.key: Path(*(part for part in Path(ref.key).parts if part not in ("/", ".."))) for ref in refs}
    taken = Counter(path.with_suffix("") for path in keys.values())
    return {
        key: output / (path.with_suffix(".jpg") if taken[path.with_suffix("")] == 1 else f"{path}.jpg")
        for key, path in keys.items()
    }
