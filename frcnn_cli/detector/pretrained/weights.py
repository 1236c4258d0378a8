"""The files of pretrained weights: where torchvision keeps them, downloading them, and reading them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import FileFormatError
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.detector.files import StoredModel
from frcnn_cli.detector.pretrained.convert import converted
from frcnn_cli.detector.pretrained.models import PretrainedModel, pretrained_model
from frcnn_cli.features.backbones.loading import read_state_dict
from frcnn_cli.system.download import download

_SECOND_NAME = "N/A"  # torchvision's name for the ids that COCO 2017 does not use


@dataclass(frozen=True)
class PublishedWeights:
    """What torchvision states about the weights of a detector.

    url: of the file. path: where it is, or would be, on this machine. megabytes: its size.
    box_ap: AP on COCO val2017, as stated. classes: the class names, without the background.
    """

    url: str
    path: Path
    megabytes: float
    box_ap: float
    classes: tuple[str, ...]

    @property
    def is_here(self) -> bool:
        return self.path.is_file()

    @property
    def checksum(self) -> str:
        """The first digits of the SHA-256, which are part of the name of the file."""
        found = re.search(r"-([0-9a-f]{8,})\.\w+$", self.url)
        return found[1] if found else ""


def weights_folder() -> Path:
    """The folder in which torchvision keeps downloaded weights: $TORCH_HOME/hub/checkpoints."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or str(Path(cache) / "torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def published_weights(model: PretrainedModel) -> PublishedWeights:
    """What torchvision states about the weights of a detector."""
    from torchvision.models import detection  # imported late: torchvision imports torch._dynamo

    weights: Any = getattr(detection, model.enum).COCO_V1
    meta = weights.meta
    return PublishedWeights(
        weights.url,
        weights_folder() / Path(weights.url).name,
        float(meta["_file_size"]),
        float(meta["_metrics"]["COCO-val2017"]["box_map"]),
        unique_names(meta["categories"][1:]),
    )


def fetch_weights(model: PretrainedModel, progress: Progress = SILENT) -> PublishedWeights:
    """The weights of a detector, downloaded unless they are here.

    Raises:
        FrcnnError: they could not be downloaded or written.
    """
    weights = published_weights(model)
    if not weights.is_here:
        fix = (
            f"On a machine with a connection, download {weights.url}, and put it at {weights.path}; or train a model of"
            " your own (frcnn train), and name it with --model"
        )
        download(weights.url, weights.path, weights.checksum, fix, progress)
    return weights


def read_pretrained(
    name: str,
    weights: str | Path | None = None,
    classes: Sequence[str] | None = None,
    norm_eps: float | None = None,
    progress: Progress = SILENT,
) -> StoredModel:
    """A detector of torchvision as Fast R-CNN.

    Args:
        name: a name in `models.PRETRAINED`, or "coco" for the smallest of them.
        weights: the path of a state dict of that detector, in place of torchvision's.
        norm_eps: what the detector adds to the variance in batch normalisation. By default 1e-5 if the state dict is of
            plain batch normalisation, and otherwise as with torchvision's weights for COCO, from which most detectors
            are trained further.
        classes: its class names, without the background; by default those of torchvision's weights.

    Raises:
        UsageError: no such detector, or another number of classes. FrcnnError: the weights cannot be downloaded or
            read, or belong to another network.
    """
    model = pretrained_model(name)
    published = fetch_weights(model, progress) if weights is None else published_weights(model)
    path = Path(weights) if weights is not None else published.path
    try:
        state = read_state_dict(path)
    except FileFormatError as error:
        if weights is not None:
            raise
        raise FileFormatError(error.what, f"Delete it, and run frcnn models get {model.name}") from None
    if norm_eps is None:
        # Plain batch normalisation counts its batches; frozen one, which torchvision's weights have, does not.
        plain = any(key.endswith("num_batches_tracked") for key in state)
        norm_eps = 1e-5 if plain and weights is not None else model.norm_eps
    return converted(model, state, tuple(classes or published.classes), norm_eps, path)


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Class names; those of ids that COCO does not use get their id, so that each name occurs once."""
    return tuple(f"unused {i}" if name == _SECOND_NAME else name for i, name in enumerate(names, 1))
