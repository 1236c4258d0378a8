"""From arguments to what they name: images, data sets, models, sources. Cheap checks come before heavy imports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.core.errors import FrcnnError, ImageError, OutputExistsError, UsageError

if TYPE_CHECKING:
    from frcnn_cli.cli.common.console import Console
    from frcnn_cli.core.annotations import GroundTruth
    from frcnn_cli.core.image import ImageRecord, ImageRef
    from frcnn_cli.data.dataset import Dataset
    from frcnn_cli.data.pairing import PairedDetections
    from frcnn_cli.proposals.source import ProposalSource
    from frcnn_cli.training.settings import RunSettings


def _console() -> Console:
    return click.get_current_context().obj  # type: ignore[no-any-return]


def must_differ(output: Path, *inputs: Path) -> None:
    """Raises FrcnnError if an output is also an input, which --force would destroy while it is read."""
    from frcnn_cli.store.stage import stage_paths

    for path in (each for given in inputs for each in stage_paths(given) or [given]):
        if path.exists() and output.exists() and path.samefile(output):
            raise FrcnnError(f"{output} is also an input of this command", "Choose another output path")


def check_output(output: Path, force: bool, endings: Sequence[str] = (), *inputs: Path) -> None:
    """Refuses an output that has another ending, is an input, or exists."""
    if endings and (output.suffix.lower() not in endings or output.is_dir()):
        raise click.UsageError(f"-o {output}: name a file that ends in {' or '.join(endings)}.")
    must_differ(output, *inputs)
    if output.exists() and not force and not output.is_dir():
        raise OutputExistsError(output)


def check_images(arguments: Sequence[str], split: str | None) -> None:
    """Refuses --split without a data set, and images if none exists; imports nothing heavy."""
    from frcnn_cli.data.spec import is_dataset_spec

    if any(is_dataset_spec(argument) and not Path(argument).exists() for argument in arguments):
        if len(arguments) > 1:
            raise click.UsageError("Name either one data set, or files and folders.")
        return
    if split is not None:
        raise click.UsageError("--split needs a data set (voc:DIR).")
    from frcnn_cli.core.find import is_elsewhere

    if not any(argument.startswith("@") or Path(argument).exists() or is_elsewhere(argument) for argument in arguments):
        raise ImageError(f"{arguments[0]} does not exist", "Check the path")


def images(arguments: Sequence[str], split: str | None) -> list[ImageRef]:
    """The images that IMAGES... names: files, folders, @list.txt, or one data set."""
    check_images(arguments, split)
    from frcnn_cli.core.find import find_images
    from frcnn_cli.data.spec import is_dataset_spec

    if is_dataset_spec(arguments[0]) and not Path(arguments[0]).exists():
        from frcnn_cli.data.load import load_image_refs

        return load_image_refs(arguments[0], split)
    return find_images(arguments)


def labelled_images(data: str, split: str | None) -> tuple[list[ImageRef], list[GroundTruth] | None]:
    """The images of a data set in the order of its list, with their objects; or those of a path, without objects."""
    from frcnn_cli.core.find import find_images
    from frcnn_cli.data.spec import is_dataset_spec

    if not is_dataset_spec(data) or Path(data).exists():
        if split is not None:
            raise click.UsageError("--split needs a data set (voc:DIR).")
        return find_images((data,)), None
    from frcnn_cli.data.load import load_dataset, load_image_refs

    refs = load_image_refs(data, split, as_listed=True)
    truths = load_dataset(data, split, "fix").truth
    return refs, [truths[ref.key] for ref in refs]


def dataset(
    spec: str,
    split: str | None,
    bad_boxes: Any = "error",
    class_names: str | None = None,
    covered_by: Sequence[ImageRecord] | None = None,
    size_mismatch: Any = "error",
    pictures: bool = True,
) -> Dataset:
    """A data set, perhaps restricted to some classes; prints what was fixed.

    Args:
        covered_by: the images of a file, which determine the split if none is named.
        pictures: see `load_dataset`.
    """
    from frcnn_cli.data.load import default_split, load_dataset

    names = None if not class_names else [name.strip() for name in class_names.split(",")]
    found = load_dataset(spec, split or default_split(spec, covered_by), bad_boxes, names, size_mismatch, pictures)
    for note in found.notes:
        _console().warn(note)
    return found


def detections(
    path: Path, spec: str, split: str | None, bad_boxes: Any, size_mismatch: Any, class_names: str | None
) -> PairedDetections:
    """Objects and detections of the same images; warns of what makes their comparison doubtful.

    Args:
        path: a detections file, a folder of VOC's result files, or a .json of COCO results.
    """
    from frcnn_cli.data.pairing import pair_detections, pair_results

    if not path.is_dir() and path.suffix.lower() != ".json":
        whole = dataset(spec, split, bad_boxes, class_names, images_in(path), size_mismatch)
        paired = pair_detections(whole, path, bad_boxes)
    else:
        from frcnn_cli.evaluation.results import read_results

        split = split or _split_of_results(path, spec)
        whole = dataset(spec, split, bad_boxes, pictures=False)
        names = None if class_names is None else [name.strip() for name in class_names.split(",")]
        chosen = whole if names is None or not path.is_dir() else whole.with_classes(names)  # only their files are read
        results = read_results(
            path, chosen.classes, split or chosen.split, chosen.numbered, chosen.category_ids, complete=names is None
        )
        for note in results.notes:
            _console().warn(note)
        paired = pair_results(chosen, results.detections, str(path), names)
    for note in paired.doubts():
        _console().warn(note)
    return paired


def _split_of_results(path: Path, spec: str) -> str | None:
    """The split that the names of VOC's result files state; None for other results."""
    from frcnn_cli.data.load import splits_of
    from frcnn_cli.evaluation.results import splits_of_voc_results

    found = splits_of_voc_results(path, splits_of(spec)) if path.is_dir() else []
    return found[0] if len(found) == 1 else None


def images_in(path: Path) -> Sequence[ImageRecord]:
    """The images in a file of a stage."""
    from frcnn_cli.store.stage import open_stage

    with open_stage(path) as file:
        return file.images


def source(names: Sequence[str], pairs: Sequence[str]) -> ProposalSource:
    """The source with its options, all checked; several sources become a mix. Warns of plugins that failed to load."""
    from frcnn_cli.core.options import parse_settings
    from frcnn_cli.proposals.registry import DEFAULT_SOURCE, load_registry

    registry = load_registry()
    for failure in registry.failures:
        _console().warn(f"plugin {failure.entry_point} ({failure.origin}) failed to load: {failure.reason}")
    names = tuple(names) or (DEFAULT_SOURCE,)
    if len(set(names)) < len(names):
        raise UsageError("a source is named twice", "Name each source once")
    if len(names) > 1 and "mix" in names:
        raise UsageError("a mix cannot contain a mix", "Name its sources instead")
    options: dict[str, dict[str, str]] = {name: {} for name in names}
    for key, value in parse_settings(pairs).items():
        name, dot, option = key.rpartition(".")
        if not dot and len(names) > 1:
            raise UsageError(f"--set {key} does not state its source", f"Use --set {names[0]}.{key}=VALUE")
        if dot and name not in options:
            raise UsageError(f"--set {key} is for {name!r}, which is not among the sources", f"Add --source {name}")
        options[name if dot else names[0]][option] = value
    made = [registry.configured(name, options[name]) for name in names]
    return made[0] if len(made) == 1 else registry.configured("mix", {"sources": made})


def check_training_inputs(run: RunSettings, device: str) -> None:
    """Refuses, without importing torch, a device, a data set or a stage file that does not exist, and proposals that
    lack images of a data set in VOC layout."""
    from frcnn_cli.data.load import default_split, load_image_refs, splits_of
    from frcnn_cli.data.pairing import check_names
    from frcnn_cli.data.spec import named
    from frcnn_cli.store.schema import FEATURES, PROPOSALS
    from frcnn_cli.store.stage import open_stage
    from frcnn_cli.system.device import check_device_name

    check_device_name(device)
    for spec in (run.data, run.val_data):
        if spec is not None:
            splits_of(spec)
    for path, schema in ((run.props, PROPOSALS), (run.val_props, PROPOSALS), (run.features, FEATURES)):
        if path is not None:
            with open_stage(path, schema) as file:
                if path == run.props and run.bad_images == "error" and "coco:" not in str(run.data):
                    split = run.split or default_split(str(run.data), file.images)
                    check_names(load_image_refs(str(run.data), split), named(str(run.data), split), file)
