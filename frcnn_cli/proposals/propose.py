"""One image to its proposals: run the source, validate its boxes, filter, rank and truncate them."""

from __future__ import annotations

import traceback
from typing import Any

from frcnn_cli.core.decoding import AnyImage, as_image
from frcnn_cli.core.errors import FrcnnError, SourceError, explain_missing_library
from frcnn_cli.proposals.limits import Limits, best_of, validated
from frcnn_cli.proposals.registry import DEFAULT_SOURCE, get_source
from frcnn_cli.proposals.source import Proposals, ProposalSource


def propose(
    image: AnyImage,
    source: ProposalSource | str | None = None,
    limits: Limits = Limits(),
    *,
    maps: tuple[Any, Any] | None = None,
) -> Proposals:
    """The proposals of one image, best first: no duplicates, none below `min_size`, at most `max_boxes`.

    The source's scores rank its boxes; without scores, its order does. Of equal boxes, the best is kept. The source is
    not prepared first.

    Args:
        image: an `Image`, a path, a PIL image, or uint8 [H, W, 3] RGB.
        source: a source, or the name of one; our selective search by default.
        maps: the conv maps and scales of the image, for a source that reads them (`ProposalSource.maps_id`).

    Raises:
        ImageError: the image cannot be read.
        SourceError: the source failed, or returned something that is not boxes of this image.
    """
    image = as_image(image)
    if source is None or isinstance(source, str):
        source = get_source(source or DEFAULT_SOURCE)
    try:
        answer = source.propose(image) if maps is None else source.propose_in_maps(image, *maps)
    except FrcnnError:
        raise
    except (Exception, SystemExit) as error:
        if (missing := explain_missing_library(error)) is not None:
            raise missing from error
        failed = SourceError(
            f"source {source.name!r} failed on {image.key} ({type(error).__name__}: {error})",
            "Run again with --debug for its traceback, or try another --source",
        )
        failed.add_note("".join(traceback.format_exception(error)))  # notes survive the way out of a worker process
        raise failed from error
    found = validated(answer, image, source.name)
    return best_of(found, limits)
