"""The contract of a proposal plugin; the only module that a plugin imports from frcnn.

A plugin is a module that implements one hook, and one entry point that names the module:

    from dataclasses import dataclass
    from frcnn_cli.proposals.hook import Image, Proposals, ProposalSource, hookimpl, option

    @dataclass(frozen=True)
    class Corners(ProposalSource):
        "Four boxes, one in each corner."
        name = "corners"
        version = "1.0"
        share: float = option(0.5, help="Side of a box, as a fraction of the image's.", minimum=0.01, maximum=1.0)

        def propose(self, image: Image) -> Proposals: ...

    @hookimpl
    def frcnn_proposal_sources():
        return [Corners]

    # pyproject.toml
    [project.entry-points.frcnn]
    corners = "my_module"

`frcnn_cli.testing.check_proposal_source(Corners())` checks a source against everything that the stages rely on.
"""

from __future__ import annotations

import pluggy

from frcnn_cli.core.errors import FileFormatError, FrcnnError, UsageError
from frcnn_cli.core.image import Image
from frcnn_cli.core.options import option
from frcnn_cli.proposals.source import Proposals, ProposalSource

PROJECT = "frcnn"  # both the pluggy project and the entry-point group

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

__all__ = [
    "PROJECT",
    "FileFormatError",
    "FrcnnError",
    "Image",
    "ProposalSource",
    "Proposals",
    "UsageError",
    "hookimpl",
    "hookspec",
    "option",
]


class HookSpec:
    """The hooks that plugins implement."""

    @hookspec
    def frcnn_proposal_sources(self) -> list[type[ProposalSource]]:  # type: ignore[empty-body]
        """The proposal sources of this plugin: classes, not instances.

        Import packages that take long (torch, for example) in `propose`, not at the top of the module: every command
        imports the module.
        """
