"""Many images to proposals, on the machines of a Ray cluster (Moritz et al., "Ray", 2018).

The driver, which is this process, hands out chunks of images as Ray tasks and yields what they return; it is the only
one that writes. A task computes its chunk with one worker process of `workers`, so an image on which the source crashes
or takes too long is reported as on one machine. Ray repeats the tasks of a machine that is lost.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from frcnn_cli.core.decoding import read_ref
from frcnn_cli.core.errors import FrcnnError, ImageError, UsageError
from frcnn_cli.core.image import ImageRef
from frcnn_cli.proposals.limits import Limits
from frcnn_cli.proposals.source import ProposalSource
from frcnn_cli.proposals.workers import Job, Outcome, Pool

_MAX_CHUNK = 16  # images per task: a second or two, in which a lost machine loses at most this much
_TASKS_PER_CORE = 2  # one that runs, one that waits
_MAX_RETRIES = 5  # of a task whose machine or process was lost
_OBJECT_STORE = 1 << 30  # bytes, of a Ray that is started here


@dataclass(frozen=True)
class Cluster:
    """Where tasks run.

    address: "ray" starts a Ray on this machine; otherwise the address of one that runs: "auto", "HOST:6379", or
        "ray://HOST:10001".
    cores: of each task. send_images: send the content of images with the tasks, because machines do not share a disk.
    """

    address: str
    cores: float = 1
    send_images: bool = False


def propose_on_cluster(
    refs: Sequence[ImageRef],
    source: ProposalSource,
    cluster: Cluster,
    limits: Limits = Limits(),
    timeout: float | None = None,
) -> Iterator[Outcome]:
    """Yields an `Outcome` per image, in the order in which they are finished; see `propose_many`.

    Raises:
        FrcnnError: Ray is not installed, cannot be reached, or is lost.
    """
    with _connected(cluster) as ray:
        task = ray.remote(_compute).options(num_cpus=cluster.cores, max_retries=_MAX_RETRIES)
        each = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
        cores = sum(int(one // cluster.cores) for one in each)
        if cores < 1:
            raise FrcnnError(
                f"no machine of the cluster at {cluster.address} has {cluster.cores:g} core(s) for a task (there are"
                f" {len(each)} machines, of at most {max(each, default=0):g} cores)",
                "Add machines to the cluster",
            )
        size = max(1, min(_MAX_CHUNK, len(refs) // (4 * cores)))
        refs = [ImageRef(ref.key, ref.path.absolute()) for ref in refs]  # tasks run in another folder
        chunks = deque(refs[i : i + size] for i in range(0, len(refs), size))
        job = pickle.dumps(Job(source, read_ref, limits))
        running: dict[Any, Sequence[ImageRef]] = {}
        while chunks or running:
            while chunks and len(running) < _TASKS_PER_CORE * cores:
                chunk = chunks.popleft()
                contents, failed = _contents(chunk) if cluster.send_images else ({}, [])
                yield from failed
                gone = {outcome.ref for outcome in failed}
                chunk = [ref for ref in chunk if ref not in gone]
                if chunk:
                    running[task.remote(job, chunk, contents, timeout)] = chunk
            if not running:
                continue
            (done,), _ = ray.wait(list(running), num_returns=1)
            yield from _outcomes(ray, done, running.pop(done))


def _outcomes(ray: Any, done: Any, chunk: Sequence[ImageRef]) -> list[Outcome]:
    """What a task returned; an error for each of its images if it was lost too often."""
    try:
        found: list[Outcome] = ray.get(done)
        return found
    except ray.exceptions.RayTaskError as error:
        raise FrcnnError(f"a task failed ({' '.join(str(error.cause).split())[:200]})", "See Ray's log") from error
    except ray.exceptions.RayError as error:
        what = f"the cluster lost {{}} {_MAX_RETRIES + 1} times ({type(error).__name__})"
        return [Outcome(ref, error=FrcnnError(what.format(ref.path), "Run the command again")) for ref in chunk]


def _contents(chunk: Sequence[ImageRef]) -> tuple[dict[str, bytes], list[Outcome]]:
    """The bytes of the files of a chunk, and the images that cannot be read."""
    contents, failed = {}, []
    for ref in chunk:
        try:
            contents[ref.key] = ref.path.read_bytes()
        except OSError as error:
            failed.append(Outcome(ref, error=ImageError(f"{ref.path} cannot be read ({error.strerror})")))
    return contents, failed


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
    import ray

    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises many kinds
        raise FrcnnError(
            f"Ray at {cluster.address} cannot be reached ({' '.join(str(error).split())[:200]})", "Check the address"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raises FrcnnError if nothing answers at HOST:PORT: Ray itself tries for minutes."""
    if address == "auto":
        return
    if ":" not in address:
        fix = "Write ray, auto, HOST:6379 or ray://HOST:10001"
        raise UsageError(f"{address!r} is no address of a cluster", fix)
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise FrcnnError(
            f"nothing answers at {address} ({error})", "Check the address and that Ray runs there"
        ) from None


# What runs in a task.

_pools: dict[tuple[bytes, float | None], Pool] = {}  # at most one, kept between the tasks of a Ray process


def _compute(job: bytes, chunk: Sequence[ImageRef], contents: dict[str, bytes], timeout: float | None) -> list[Outcome]:
    """The outcomes of a chunk of images."""
    key = job, timeout
    if key not in _pools:
        for pool in _pools.values():
            pool.stop()
        _pools.clear()
        _pools[key] = Pool(pickle.loads(job), 1, timeout)  # of the driver, which Ray trusts with any code
    pool = _pools[key]
    try:
        if not contents:
            return [_on_this_node(outcome) for outcome in pool.run(chunk)]
        with tempfile.TemporaryDirectory(prefix="frcnn-") as folder:
            return [_renamed(outcome, chunk, folder) for outcome in pool.run(_written(chunk, contents, Path(folder)))]
    except BaseException:
        del _pools[key]
        pool.stop()
        raise


def _on_this_node(outcome: Outcome) -> Outcome:
    """Names the machine in an error about a missing file, which may exist on others."""
    if outcome.error is None or outcome.ref.path.exists():
        return outcome
    return outcome._replace(
        error=FrcnnError(
            f"{outcome.error.what} (on {os.uname().nodename})",
            "Images must be at the same path on all machines; or add --send-images",
        )
    )


def _written(chunk: Sequence[ImageRef], contents: dict[str, bytes], folder: Path) -> list[ImageRef]:
    made = []
    for i, ref in enumerate(chunk):
        path = folder / f"{i}{ref.path.suffix}"
        path.write_bytes(contents[ref.key])
        made.append(ImageRef(ref.key, path))
    return made


def _renamed(outcome: Outcome, chunk: Sequence[ImageRef], folder: str) -> Outcome:
    """The outcome of an image that was sent, under its own path."""
    ref = next(ref for ref in chunk if ref.key == outcome.ref.key)
    error = outcome.error
    if error is not None:
        error = FrcnnError(error.what.replace(str(outcome.ref.path), str(ref.path)), error.fix)
    return outcome._replace(ref=ref, error=error)
