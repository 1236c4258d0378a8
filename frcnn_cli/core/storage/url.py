"""Images behind a URL: object stores through fsspec, and web servers."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from frcnn_cli.core.errors import DataError, FrcnnError, ImageError
from frcnn_cli.core.storage.location import MAX_BYTES

# fsspec knows many more protocols, some of which open files of this machine or run commands. A list of images may come
# from anywhere, so it can name these only.
_PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
}
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_WEB = ("http", "https")
_TIMEOUT = 60  # seconds without an answer
_MOST_SECONDS = 600  # for one image


@dataclass(frozen=True, order=True)
class Url:
    """An image behind a URL."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        path = urlsplit(self.url).path if self._is_web else self.url
        return unquote(path.rstrip("/").rpartition("/")[2]) if self._is_web else path.rpartition("/")[2]

    @property
    def _is_web(self) -> bool:
        return self.url.lower().startswith(_WEB)

    def read_bytes(self) -> bytes:
        """The content. Raises ImageError: it cannot be read, or is too long."""
        with readable(self.url, ImageError):
            if self._is_web:
                content = _from_web(self.url, MAX_BYTES + 1)
            else:
                content = file_system(self.url).cat_file(self.url, start=0, end=MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ImageError(f"{self.url} has more than {MAX_BYTES >> 30} GiB", "Remove it from the images")
        return bytes(content)

    def read_part(self, offset: int, length: int) -> bytes:
        """Some of the content. Raises ImageError: it cannot be read."""
        with readable(self.url, ImageError):
            if self._is_web:
                return _from_web(self.url, length, offset)
            return bytes(file_system(self.url).cat_file(self.url, start=offset, end=offset + length))

    def absolute(self) -> Self:
        return self

    def exists(self) -> bool:
        return True  # the same from every machine


def _from_web(url: str, most: int, offset: int | None = None) -> bytes:
    """At most so many bytes from a web server, from an offset if one is given. fsspec would read whatever a server
    sends, and take the whole content for the part that it asked for."""
    part = {} if offset is None else {"Range": f"bytes={offset}-{offset + most - 1}"}
    request = urllib.request.Request(url, headers={"User-Agent": "frcnn", **part})
    try:
        with _web_opener().open(request, timeout=_TIMEOUT) as answer:
            if offset is not None and answer.status != 206:
                raise ImageError(f"{url} cannot be read in parts", "Download it first")
            return _read_in_time(answer, most)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise FileNotFoundError(url) from None
        raise


def _read_in_time(answer: Any, most: int) -> bytes:
    """Raises TimeoutError: the server sends so slowly that it may never end."""
    until = time.monotonic() + _MOST_SECONDS
    content = bytearray()
    while len(content) < most and (block := answer.read1(min(most - len(content), 1 << 16))):
        content += block
        if time.monotonic() > until:
            raise TimeoutError(f"not complete after {_MOST_SECONDS} s")
    return bytes(content)


class _ToWebOnly(urllib.request.HTTPRedirectHandler):
    """Follows a redirection to http and https, not to other protocols."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.lower().startswith(tuple(f"{protocol}://" for protocol in _WEB)):
            raise urllib.error.URLError(f"redirected to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@cache
def _web_opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_ToWebOnly)


def is_url(text: str) -> bool:
    return _URL.match(text) is not None


def file_system(url: str) -> Any:
    """fsspec's file system for a URL. Credentials come from where the store's own tools read them.

    Raises:
        DataError: an unknown protocol. FrcnnError: a package is missing.
    """
    found = _URL.match(url)
    protocol = found[1].lower() if found else ""
    if protocol not in _PACKAGES:
        raise DataError(f"{url}: images cannot be read through {protocol}://", f"Use one of {', '.join(_PACKAGES)}")
    return _file_system(protocol)


@cache
def _file_system(protocol: str) -> Any:
    try:
        import fsspec

        options = {"client_kwargs": {"trust_env": True}} if protocol in _WEB else {}  # use a proxy that is set
        return fsspec.filesystem(protocol, **options)
    except ImportError as error:
        raise FrcnnError(
            f"{protocol}:// needs the packages fsspec and {_PACKAGES[protocol]} ({error})",
            f"Install them: pip install 'frcnn-cli[remote]' {_PACKAGES[protocol]}",
        ) from None


@contextmanager
def readable(place: str, error_type: type[FrcnnError] = DataError) -> Iterator[None]:
    """Turns whatever a file, a store or a server answers in place of content into one error that names it."""
    try:
        yield
    except error_type:
        raise
    except FrcnnError as error:
        raise error_type(error.what, error.fix) from None
    except FileNotFoundError:
        raise error_type(f"{place} does not exist", f"Check the {'URL' if is_url(place) else 'path'}") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        fix = "Check the URL, the network and your credentials" if is_url(place) else "Get the file again"
        raise error_type(f"{place} cannot be read ({reason})", fix) from error


def files_at(url: str, endings: frozenset[str]) -> Iterator[tuple[str, Url]]:
    """Key and location of the images that a URL names: one image, those that match a pattern (`s3://b/*.jpg`), those
    below a folder, or those to which a web page links.

    Raises:
        DataError: a folder without images, or it cannot be read.
    """
    protocol = url.partition("://")[0].lower()
    one = Url(url)
    is_image = PurePosixPath(one.name).suffix.lower() in endings
    web_page = protocol in _WEB and not url.endswith("/")
    if "*" not in url and (is_image or web_page):
        yield one.name, one
        return
    with readable(url):
        system = file_system(url)
        if "*" in url:
            found = sorted(system.glob(url))
        elif protocol in _WEB:  # the links of this page only: a server may make up any number of further pages
            found = sorted(system.ls(url, detail=False))
        else:
            found = sorted(system.find(url))
        top = str(system._strip_protocol(url.partition("*")[0].rpartition("/")[0] if "*" in url else url)).rstrip("/")
    below = (
        path for path in map(str, found) if path.startswith(top + "/") and "/../" not in path
    )  # a web page may link to other places
    named = [path for path in below if PurePosixPath(path).suffix.lower() in endings]
    if not named:
        raise DataError(f"{url} holds no images", "Check the URL and your permissions")
    for path in named:
        full = path if is_url(path) else f"{protocol}://{path}"
        key = path.removeprefix(top + "/")
        yield (unquote(key) if protocol in _WEB else key), Url(full)
