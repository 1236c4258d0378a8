"""Work on the machines of a Ray cluster (Moritz et al., "Ray", 2018).

The driver, which is this process, hands out chunks of the items as Ray tasks and yields what they return; it is the
only one that writes. Ray repeats the tasks of a machine that is lost.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

from frcnn_cli.core.errors import FrcnnError, UsageError
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.core.sending import for_tasks, naming_machine

T = TypeVar("T")

_MAX_CHUNK = 16  # items per task: a second or two, in which a lost machine loses at most this much
_TASKS_PER_SLOT = 2  # one that runs, one that waits
_MAX_RETRIES = 5  # of a task whose machine or process was lost
_OBJECT_STORE = 1 << 30  # bytes, of a Ray that is started here
_TOKEN = Path.home() / ".ray/auth_token"


@dataclass(frozen=True)
class Cluster:
    """Where tasks run, and what each of them takes.

    address: "ray" starts a Ray cluster on this machine; otherwise the address of a running one: "auto", "HOST:6379", or
        "ray://HOST:10001".
    cores, gpus: of each task; 0.5 GPUs let two tasks share one. send_images: send the content of images with the tasks,
        because machines do not share a disk.
    """

    address: str
    cores: float = 1
    gpus: float = 0
    send_images: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError: not an address."""
        if self.address not in ("ray", "auto") and ":" not in self.address:
            fix = "Write ray, auto, HOST:6379 or ray://HOST:10001"
            raise UsageError(f"{self.address!r} is no address of a cluster", fix)


class Finished(NamedTuple):
    """A chunk of items with what its task returned, or the reason why it was given up."""

    chunk: list[Any]
    results: Any = None
    lost: str = ""


class OfImage(NamedTuple):
    """What was computed for one image: its record and the result; or the error."""

    ref: ImageRef
    record: ImageRecord | None = None
    result: Any = None
    error: FrcnnError | None = None


def compute_images(
    cluster: Cluster, function: Callable[[str, Any, list[Any]], Any], shared: bytes, refs: Sequence[ImageRef]
) -> Iterator[OfImage]:
    """Like `run_tasks`, for images: yields what was computed for each of them, as it is finished.

    Args:
        function: returns what `for_driver` makes of each image of its chunk.
    """
    for done in run_tasks(cluster, function, shared, refs, lambda chunk: for_tasks(chunk, cluster.send_images)):
        own = {ref.key: ref for ref in done.chunk}
        if done.lost:
            errors = {key: FrcnnError(f"the cluster lost {key} {done.lost}", "Run the command again") for key in own}
            yield from (OfImage(own[key], error=error) for key, error in errors.items())
        else:
            yield from (OfImage(own[key], record, result, error) for key, record, result, error in done.results)


def for_driver(
    ref: ImageRef, record: ImageRecord | None, result: Any, error: FrcnnError | None
) -> tuple[str, ImageRecord | None, Any, FrcnnError | None]:
    """In a task: the outcome of an image without its content, which the driver has."""
    return ref.key, record, result, error and naming_machine(ref, error)


def run_tasks(
    cluster: Cluster,
    function: Callable[[str, Any, list[Any]], Any],
    shared: bytes,
    items: Sequence[T],
    prepared: Callable[[list[T]], list[Any]] = list,
) -> Iterator[Finished]:
    """Calls `function(name, fetch, chunk)` in tasks and yields their results as they are finished.

    Args:
        function: `fetch()` returns `shared`, of which each machine gets one copy; `name` is the same in all calls for
            it, so that a process can keep what it made of it. Must be importable by name.
        prepared: what is sent in place of a chunk; called shortly before.

    Raises:
        FrcnnError: Ray is not installed or cannot be reached, no machine is large enough, or a task raised something.
    """
    if not items:
        return
    with _connected(cluster) as ray:
        slots = _slots(ray, cluster)
        size = max(1, min(_MAX_CHUNK, len(items) // (4 * slots)))
        task = ray.remote(_call).options(num_cpus=cluster.cores, num_gpus=cluster.gpus, max_retries=_MAX_RETRIES)
        name, reference = uuid4().hex, ray.put(shared)
        remaining = iter(items)
        running: dict[Any, list[T]] = {}
        while True:
            while len(running) < _TASKS_PER_SLOT * slots and (chunk := list(islice(remaining, size))):
                # A reference inside a list is not replaced by its object: a process fetches that once.
                running[task.remote(function, name, [reference], prepared(chunk))] = chunk
            if not running:
                return
            (done,), _ = ray.wait(list(running), num_returns=1)
            yield _result(ray, done, running.pop(done))


def _result(ray: Any, done: Any, chunk: list[Any]) -> Finished:
    try:
        return Finished(chunk, ray.get(done))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, FrcnnError):
            raise error.cause from None
        raise FrcnnError(f"a task failed ({' '.join(str(error.cause).split())[:200]})", "See Ray's log") from error
    except ray.exceptions.RayError as error:
        return Finished(chunk, lost=f"{_MAX_RETRIES + 1} times ({type(error).__name__})")


def _call(function: Callable[..., Any], name: str, reference: list[Any], chunk: list[Any]) -> Any:
    """What runs in a task."""

    def fetch() -> Any:
        import ray

        return ray.get(reference[0])

    return function(name, fetch, chunk)


def _slots(ray: Any, cluster: Cluster) -> int:
    """How many tasks run at a time."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fitting = []
    for machine in machines:
        fits = [machine.get("CPU", 0) // cluster.cores] if cluster.cores else []
        fits += [machine.get("GPU", 0) / cluster.gpus] if cluster.gpus else []
        fitting.append(int(min(fits, default=1)))
    if sum(fitting) < 1:
        cores, gpus = (max((machine.get(kind, 0) for machine in machines), default=0) for kind in ("CPU", "GPU"))
        wanted = f"{cluster.cores:g} core(s)" + (f" and {cluster.gpus:g} GPU(s)" if cluster.gpus else "")
        raise FrcnnError(
            f"no machine of the cluster at {cluster.address} has {wanted} for a task (there are {len(machines)}"
            f" machines, of at most {cores:g} cores and {gpus:g} GPUs)",
            "Add machines to the cluster, or ask for less per task",
        )
    return sum(fitting)


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    here = cluster.address == "ray"
    options: dict[str, Any] = {"address": "local" if here else cluster.address}
    if here:
        options |= {"object_store_memory": _OBJECT_STORE, "include_dashboard": False}
    else:
        _check_reachable(cluster.address)
    if find_spec("ray") is None:
        raise FrcnnError("Ray is not installed", "Install it: pip install 'frcnn-cli[ray]'")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # otherwise Ray prints a warning about it
    # Under `uv run`, Ray would copy this folder to all machines and call uv there, which fails silently and for ever
    # where the folder is no project. It reads the variable when it is imported.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    if not here and "RAY_AUTH_MODE" not in os.environ and _TOKEN.exists() and _wants_token(cluster.address):
        os.environ["RAY_AUTH_MODE"] = "token"  # without this, Ray does not send the token that `ray start` made
    import ray

    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises many kinds
        raise FrcnnError(
            f"Ray at {cluster.address} cannot be reached ({' '.join(str(error).split())[:200]})",
            f"Check the address, and that RAY_AUTH_MODE and {_TOKEN} are those of the cluster",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _wants_token(address: str) -> bool:
    """Whether a cluster refuses those who send no token. Ray reads its own settings once per process, so another
    process asks."""
    if address.startswith("ray://"):
        return True  # of its client server nothing can be asked; `ray start` asks for a token by default
    where = [] if address == "auto" else ["--address", address]
    line = [sys.executable, "-m", "ray.scripts.scripts", "health-check", *where]
    asked = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    return b"AuthenticationError" in asked.stderr


def _check_reachable(address: str) -> None:
    """Raises FrcnnError if nothing answers at HOST:PORT: Ray itself tries for minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise FrcnnError(
            f"nothing answers at {address} ({error})", "Check the address and that Ray runs there"
        ) from None
