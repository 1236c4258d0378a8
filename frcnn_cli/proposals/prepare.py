"""Preparing a source before its first image."""

from __future__ import annotations

from frcnn_cli.core.errors import FrcnnError, SourceError, explain_missing_library
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.proposals.source import ProposalSource


def prepare(source: ProposalSource, progress: Progress = SILENT) -> None:
    """Prepares a source; announces it if its kernels have to be compiled first."""
    if not source.is_prepared():
        progress.note(f"preparing {source.name}: its kernels are compiled once per machine ...")
    try:
        source.prepare()
    except FrcnnError:
        raise
    except Exception as error:
        if (missing := explain_missing_library(error)) is not None:
            raise missing from error
        failed = SourceError(
            f"source {source.name!r} could not be prepared ({type(error).__name__}: {error})",
            "Run again with --debug for its traceback, or try another --source",
        )
        raise failed from error
