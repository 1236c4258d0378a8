"""A data set, its proposals and what the network reads, put together for training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from frcnn_cli.core.decoding import read_ref
from frcnn_cli.core.errors import DataError, MismatchError, UsageError
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.data.dataset import Dataset
from frcnn_cli.data.labels import BadBoxes
from frcnn_cli.data.load import default_split, load_dataset
from frcnn_cli.data.pairing import BadImages, Pairing, ProposedSample, pair, proposed_samples
from frcnn_cli.data.sizes import SizeMismatch
from frcnn_cli.data.small_objects import advice_on_small_objects
from frcnn_cli.data.spec import names_its_splits
from frcnn_cli.detector.config import image_transform
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.store.join import join
from frcnn_cli.store.schema import FEATURES, PROPOSALS
from frcnn_cli.store.stage import open_stage
from frcnn_cli.training.inputs import CachedMaps, DecodedImages, Inputs
from frcnn_cli.training.settings import RunSettings
from frcnn_cli.training.validation import Validation


@dataclass(frozen=True)
class TrainingSet:
    """What a run is trained on.

    samples: images with their objects and proposals. classes: the names that labels index.
    proposals: the provenance of the proposals, which the model records.
    inputs: reads what the network sees of an image. digest: identifies all of it. split: of the data set.
    title: how messages name the data set and split.
    notes: what was fixed on reading, and what costs small objects, to be shown to the user.
    left_out: the keys of images that cannot be read.
    """

    samples: Sequence[ProposedSample]
    classes: tuple[str, ...]
    proposals: Mapping[str, Any]
    inputs: Inputs
    digest: str
    notes: tuple[str, ...] = ()
    split: str = ""
    title: str = ""
    left_out: tuple[str, ...] = ()


def read_training_set(settings: RunSettings, recipe: Recipe, dataset: Dataset | None = None) -> TrainingSet:
    """Reads the data set, proposals and conv maps that the settings name.

    Args:
        dataset: replaces the data set that the settings name.

    Raises:
        FrcnnError: a file that cannot be read, files that do not belong together, or no object to train on.
    """
    if settings.props is None:
        raise UsageError("training needs proposals", "Name a proposals file with --props")
    with open_stage(settings.props, PROPOSALS) as file:
        split = settings.split or ""
        if dataset is None:
            split = split or default_split(_named(settings.data), file.images)
            dataset = _load(settings, settings.data, split)
        pairing = pair(dataset, file, settings.bad_boxes, cast(BadImages, settings.bad_images))
        samples = proposed_samples(pairing, file)
        provenance = file.provenance
        records = [file.images[row] for row in pairing.rows]
    lacking = pairing.dataset.lacks_objects(recipe.sampling.difficult)
    if lacking:
        fix = "Train on them with --difficult" if "difficult" in lacking else "Name another --split"
        raise DataError(f"{lacking}, so there is nothing to train on", fix)
    inputs: Inputs = DecodedImages(read_ref, image_transform(recipe))
    maps = None
    if settings.features is not None:
        inputs = _cached_maps(settings.features, samples, pairing.digests, dataset.title, recipe)
        maps = inputs.file.provenance
    digest = images_digest(samples, pairing.digests, maps)
    advice = advice_on_small_objects(
        (sample.truth for sample in samples), records, provenance, image_transform(recipe).scale_for
    )
    notes = (*dataset.notes, *_skipped_notes(pairing), *map(str, advice))
    left_out = tuple(pairing.skipped)
    return TrainingSet(samples, dataset.classes, provenance, inputs, digest, notes, split, dataset.title, left_out)


def read_validation(settings: RunSettings, training: TrainingSet) -> Validation:
    """The images to validate on, with their proposals.

    Raises:
        MismatchError: one of them is also trained on. FrcnnError: see `read_training_set`.
    """
    data = settings.val_data or settings.data
    if data is None:
        raise UsageError("validation needs a data set", "Name one with --val-data")
    if not settings.val_data and names_its_splits(data):
        raise MismatchError(f"{data} has no other splits to validate on", "Name a data set with --val-data")
    with open_stage(settings.val_props or str(settings.props), PROPOSALS) as file:
        dataset = _load(settings, data, settings.validate_on).for_model(training.classes)
        try:
            pairing = pair(dataset, file, settings.bad_boxes, cast(BadImages, settings.bad_images))
            samples = proposed_samples(pairing, file)
        except MismatchError as error:
            fix = "Name the proposals of the validation split with --val-props"
            raise MismatchError(error.what, fix if "holds none" in error.what else error.fix) from None
    trained = {sample.ref.path.resolve() for sample in training.samples}
    for sample in samples:
        if sample.ref.path.resolve() in trained:
            raise MismatchError(
                f"{sample.ref.key} of {dataset.title} is also trained on, so its mAP would be meaningless",
                "Name another split with --validate-on, or another data set with --val-data",
            )
    return Validation(samples, notes=(*dataset.notes, *_skipped_notes(pairing)))


def _skipped_notes(pairing: Pairing) -> list[str]:
    return [f"skipped an image that cannot be read: {error.what}" for error in pairing.skipped.values()]


def _named(data: str | None) -> str:
    if data is None:
        raise UsageError("training needs a data set", "Name one with --data")
    return data


def _load(settings: RunSettings, data: str | None, split: str | None) -> Dataset:
    classes = None if settings.classes is None else [name.strip() for name in settings.classes.split(",")]
    mismatch = cast(SizeMismatch, settings.size_mismatch)
    return load_dataset(_named(data), split, cast(BadBoxes, settings.bad_boxes), classes, mismatch)


def _cached_maps(
    path: str, samples: Sequence[ProposedSample], digests: Sequence[str], title: str, recipe: Recipe
) -> CachedMaps:
    maps = open_stage(Path(path), FEATURES)
    records = [ImageRecord(s.ref.key, 0, 0, digest) for s, digest in zip(samples, digests, strict=True)]
    rows = join(records, maps.images, title, path)
    inputs = CachedMaps(maps, {sample.ref.key: row for sample, row in zip(samples, rows, strict=True)})
    expected = {
        "backbone": recipe.network.backbone,
        "fine": recipe.network.fine,
        "short_side": recipe.images.short_side,
        "long_side": recipe.images.long_side,
    }
    inputs.check_settings(expected, recipe.images.flip)
    return inputs


def images_digest(
    samples: Sequence[ProposedSample], digests: Sequence[str], maps: Mapping[str, Any] | None = None
) -> str:
    """A hash of the images, objects, proposals and conv maps of a run.

    Args:
        digests: the content hashes of the images. maps: the provenance of the features file, if there is one.
    """
    total = hashlib.blake2b(json.dumps(maps, sort_keys=True).encode() if maps else b"", digest_size=16)
    for sample, digest in zip(samples, digests, strict=True):
        total.update(f"{sample.ref.key} {digest} {len(sample.truth)} {len(sample.proposals)}\n".encode())
        for array in (sample.truth.boxes, sample.truth.labels, sample.truth.difficult, sample.proposals):
            total.update(array.tobytes())
    return total.hexdigest()
