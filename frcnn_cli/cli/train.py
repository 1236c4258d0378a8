"""frcnn train: labelled images + props.h5 -> a run's folder with a model."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from frcnn_cli.cli import options
from frcnn_cli.cli.command import NetworkCommand
from frcnn_cli.cli.display import Display
from frcnn_cli.cli.train_inputs import be_deterministic, trainer_of, validation_of
from frcnn_cli.cli.train_run import Watch, fit_svms, run, tensorboard_writer
from frcnn_cli.errors import FrcnnError

if TYPE_CHECKING:
    from frcnn_cli.recipes.recipe import Recipe

# What a run is made of besides its recipe: recorded in its checkpoint, and not to be changed on --resume.
_RECORDED = (
    *("data", "split", "props", "features", "weights", "classes", "bad_boxes"),
    *("validate_on", "val_data", "val_props", "validate_every", "patience"),
)
# Paths, whose content is compared instead; and what looks at a run from outside.
_MAY_MOVE = (
    *("data", "props", "features", "weights"),
    *("validate_on", "val_data", "val_props", "validate_every", "patience"),
)


@click.command(cls=NetworkCommand)
@click.option(
    "--data",
    metavar="DATA",
    help="Data set: voc:DIR, coco:JSON:DIR, or voc, voc2007, voc2012 (in $FRCNN_DATA or ./data); A+B for both.",
)
@click.option("--props", type=options.PATH, metavar="FILE", help="Proposals of its images.")
@click.option(
    "--features",
    type=options.PATH,
    metavar="FILE",
    help="Conv maps of its images (frcnn features --backbone ... --mirrored): only the head is trained.",
)
@click.option("--split", default="trainval", show_default=True, metavar="NAME", help="Split to train on.")
@click.option(
    "-o", "--output", type=options.PATH, metavar="DIR", help="Folder of the run. Default: runs/DATA-BACKBONE."
)
@options.weights
@click.option(
    "--recipe",
    default=None,
    metavar="R",
    help="paper, modern, or a TOML file: what the options below and all else begin with.  [default: paper]",
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A value of the recipe, e.g. solver.epochs=8; repeat."
)
@click.option("--show-config", is_flag=True, help="Print the recipe as it would be used, and do nothing.")
@options.recipe_value("--backbone", "network.backbone", options.BACKBONE)
@options.recipe_value("--epochs", "solver.epochs", options.Number(0, min_open=True))
@options.recipe_value("--lr", "solver.learning_rate", options.Number(0, min_open=True))
@options.recipe_value("--schedule", "solver.schedule", click.Choice(["step", "cosine"]))
@options.recipe_value("--warmup", "solver.warmup", click.IntRange(0))
@options.recipe_value("--batch-images", "sampling.images", click.IntRange(1))
@options.recipe_value("--rois", "sampling.rois", click.IntRange(1))
@options.recipe_value("--background-iou", "sampling.background_iou", options.Number(0, 1), nargs=2, metavar="LOW HIGH")
@options.recipe_value("--short-side", "images.short_side", click.IntRange(0))
@options.recipe_value("--long-side", "images.long_side", click.IntRange(1))
@options.recipe_value("--flip/--no-flip", "images.flip", bool)
@options.recipe_value("--difficult/--no-difficult", "sampling.difficult", bool)
@options.recipe_value("--seed", "solver.seed", click.IntRange(0))
@click.option(
    "--checkpoint-every",
    default=1.0,
    show_default=True,
    type=options.Number(0.001),
    help="Epochs between checkpoints.",
)
@click.option("--validate-on", metavar="NAME", help="Split whose mAP is told while training; the best model is kept.")
@click.option("--val-data", metavar="DATA", help="Data set of that split, where it is another than --data.")
@click.option(
    "--val-props", type=options.PATH, metavar="FILE", help="Proposals of that split. Default: --props holds them too."
)
@click.option(
    "--validate-every",
    default=1.0,
    show_default=True,
    type=options.Number(0.001),
    help="Epochs between validations.",
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    default=None,
    metavar="N",
    help="Stop when N validations in a row bring nothing better. Default: train to the end.",
)
@click.option("--tensorboard", is_flag=True, help="Also write event files for TensorBoard into DIR/tensorboard.")
@click.option("--deterministic", is_flag=True, help="On a GPU: the same sums in the same order, slower.")
@click.option("--resume", is_flag=True, help="Go on with the run in DIR (default: the newest under ./runs).")
@options.device
@options.classes
@options.bad_boxes
@click.option("--force", is_flag=True, help="Begin anew in a folder that holds a run.")
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    /,
    output: Path | None,
    checkpoint_every: float,
    tensorboard: bool,
    deterministic: bool,
    resume: bool,
    device: str,
    force: bool,
    as_json: bool,
    recipe: str | None,
    settings: tuple[str, ...],
    show_config: bool,
    **given: Any,
) -> None:
    """Train a detector, end to end, with the multi-task loss.

    Every number comes from a recipe: the paper's for VGG16 unless --recipe names another. Losses are shown and written
    to DIR/log.jsonl (frcnn curves draws them); DIR/model.safetensors is the model, and with --validate-on
    DIR/best.safetensors the best so far. Ctrl-C saves; --resume goes on, and ends in the same weights as a run that was
    never stopped.

    \b
    frcnn train --data voc --props props.h5
    frcnn train --data voc:my-images --props props.h5 -o runs/my --backbone squeezenet1_0 --short-side 480
    frcnn train --data voc:my-images --props props.h5 --recipe modern --set solver.average=0.999
    frcnn train --recipe modern --show-config > my.toml
    frcnn train --data voc:my-images --split train --props props.h5 --validate-on val --patience 5
    frcnn train --resume -o runs/my

    \b
    Conv layers as they are, computed once, and only the head trained:
    frcnn features voc:my-images --backbone vgg16 --mirrored -o feats.h5
    frcnn train --data voc:my-images --props props.h5 --features feats.h5 --backbone vgg16 -o runs/head
    """
    from frcnn_cli.errors import OutputExistsError
    from frcnn_cli.training.checkpoint import STATE_FILE, read_state

    display: Display = ctx.obj
    recorded = {name: given.pop(name) for name in _RECORDED}
    changes = options.recipe_changes(given)
    if recorded["weights"] not in ("imagenet", "none"):
        recorded["weights"] = str(Path(recorded["weights"]))
    if resume:
        folder = output or _newest_run()
        state = read_state(folder)[0]
        recorded = _recorded_by(state.data, ctx, recorded)
        chosen = _same_recipe(state.recipe, recipe, settings, changes, recorded)
        if show_config:
            display.json(chosen.to_dict()) if as_json else display.result(chosen.to_toml().rstrip())
            return
    else:
        chosen = _resolved(recipe, settings, changes, recorded)
        if show_config:
            display.json(chosen.to_dict()) if as_json else display.result(chosen.to_toml().rstrip())
            return
        for name in ("data", "props"):
            if recorded[name] is None:
                raise click.UsageError(f"Missing option '--{name}' (or --resume, to go on with a run).")
        folder = output or _free_folder(recorded["data"], chosen.network.backbone)
        if not force and any((folder / name).exists() for name in (STATE_FILE, "model.safetensors")):
            error = OutputExistsError(folder)
            error.fix = "Add --resume to go on with that run, --force to begin anew, or choose another -o"
            raise error
    if recorded["validate_on"] is None:
        for name in ("patience", "val_data", "val_props"):
            if recorded[name] is not None:
                raise click.UsageError(
                    f"--{name.replace('_', '-')} is for validation: name a split with --validate-on."
                )
    if recorded["patience"] is not None and (chosen.stages > 1 or chosen.network.classifier == "svm"):
        raise click.UsageError("--patience would end training before its last stage (solver.stages, SVMs).")
    writer = tensorboard_writer(folder) if tensorboard else None
    if deterministic:
        be_deterministic()
    trainer = trainer_of(folder, recorded, chosen, resume, device)
    validation = validation_of(recorded, trainer) if recorded["validate_on"] else None
    started = time.perf_counter()
    loss = None
    if trainer.state.iteration < trainer.total:
        watch = Watch(trainer, display, validation, recorded["validate_every"], recorded["patience"], writer)
        loss = run(trainer, display, checkpoint_every, watch)
        if loss is None:
            done = f"stopped at iteration {trainer.state.iteration} of {trainer.total}, saved"
            display.warn(f"{done}; go on with: frcnn train --resume -o {folder}")
            ctx.exit(130)
    elif not trainer.wants_svms():
        display.note(f"{folder} is finished: {trainer.total} iterations; train longer with a new run")
    if trainer.wants_svms():
        fit_svms(trainer, display)
    seconds = time.perf_counter() - started
    iterations, validated = trainer.state.iteration, trainer.validated() if validation else []
    if as_json:
        told = {"run": str(folder), "iterations": iterations, "of": trainer.total, "seconds": round(seconds, 1)}
        told |= {"loss": loss}
        if validation:
            each = [{"iteration": at, "map": value} for at, value in validated]
            told |= {"validation": each, "best": max(each, key=lambda one: one["map"], default=None)}
        display.json(told)
    elif loss is not None:
        took = f"{iterations} iterations, {seconds / 60:.1f} min, loss {loss:.3f}"
        display.note(f"{folder}/model.safetensors: {took}")
        if validated and (folder / "best.safetensors").exists():
            best = max(value for _, value in validated)
            display.note(f"the best while training (validation mAP {best:.3f}): --model {folder}/best.safetensors")


def _resolved(name: str | None, settings: tuple[str, ...], changes: dict[str, Any], recorded: dict[str, Any]) -> Recipe:
    """The recipe with what was typed. From cached maps, images are seen in one size and in their own colours, and no
    conv layer learns."""
    from frcnn_cli.recipes.reading import load
    from frcnn_cli.recipes.recipe import differences
    from frcnn_cli.recipes.values import typed

    values = changes | typed(settings)
    recipe = load(name or "paper").changed(values)
    if recorded["features"] is None:
        return recipe
    fixed = {"images.train_short_sides": [], "images.colour_jitter": 0.0, "network.train_from": "fc6"}
    from_maps = recipe.changed(fixed)
    for key, (own, needed) in differences(recipe, from_maps).items():
        if key in values:
            raise click.UsageError(f"{key} cannot be {own} with --features, whose maps are as they are ({needed}).")
    return from_maps


def _same_recipe(
    run: Recipe, name: str | None, settings: tuple[str, ...], changes: dict[str, Any], recorded: dict[str, Any]
) -> Recipe:
    """The recipe of a run to go on with; what is typed again must agree with it."""
    from frcnn_cli.recipes.recipe import differences
    from frcnn_cli.recipes.values import typed

    asked = run.changed(changes | typed(settings)) if name is None else _resolved(name, settings, changes, recorded)
    for key, (own, other) in differences(run, asked).items():
        raise click.UsageError(
            f"{key} {other} differs from the run's own {own}. Leave it out to resume, or begin anew."
        )
    return run


def _recorded_by(run: dict[str, Any], ctx: click.Context, given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run to go on with; those typed again must agree (paths may have moved)."""
    settings = {name: run.get(name) for name in _RECORDED}
    for name, value in given.items():
        if ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        if name in _MAY_MOVE:
            settings[name] = value
        elif (list(value) if isinstance(value, tuple) else value) != settings[name]:
            option = "--" + name.replace("_", "-")
            raise click.UsageError(
                f"{option} {value} differs from the run's own {settings[name]}. Leave it out to resume, or begin anew."
            )
    return settings


def _newest_run() -> Path:
    from frcnn_cli.training.checkpoint import STATE_FILE

    states = list(Path("runs").glob(f"*/{STATE_FILE}"))
    if not states:
        raise FrcnnError("there is no run under ./runs to go on with", "Name its folder with -o")
    return max(states, key=lambda path: path.stat().st_mtime).parent


def _free_folder(spec: str, backbone: str) -> Path:
    """runs/DATA-BACKBONE, or with -2, -3, ... if that is taken."""
    data = Path(spec.partition(":")[2] or "voc").resolve().name if ":" in spec else "voc"
    stem = re.sub(r"[^\w.-]+", "-", f"{data}-{backbone}".lower())
    number = 1
    while True:
        folder = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        if not folder.exists():
            return folder
        if not any(
            (folder / name).exists() for name in ("state.safetensors", "model.safetensors")
        ):  # begun, never saved
            return folder
        number += 1
