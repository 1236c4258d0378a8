"""From options to the model that they name: a run, a file, a pretrained detector, a backbone, vectors of classes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.cli.common import arguments
from frcnn_cli.core.errors import FrcnnError, UsageError

if TYPE_CHECKING:
    from frcnn_cli.cli.common.console import Console
    from frcnn_cli.detector.detector import Detector
    from frcnn_cli.proposals.source import ProposalSource


def _console() -> Console:
    return click.get_current_context().obj  # type: ignore[no-any-return]


def model_file(path: Path) -> Path:
    """The model file of a run or a path, checked without importing torch."""
    from frcnn_cli.core.run_files import model_path
    from frcnn_cli.detector.header import MODEL_KEY, read_description

    found = model_path(path)
    if not path.exists() and path.name == str(path) and not path.suffix:
        from frcnn_cli.detector.pretrained.models import pretrained_model

        try:
            pretrained_model(str(path))
        except UsageError as error:
            raise FrcnnError(f"{path} is not a file or folder, and {error.what}", error.fix) from None
    read_description(found, MODEL_KEY)
    return found


def model(path: Path | None, or_pretrained: bool = False) -> Path:
    """The model: as named, $FRCNN_MODEL, or the newest run under ./runs; checked without importing torch. The weights
    of a pretrained detector are downloaded unless they are here.

    Args:
        or_pretrained: without any of these, the smallest pretrained detector.
    """
    from frcnn_cli.core.run_files import MODEL_FILE, newest_run
    from frcnn_cli.detector.pretrained.models import SMALLEST, is_pretrained, pretrained_model

    chosen = path
    if chosen is None and os.environ.get("FRCNN_MODEL"):
        chosen = Path(os.environ["FRCNN_MODEL"])
        if not chosen.exists() and not is_pretrained(str(chosen)):
            raise FrcnnError(
                f"$FRCNN_MODEL names {chosen}, which does not exist", "Correct it, or name a model with --model"
            )
        _console().note(f"model: {chosen} ($FRCNN_MODEL)")
    if chosen is None:
        chosen = newest_run(MODEL_FILE)
        if chosen is not None:
            _console().note(f"model: {chosen} (the newest under ./runs)")
        elif or_pretrained:
            chosen = Path(SMALLEST)
            _console().note(
                f"model: {SMALLEST}, trained on COCO (--model and $FRCNN_MODEL are not set, and ./runs holds no model)"
            )
        else:
            raise FrcnnError("no model: --model and $FRCNN_MODEL are not set, and ./runs holds no model", _model_fix())
    if is_pretrained(str(chosen)):
        fetch(str(chosen))
        lost = pretrained_model(str(chosen)).loses
        if lost:
            _console().note(f"{chosen} also finds {lost}; that head is not used")
    else:
        model_file(chosen)
    return chosen


def fetch(name: str) -> None:
    """Downloads the weights of a pretrained detector, unless they are here, and states where they go."""
    from frcnn_cli.detector.pretrained.models import LICENCE, pretrained_model
    from frcnn_cli.detector.pretrained.weights import fetch_weights, published_weights

    found = pretrained_model(name)
    weights = published_weights(found)
    if not weights.is_here:
        _console().note(f"downloading {found.name} ({weights.megabytes:.0f} MB) to {weights.path}; licence: {LICENCE}")
        fetch_weights(found, _console())


def detector(model: Path | None, backbone: str | None, weights: str, device: str, precision: str) -> Detector:
    """The detector of a model, or of a backbone that is not trained further."""
    from frcnn_cli.detector.detector import Detector
    from frcnn_cli.recipes.recipe import Recipe

    if model is not None:
        return Detector.load(model, device, precision)
    recipe = Recipe().changed({"network.backbone": backbone})
    return Detector.untrained(recipe, weights, device).to_precision(precision)


def name_by_vectors(
    detector: Detector,
    classes_from: str | None,
    class_vectors: Path | None,
    source: ProposalSource | None,
    layer: Any,
    examples: int | None,
) -> None:
    """Gives a detector the classes of examples or of a file of vectors."""
    from frcnn_cli.data.spec import is_dataset_spec
    from frcnn_cli.inference import class_vectors as made

    layer = layer or ("pooled" if detector.hidden_is_random else "hidden")
    if layer == "hidden" and detector.hidden_is_random:
        raise UsageError(
            "the hidden layers start from random weights, so their vectors mean nothing", "Use --layer mean"
        )
    if class_vectors is not None:
        detector.class_vectors = replace(made.read_class_vectors(class_vectors), layer=layer)
        made.check_length(detector)
    elif is_dataset_spec(str(classes_from)) and not Path(str(classes_from)).exists():
        found, chosen = arguments.dataset(str(classes_from), None, "fix"), source or detector.source()
        detector.class_vectors = made.class_vectors_of_dataset(found, detector, chosen, layer, examples, _console())
    elif not Path(str(classes_from)).is_dir():
        raise UsageError(f"{classes_from} is neither a folder nor a data set", "Name a folder with a folder per class")
    elif examples is not None:
        raise UsageError("--examples works with data sets", "Remove crops from the folders instead")
    else:
        detector.class_vectors = made.class_vectors_of_crops(Path(str(classes_from)), detector, layer, _console())


def _model_fix() -> str:
    import shlex
    import sys

    demo = Path("frcnn-demo/run")
    if (demo / "model.safetensors").is_file():
        words = [word for word in sys.argv[1:] if word]
        return f"Use that of frcnn demo: frcnn {shlex.join([*words, '--model', str(demo)])}"
    return "Name one with --model, or train one: frcnn train --data voc:DIR --props props.h5"
