"""Images that failed: named when it happens, listed at the end, and the exit code is 1."""

from __future__ import annotations

from frcnn_cli.cli.command import SomeFailed
from frcnn_cli.cli.display import Display
from frcnn_cli.errors import FrcnnError


class Failures:
    """Collects the errors of single images while a stage goes on with the rest."""

    LISTED = 20

    def __init__(self, display: Display) -> None:
        self.display = display
        self.errors: dict[str, FrcnnError] = {}

    def add(self, key: str, error: FrcnnError) -> None:
        self.errors[key] = error

    def as_json(self) -> list[dict[str, str]]:
        return [{"image": key, "error": str(error)} for key, error in sorted(self.errors.items())]

    def list_all(self, total: int) -> None:
        """One line an image; nothing if there was no failure."""
        if self.errors:
            self.display.warn(f"{len(self.errors)} of {total} images failed and were left out:")
            for key in sorted(self.errors)[: self.LISTED]:
                self.display.warn(f"  {self.errors[key]}")
            if len(self.errors) > self.LISTED:
                self.display.warn(f"  and {len(self.errors) - self.LISTED} more (--json lists all)")

    def end(self) -> None:
        """Ends the command with exit code 1 if an image failed."""
        if self.errors:
            raise SomeFailed("")
