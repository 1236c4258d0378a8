"""From what was typed to what it names: images, data sets, models, sources; and how a file says it was made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from frcnn_cli.annotations import Detections, GroundTruth
    from frcnn_cli.data.dataset import Dataset
    from frcnn_cli.detections.nms import Thresholds
    from frcnn_cli.image import ImageRecord, ImageRef
    from frcnn_cli.proposals.source import ProposalSource
    from frcnn_cli.recipes.recipe import Recipe
    from frcnn_cli.store.reader import StageFile


def must_differ(output: Path, *inputs: Path) -> None:
    """Raises FrcnnError where an output is also an input: --force would destroy what is being read."""
    from frcnn_cli.errors import FrcnnError

    for path in inputs:
        if path.exists() and output.exists() and path.samefile(output):
            raise FrcnnError(f"{output} is also an input of this command", "Choose another output path")


def images(arguments: tuple[str, ...], split_name: str | None) -> list[ImageRef]:
    """The images that IMAGES... names: files, folders, @list.txt, or one data set with --split."""
    from frcnn_cli.data.find import find_images
    from frcnn_cli.data.spec import is_dataset_spec, load_image_refs

    if any(is_dataset_spec(argument) and not Path(argument).exists() for argument in arguments):
        if len(arguments) > 1:
            raise click.UsageError("A data set goes alone: name either it or files and folders.")
        return load_image_refs(arguments[0], split_name or "trainval")
    if split_name is not None:
        raise click.UsageError("--split goes with a data set (voc:DIR).")
    return find_images(arguments)


def labelled_images(data: str, split_name: str | None) -> tuple[list[ImageRef], list[GroundTruth] | None]:
    """The images of a data set in the order of its list, with their objects; or those of a path, without."""
    from frcnn_cli.data.find import find_images
    from frcnn_cli.data.spec import is_dataset_spec, load_dataset, load_image_refs

    if not is_dataset_spec(data) or Path(data).exists():
        if split_name is not None:
            raise click.UsageError("--split goes with a data set (voc:DIR).")
        return find_images((data,)), None
    refs = load_image_refs(data, split_name or "trainval", as_listed=True)
    dataset = load_dataset(data, split_name or "trainval", "fix")
    truths = {sample.ref.key: sample.truth for sample in dataset.samples}
    return refs, [truths[ref.key] for ref in refs]


def data_set(spec: str, split_name: str, bad: Any, class_names: str | None) -> Dataset:
    """The data set, its classes perhaps restricted; says what was mended."""
    from frcnn_cli.data.spec import load_dataset

    dataset = load_dataset(spec, split_name, bad)
    for note in dataset.notes:
        click.get_current_context().obj.warn(note)
    if class_names:
        dataset = dataset.with_classes(name.strip() for name in class_names.split(","))
    return dataset


def truth(
    spec: str, split_name: str, bad: Any, class_names: str | None, names: tuple[str, ...], file: StageFile
) -> tuple[Dataset, list[int]]:
    """The objects of a data set, labelled as a model's `names` count, and which image of `file` each sample is.

    Raises:
        MismatchError: objects of a class that the model does not know, or images that `file` lacks.
    """
    from frcnn_cli.data.decode import digest_file
    from frcnn_cli.data.identify import records
    from frcnn_cli.data.spec import named
    from frcnn_cli.errors import MismatchError
    from frcnn_cli.store.join import join

    dataset = data_set(spec, split_name, bad, class_names)
    unknown = [name for name in dataset.classes if name not in names]
    if unknown:
        raise MismatchError(
            f"{spec} has objects of class {unknown[0]!r}, which the model does not know",
            f"Name the classes to evaluate: --classes {','.join(n for n in dataset.classes if n in names)}",
        )
    rows = join(records(dataset.refs, digest_file), file.images, named(spec, split_name), str(file.path))
    return dataset.relabelled(names).within([file.images[row] for row in rows], bad), rows


def detections(
    dets: Path, spec: str, split_name: str, bad: Any, class_names: str | None
) -> tuple[Dataset, dict[str, Detections], dict[str, ImageRecord]]:
    """Objects and detections by image of the data set, and what a detections file calls each image.

    Args:
        dets: a detections file, a folder of VOC's results, or a .json of COCO's.
    """
    from frcnn_cli.detections.columns import from_columns
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import DETECTIONS

    if not dets.is_dir() and dets.suffix.lower() != ".json":
        with StageFile(dets, DETECTIONS) as file:
            dataset, rows = truth(spec, split_name, bad, class_names, file.classes, file)
            keys = [sample.ref.key for sample in dataset.samples]
            found = {key: from_columns(file[row]) for key, row in zip(keys, rows, strict=True)}
            return dataset, found, {key: file.images[row] for key, row in zip(keys, rows, strict=True)}
    from frcnn_cli.detections.columns import of_classes
    from frcnn_cli.evaluation.results import read_coco_results, read_voc_results

    whole = data_set(spec, split_name, bad, None)
    if dets.is_dir():
        found = read_voc_results(dets, whole.classes, split_name)
    else:
        found = read_coco_results(dets, whole.numbered, whole.category_ids)
    found = whole.only_of(found, str(dets))
    if class_names is None:
        return whole, found, {}
    dataset = whole.with_classes(name.strip() for name in class_names.split(","))
    return dataset, {key: of_classes(d, whole.classes, dataset.classes) for key, d in found.items()}, {}


def model(path: Path | None) -> Path:
    """The model to use: as named, `$FRCNN_MODEL`, or the newest run under ./runs."""
    from frcnn_cli.errors import FrcnnError

    if path is not None:
        return path
    if os.environ.get("FRCNN_MODEL"):
        named = Path(os.environ["FRCNN_MODEL"])
        if not named.exists():
            raise FrcnnError(
                f"$FRCNN_MODEL names {named}, which does not exist", "Correct it, or name one with --model"
            )
        return named
    models = [model_file for model_file in Path("runs").glob("*/model.safetensors") if model_file.is_file()]
    if models:
        newest = max(models, key=lambda found: found.stat().st_mtime).parent
        click.get_current_context().obj.note(f"model: {newest} (the newest under ./runs)")
        return newest
    raise FrcnnError(
        "no model named, $FRCNN_MODEL is not set, and ./runs holds no finished run",
        "Name one with --model, or train one: frcnn train --data voc:DIR --props props.h5",
    )


def source(names: tuple[str, ...], pairs: tuple[str, ...]) -> ProposalSource:
    """The source with its options, all checked; several make a mix. Names each plugin that failed to load."""
    from frcnn_cli.errors import UsageError
    from frcnn_cli.proposals.registry import DEFAULT_SOURCE, load_registry
    from frcnn_cli.proposals.source import parse_settings

    registry = load_registry()
    for failure in registry.failures:
        click.get_current_context().obj.warn(f"plugin {failure.entry_point} ({failure.origin}): {failure.reason}")
    names = names or (DEFAULT_SOURCE,)
    if len(set(names)) < len(names):
        raise UsageError("a source is named twice", "Name each source once")
    if len(names) > 1 and "mix" in names:
        raise UsageError("a mix cannot be a part of a mix", "Name its sources instead")
    options: dict[str, dict[str, str]] = {name: {} for name in names}
    for key, value in parse_settings(pairs).items():
        name, dot, option = key.rpartition(".")
        if not dot and len(names) > 1:
            raise UsageError(f"--set {key} does not tell which source is meant", f"Write --set {names[0]}.{key}=VALUE")
        if dot and name not in options:
            raise UsageError(f"--set {key} is for {name!r}, which is not among the sources", f"Add --source {name}")
        options[name if dot else names[0]][option] = value
    made = [registry.configured(name, options[name]) for name in names]
    if len(made) == 1:
        return made[0]
    return registry.configured("mix", {"sources": [source.described() for source in made]})


def prepare(source: ProposalSource) -> None:
    """Makes a source ready, and says so if that takes longer than a moment (kernels compile once per machine)."""
    from threading import Timer

    display = click.get_current_context().obj
    note = Timer(3.0, display.note, [f"making {source.name} ready (kernels are compiled once per machine) ..."])
    note.start()
    try:
        source.prepare()
    finally:
        note.cancel()


def recipe_of(file: StageFile) -> Recipe | None:
    """The recipe that a file of a stage tells, if it does.

    Raises:
        FileFormatError: it is none.
    """
    from frcnn_cli.errors import FileFormatError, UsageError
    from frcnn_cli.recipes.recipe import Recipe

    told = file.provenance.get("recipe")
    if not told:
        return None
    try:
        return Recipe.from_dict(told)
    except UsageError as error:
        raise FileFormatError(f"{file.path} tells a damaged recipe ({error.what})", "Make the file anew") from None


def rule_of(file: StageFile) -> tuple[Thresholds, list[float] | None]:
    """What made detections out of scores: thresholds, and the score of each class above which they are.

    Raises:
        FileFormatError: the file does not tell.
    """
    from frcnn_cli.detections.nms import Thresholds
    from frcnn_cli.errors import FileFormatError

    try:
        told = {name: value for name, value in dict(file.provenance["thresholds"]).items() if name != "per_set"}
        above = told.pop("above", None)
        least = [float(value) for value in above] if above is not None else None
        rule = Thresholds(**{name: type(Thresholds()._asdict()[name])(value) for name, value in told.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{file.path} does not tell how it was made ({error})", "Make it with frcnn nms"
        ) from None
    if least is not None and len(least) != len(file.classes):
        raise FileFormatError(f"{file.path} tells {len(least)} thresholds of its classes", "Make it with frcnn nms")
    return rule, least
