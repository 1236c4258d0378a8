"""The options of frcnn train, and how its outcome is printed."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.cli.common import options
from frcnn_cli.cli.common.console import Console

if TYPE_CHECKING:
    from frcnn_cli.training.train import TrainingSummary

_OPTIONS = (
    click.option("--data", metavar="DATA", help=options.DATA_HELP),
    click.option(
        "--props",
        type=options.PATH,
        metavar="FILE",
        help="Proposals of the images of DATA; several files as a pattern in quotes.",
    ),
    options.split,
    click.option(
        "-o", "--output", type=options.PATH, metavar="DIR", help="Folder of the run. Default: runs/DATA-BACKBONE."
    ),
    click.option(
        "--features",
        type=options.PATH,
        metavar="FILE",
        help="Conv maps of the images of DATA (frcnn features --backbone ... --mirrored); trains only the head.",
    ),
    options.weights,
    click.option(
        "--init",
        metavar="M",
        help="Model to start from, in place of --weights: a run, a model file, or a pretrained detector (coco is the"
        " smallest). The network, and the size and normalisation of images, are the model's; the recipe is"
        " modern by default.",
    ),
    click.option(
        "--recipe",
        metavar="R",
        help="paper, modern, or a TOML file. The options below override its values.  [default: paper]",
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change a value of the recipe, e.g. solver.epochs=8. Repeat for more.",
    ),
    click.option("--show-config", is_flag=True, help="Print the resulting recipe, and do nothing else."),
    options.recipe_value("--backbone", "network.backbone", options.Backbone()),
    options.recipe_value("--epochs", "solver.epochs", options.Number(0, min_open=True)),
    options.recipe_value("--lr", "solver.learning_rate", options.Number(0, min_open=True)),
    options.recipe_value("--schedule", "solver.schedule", click.Choice(["step", "cosine"])),
    options.recipe_value("--warmup", "solver.warmup", click.IntRange(0)),
    options.recipe_value("--batch-images", "sampling.images", click.IntRange(1)),
    options.recipe_value("--rois", "sampling.rois", click.IntRange(1)),
    options.recipe_value(
        "--background-iou", "sampling.background_iou", options.Number(0, 1), nargs=2, metavar="LOW HIGH"
    ),
    options.recipe_value("--short-side", "images.short_side", click.IntRange(0)),
    options.recipe_value("--long-side", "images.long_side", click.IntRange(1)),
    options.recipe_value("--flip/--no-flip", "images.flip", bool),
    options.recipe_value("--difficult/--no-difficult", "sampling.difficult", bool),
    options.recipe_value("--seed", "solver.seed", click.IntRange(0)),
    click.option("--validate-on", metavar="NAME", help="Split whose mAP is computed while training."),
    click.option("--val-data", metavar="DATA", help="Data set of that split. Default: the one of --data."),
    click.option(
        "--val-props",
        type=options.PATH,
        metavar="FILE",
        help="Proposals of that split. Default: --props, which must then hold them.",
    ),
    click.option(
        "--validate-every",
        default=1.0,
        show_default=True,
        type=options.Number(0.001),
        help="Epochs between validations.",
    ),
    click.option(
        "--patience",
        type=click.IntRange(1),
        metavar="N",
        help="Stop after N validations without improvement. Default: train to the end.",
    ),
    click.option(
        "--checkpoint-every",
        default=1.0,
        show_default=True,
        type=options.Number(0.001),
        help="Epochs between checkpoints.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(0),
        metavar="N",
        help="Processes per device that prepare mini-batches; 0: use threads instead. Default: 0 on up to two cores;"
        " otherwise one per two cores, at most four.",
    ),
    click.option(
        "--devices",
        default=1,
        show_default=True,
        type=click.IntRange(1),
        metavar="N",
        help="Train on N GPUs, or with N processes on the CPU, which share every mini-batch. At most the number of"
        " images per mini-batch. torchrun starts the processes itself and needs no --devices.",
    ),
    click.option("--tensorboard", is_flag=True, help="Also write event files for TensorBoard into DIR/tensorboard."),
    click.option("--deterministic", is_flag=True, help="Use deterministic algorithms on a GPU, which are slower."),
    click.option("--resume", is_flag=True, help="Continue the run in -o DIR, by default the newest under ./runs."),
    options.classes,
    options.bad_boxes,
    options.size_mismatch,
    options.bad_images,
    click.option("--force", is_flag=True, help="Start from scratch in a folder that holds a run."),
)


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Declares the options of frcnn train."""
    return reduce(lambda made, declare: declare(made), reversed(_OPTIONS), command)


def summary_as_json(summary: TrainingSummary, validates: bool) -> dict[str, Any]:
    about = {"run": str(summary.folder), "iterations": summary.iterations, "of": summary.total}
    about |= {"seconds": round(summary.seconds, 1), "loss": summary.loss}
    if validates:
        each = [{"iteration": at, "map": value} for at, value in summary.validated]
        about |= {"validation": each, "best": max(each, key=lambda one: one["map"], default=None)}
    return about


def print_summary(console: Console, summary: TrainingSummary) -> None:
    if summary.loss is None:
        return
    took = f"{summary.iterations} iterations, {summary.seconds / 60:.1f} min, loss {summary.loss:.3f}"
    console.note(f"{summary.folder}/model.safetensors: {took}")
    if summary.validated and summary.best_model.name == "best.safetensors":
        best = max(value for _, value in summary.validated)
        console.note(f"the best model of this run (validation mAP {best:.3f}): use --model {summary.best_model}")
