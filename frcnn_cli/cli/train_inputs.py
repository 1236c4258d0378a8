"""frcnn train before it trains: data, proposals and network put together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.cli import resolve
from frcnn_cli.errors import DataError, FileFormatError

if TYPE_CHECKING:
    from frcnn_cli.recipes.recipe import Recipe
    from frcnn_cli.training.loop import Trainer
    from frcnn_cli.training.validation import Validation


def trainer_of(folder: Path, recorded: dict[str, Any], recipe: Recipe, resume: bool, device: str) -> Trainer:
    """
    Args:
        folder: of the run. recorded: the run's settings besides its recipe. resume: as it was saved, not anew.

    Raises:
        FrcnnError: a file that cannot be read, or files that do not belong together.
    """
    from frcnn_cli.data.decode import digest_file, read_ref
    from frcnn_cli.data.identify import records
    from frcnn_cli.data.spec import named
    from frcnn_cli.device import choose_device
    from frcnn_cli.model import ModelConfig, image_transform
    from frcnn_cli.store.join import join
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import FEATURES, PROPOSALS
    from frcnn_cli.training.batches import TrainingImage
    from frcnn_cli.training.inputs import CachedMaps, DecodedImages, Inputs
    from frcnn_cli.training.loop import Trainer, images_digest

    chosen = choose_device(device)
    dataset = resolve.data_set(recorded["data"], recorded["split"], recorded["bad_boxes"], recorded["classes"])
    identified, whole = records(dataset.refs, digest_file), named(recorded["data"], recorded["split"])
    with StageFile(recorded["props"], PROPOSALS) as file:
        rows = join(identified, file.images, whole, str(recorded["props"]))
        dataset = dataset.within([file.images[row] for row in rows], recorded["bad_boxes"])
        images = [
            TrainingImage(sample.ref, sample.truth, file[row]["boxes"])
            for sample, row in zip(dataset.samples, rows, strict=True)
        ]
        proposals = file.provenance
    if not any(len(image.truth) for image in images):
        raise DataError(f"{whole} has no object to learn", "Name another --split")
    transform = image_transform(recipe)
    inputs: Inputs = DecodedImages(read_ref, transform)
    if recorded["features"] is not None:
        maps = click.get_current_context().with_resource(StageFile(recorded["features"], FEATURES))
        rows = join(identified, maps.images, whole, str(recorded["features"]))
        inputs = CachedMaps(maps, {image.ref.key: row for image, row in zip(images, rows, strict=True)})
        settings = {
            "backbone": recipe.network.backbone,
            "fine": recipe.network.fine,
            "short_side": recipe.images.short_side,
            "long_side": recipe.images.long_side,
        }
        inputs.check_settings(settings, recipe.images.flip)
    learnt_from = inputs.file.provenance if isinstance(inputs, CachedMaps) else None
    digest = images_digest(images, [image.digest for image in identified], learnt_from)
    if resume:
        return Trainer.resume(folder, images, digest, inputs, chosen)
    try:
        model = ModelConfig(recipe.network, dataset.classes, transform, proposals, recipe=recipe.to_dict())
    except (ValueError, TypeError) as error:
        raise FileFormatError(f"{recorded['props']} does not tell how it was made ({error})", "Make it anew") from None
    kept = {name: str(value) if isinstance(value, Path) else value for name, value in recorded.items()}
    return Trainer.begin(folder, images, model, recipe, recorded["weights"], kept, digest, inputs, chosen)


def validation_of(recorded: dict[str, Any], trainer: Trainer) -> Validation:
    """The images that are validated on, with their proposals.

    Raises:
        MismatchError: one of them is trained on.
    """
    from frcnn_cli.data.decode import read_ref
    from frcnn_cli.data.spec import named, names_its_splits
    from frcnn_cli.errors import MismatchError
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import PROPOSALS
    from frcnn_cli.training.batches import TrainingImage
    from frcnn_cli.training.validation import Validation

    data, split = recorded["val_data"] or recorded["data"], recorded["validate_on"]
    if not recorded["val_data"] and names_its_splits(data):
        raise MismatchError(f"{data} has no other splits to validate on", "Name a data set with --val-data")
    with StageFile(recorded["val_props"] or recorded["props"], PROPOSALS) as file:
        dataset, rows = resolve.truth(
            data, split, recorded["bad_boxes"], recorded["classes"], trainer.detector.config.classes, file
        )
        images = [
            TrainingImage(sample.ref, sample.truth, file[row]["boxes"])
            for sample, row in zip(dataset.samples, rows, strict=True)
        ]
    trained = {image.ref.path.resolve() for image in trainer.batches.images}
    for image in images:
        if image.ref.path.resolve() in trained:
            raise MismatchError(
                f"{image.ref.key} of {named(data, split)} is also trained on, so its mAP would tell nothing",
                "Name another split with --validate-on, or another data set with --val-data",
            )
    return Validation(images, read_ref)


def be_deterministic() -> None:
    """cuBLAS wants its workspace set before it is first used."""
    import os

    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
