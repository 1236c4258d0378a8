"""Many images to a proposals file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from frcnn_cli.core.decoding import digest_file, read_ref
from frcnn_cli.core.errors import FrcnnError, UsageError
from frcnn_cli.core.find import Images, image_refs
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.core.shards import in_shard, recorded
from frcnn_cli.proposals.cluster import propose_on_cluster
from frcnn_cli.proposals.limits import Limits
from frcnn_cli.proposals.prepare import prepare
from frcnn_cli.proposals.registry import DEFAULT_SOURCE, get_source
from frcnn_cli.proposals.source import Proposals, ProposalSource
from frcnn_cli.proposals.workers import propose_many
from frcnn_cli.store.schema import PROPOSALS
from frcnn_cli.store.summary import StageSummary
from frcnn_cli.store.writer import StageWriter
from frcnn_cli.system.cluster import Cluster
from frcnn_cli.system.processes import usable_cores


def propose_images(
    images: Images,
    output: str | Path,
    source: ProposalSource | str = DEFAULT_SOURCE,
    *,
    limits: Limits = Limits(),
    workers: int | None = None,
    timeout: float | None = None,
    shard: str | None = None,
    cluster: Cluster | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> StageSummary:
    """Computes the proposals of many images and writes them to a proposals file.

        propose_images("photographs/", "props.h5", get_source("selective-search", preset="quality"))

    After an interruption at any moment, the same call continues where it stopped. An image that cannot be read, on
    which the source crashes, or that takes too long, is listed in the summary as failed; the others continue.

    Args:
        images: a `Dataset`; a file, a folder, `@list.txt`, a URL, archives or a table (see `core.find.find_images`);
            or a list of them or of `ImageRef`.
        output: the .h5 file to write.
        source: a source, or the name of one.
        limits: which boxes are kept (`frcnn_cli.proposals.limits.Limits`).
        workers: number of processes; by default one per core, and none for a single image. With 0, a crash of the
            source ends this process.
        timeout: maximum seconds per image; needs workers.
        cluster: compute on the machines of a Ray cluster; `workers` then has no effect.
        shard: "2/8" for the second of eight parts of the images, which other machines compute; see `core.shards`.
        force: replace an existing file.

    Raises:
        OutputExistsError: the file exists and is complete. UsageError: a timeout without workers.
        FrcnnError: the source cannot be prepared, all images failed, or the file cannot be written.
    """
    if workers == 0 and timeout is not None:
        raise UsageError("a timeout needs a worker process", "Use --workers 1 or more")
    refs = in_shard(image_refs(images), shard)
    configured = get_source(source) if isinstance(source, str) else source
    started = time.perf_counter()
    provenance: dict[str, Any] = {"source": configured.described(), **limits._asdict(), **recorded(shard)}
    failed: dict[str, FrcnnError] = {}
    rows = 0
    with StageWriter(Path(output), PROPOSALS, provenance, force, extend=True) as out:
        todo = out.missing(refs, digest_file)
        if todo:
            prepare(configured, progress)
        if workers is None:
            workers = 0 if len(todo) == 1 and timeout is None else usable_cores()
        with progress.task("proposals", len(todo)) as bar:
            if cluster is not None and todo:
                outcomes = propose_on_cluster(todo, configured, cluster, limits, timeout)
            else:
                outcomes = propose_many(todo, configured, read_ref, limits, workers, timeout)
            for done in outcomes:
                if done.error is not None:
                    failed[done.ref.key] = done.error
                    progress.failed(done.ref.key, done.error)
                elif done.record is not None and done.proposals is not None:
                    out.add(done.record, to_columns(done.proposals))
                    rows += len(done.proposals.boxes)
                bar.advance()
        skipped = len(refs) - len(todo)
        if skipped:
            progress.note(f"{skipped} of {len(refs)} images were finished by an earlier run")
        written = out.finish()
    seconds = time.perf_counter() - started
    return StageSummary(Path(output), written, len(todo) - len(failed), skipped, rows, seconds, failed)


def to_columns(proposals: Proposals) -> dict[str, Any]:
    """Proposals as the columns of a proposals file."""
    columns: dict[str, Any] = {"boxes": proposals.boxes}
    if proposals.scores is not None:
        columns["scores"] = proposals.scores
    return columns
