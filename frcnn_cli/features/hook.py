"""The contract of a backbone plugin; the only module that it imports from frcnn.

A plugin is a module that implements one hook, and one entry point that names the module:

    from frcnn_cli.features.hook import Backbone, BackboneFamily, BackboneSpec, Weights, hookimpl

    class Tiny(BackboneFamily):
        "Networks of two conv layers."
        name = "tiny"

        def names(self) -> list[str]:
            return ["a"]

        def spec(self, network: str) -> BackboneSpec:
            return BackboneSpec(build_a)  # a function from Weights to Backbone; docs/guide/plugins.md has one

    @hookimpl
    def frcnn_backbones():
        return [Tiny()]

    # pyproject.toml
    [project.entry-points.frcnn_backbones]
    tiny = "my_module"

Its networks are then named tiny:a, wherever frcnn takes the name of a backbone.
`frcnn_cli.testing.check_backbone("tiny:a")` checks a network against everything that the stages rely on.
"""

from __future__ import annotations

from frcnn_cli.core.errors import FileFormatError, FrcnnError, UsageError
from frcnn_cli.features.backbones.backbone import Backbone, ConvsAndLinear, new_hidden_layers
from frcnn_cli.features.backbones.family import BackboneFamily, hookimpl
from frcnn_cli.features.backbones.loading import Weights
from frcnn_cli.features.backbones.spec import BackboneSpec, MeanStd

__all__ = [
    "Backbone",
    "BackboneFamily",
    "BackboneSpec",
    "ConvsAndLinear",
    "FileFormatError",
    "FrcnnError",
    "MeanStd",
    "UsageError",
    "Weights",
    "hookimpl",
    "new_hidden_layers",
]
