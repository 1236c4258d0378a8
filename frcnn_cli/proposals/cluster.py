"""Many images to proposals, on the machines of a cluster.

A task computes its chunk of images with one worker process of `workers`, so an image on which the source crashes or
takes too long is reported as on one machine.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from frcnn_cli.core.decoding import read_ref
from frcnn_cli.core.image import ImageRef
from frcnn_cli.proposals.limits import Limits
from frcnn_cli.proposals.source import ProposalSource
from frcnn_cli.proposals.workers import Job, Outcome, Pool
from frcnn_cli.system.cluster import Cluster, compute_images, for_driver


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
    work = pickle.dumps((Job(source, read_ref, limits), timeout))
    yield from (Outcome(*found) for found in compute_images(cluster, _compute, work, refs))


_pools: dict[str, Pool] = {}  # at most one, kept between the tasks of a Ray process


def _compute(name: str, fetch: Callable[[], bytes], chunk: Sequence[ImageRef]) -> list[tuple[Any, ...]]:
    """In a task: the outcomes of a chunk of images."""
    if name not in _pools:
        for pool in _pools.values():
            pool.stop()
        _pools.clear()
        job, timeout = pickle.loads(fetch())  # of the driver, which Ray trusts with any code
        _pools[name] = Pool(job, 1, timeout)
    try:
        return [for_driver(*outcome) for outcome in _pools[name].run(chunk)]
    except BaseException:
        _pools.pop(name).stop()
        raise
