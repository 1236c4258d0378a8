"""Downloads of single files: with progress, verified, and never a part of a file under its name."""

from __future__ import annotations

import hashlib
from http.client import HTTPException, IncompleteRead
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.core.files import replacing
from frcnn_cli.core.progress import SILENT, Progress

_CHUNK = 1 << 18  # bytes
_TIMEOUT = 30  # seconds without an answer
_MEGABYTE = 1_000_000


def download(url: str, path: Path, sha256: str, fix: str, progress: Progress = SILENT) -> None:
    """Downloads a file, and verifies its length and the beginning of its checksum.

    Args:
        sha256: the hexadecimal digits with which the checksum begins.
        fix: how to get the file otherwise, for messages.

    Raises:
        FrcnnError: the server cannot be reached, refuses, or sends something else; or the file cannot be written.
    """
    request = Request(url, headers={"User-Agent": "frcnn"})
    try:
        with urlopen(request, timeout=_TIMEOUT) as answer, replacing(path) as part:
            with open(part, "wb") as file:
                received, digest, start = _receive(answer, file, path.name, progress)
            length = answer.headers.get("Content-Length") or ""
            problem = _problem(received, int(length) if length.isdigit() else received, start, digest, sha256)
            if problem:
                raise FrcnnError(f"{path.name} could not be downloaded: {problem}", fix)
    except HTTPError as error:
        problem = f"the server answered {error.code} {error.reason}"
    except _InterruptedError as error:
        problem = f"the connection was interrupted ({error}); try again"
    except (URLError, TimeoutError, ConnectionError, HTTPException, ValueError) as error:
        problem = f"no connection ({getattr(error, 'reason', error) or type(error).__name__})"
    if problem:
        raise FrcnnError(f"{path.name} could not be downloaded: {problem}", fix)


def _problem(received: int, length: int, start: bytes, digest: str, sha256: str) -> str:
    """What is wrong with what was received; "" if nothing is."""
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "the answer is a web page, perhaps of a proxy that wants a log-in"
    if received != length:
        return f"the connection ended after {received:,} of {length:,} bytes; try again"
    return "" if digest.startswith(sha256) else f"its checksum is wrong (SHA-256 {digest[:16]}...)"


def _receive(answer: Any, file: IO[bytes], name: str, progress: Progress) -> tuple[int, str, bytes]:
    """Copies the answer; returns its length in bytes, its SHA-256 and its first bytes."""
    length = answer.headers.get("Content-Length") or ""
    total = int(length) if length.isdigit() else 0
    checksum, received, shown, start = hashlib.sha256(), 0, 0, b""
    with progress.task(f"download {name}", max(1, total // _MEGABYTE), "MB") as bar:
        while chunk := _read(answer):
            start = start or chunk[:64]
            file.write(chunk)
            checksum.update(chunk)
            received += len(chunk)
            bar.advance(received // _MEGABYTE - shown)
            shown = received // _MEGABYTE
    return received, checksum.hexdigest(), start


class _InterruptedError(Exception):
    """A connection that broke while the file was received; not an OSError, which would be the disk's."""


def _read(answer: Any) -> bytes:
    try:
        return bytes(answer.read(_CHUNK))
    except IncompleteRead as error:
        return bytes(error.partial)
    except (OSError, HTTPException) as error:
        raise _InterruptedError(str(error) or type(error).__name__) from None
