"""The built-in sources, registered through the same hook as those of plugins."""

from frcnn_cli.proposals.hook import ProposalSource, hookimpl
from frcnn_cli.proposals.sources.file import FileSource
from frcnn_cli.proposals.sources.mix import Mix
from frcnn_cli.proposals.sources.opencv import OpenCVSelectiveSearch
from frcnn_cli.proposals.sources.selective_search import SelectiveSearch


@hookimpl
def frcnn_proposal_sources() -> list[type[ProposalSource]]:
    return [SelectiveSearch, OpenCVSelectiveSearch, FileSource, Mix]
