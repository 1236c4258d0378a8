"""frcnn train: labelled images and proposals -> the folder of a run, with a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from frcnn_cli.cli.common import arguments, models, options
from frcnn_cli.cli.common.command import NetworkCommand
from frcnn_cli.cli.common.console import Console
from frcnn_cli.cli.common.interrupt import StopOnSignal, StoppedAtOnce, resume_command
from frcnn_cli.cli.common.training import print_summary, summary_as_json, training_options
from frcnn_cli.system.processes import started_together

if TYPE_CHECKING:
    from frcnn_cli.recipes.recipe import Recipe


@click.command(cls=NetworkCommand)
@training_options
@options.device
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    /,
    output: Path | None,
    resume: bool,
    force: bool,
    recipe: str | None,
    settings: tuple[str, ...],
    show_config: bool,
    as_json: bool,
    device: str,
    **given: Any,
) -> None:
    """Train a detector, end to end, with the multi-task loss.

    Every number comes from a recipe; the default is paper, whose backbone is VGG16. DIR/model.safetensors is the model;
    with --validate-on, DIR/best.safetensors is the best so far. Losses are written to DIR/log.jsonl, which frcnn curves
    draws. Ctrl-C saves and stops; --resume continues, also a finished run if --epochs is more than before. On a CPU, a
    resumed run ends with the same weights as an uninterrupted one.

    \b
    frcnn train --data voc --props props.h5
    frcnn train --data voc:my-images --props props.h5 -o runs/my --recipe modern
    frcnn train --data voc:my-images --props props.h5 --set network.backbone=squeezenet1_0 --set solver.epochs=8
    frcnn train --data voc:my-images --split train --props props.h5 --validate-on val --patience 5
    frcnn train --recipe modern --show-config > my.toml
    frcnn train --data voc:my-images --props props.h5 --init coco -o runs/my
    frcnn train --resume -o runs/my
    frcnn train --resume -o runs/my --epochs 24
    frcnn train --data voc:my-images --props props.h5 --recipe modern --devices 2

    \b
    To train only the head, on conv maps that are computed once:
    frcnn features voc:my-images --backbone vgg16 --mirrored -o feats.h5
    frcnn train --data voc:my-images --props props.h5 --features feats.h5 --backbone vgg16 --epochs 12 -o runs/head
    """
    from frcnn_cli.core.run_files import STATE_FILE, resumable_run
    from frcnn_cli.training.resume import continued
    from frcnn_cli.training.run_folder import check_free, new_run_folder
    from frcnn_cli.training.settings import RunSettings, check_settings, default_workers

    console: Console = ctx.obj
    if (started := started_together()) is not None:
        if output is None:
            raise click.UsageError("Under torchrun, name the folder of the run with -o: all processes write to it.")
        if given["devices"] not in (1, started.count):
            raise click.UsageError(f"torchrun has started {started.count} processes: remove --devices.")
        if started.rank:
            console = ctx.obj = Console(quiet=True, debug=console.debug)
    changes = options.recipe_changes(given)
    how = {name: given.pop(name) for name in ("checkpoint_every", "workers", "tensorboard", "deterministic", "devices")}
    how["workers"] = default_workers(how["devices"]) if how["workers"] is None else how["workers"]
    given = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    if given.get("init") is not None and ctx.get_parameter_source("weights") is ParameterSource.COMMANDLINE:
        raise click.UsageError("Give either --init or --weights.")
    if resume and given.get("init") is not None:
        raise click.UsageError("--init starts a new run; give either --init or --resume.")
    stated = {name for name in given if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if resume:
        folder = output or resumable_run()
        restated = {name: given[name] for name in stated}
        run, chosen = continued(folder, restated, lambda own: _stated(own, recipe, settings, changes, given))
    else:
        run, chosen = RunSettings(**given), _stated(None, recipe, settings, changes, given)
    if show_config:
        console.json(chosen.to_dict()) if as_json else console.result(chosen.to_toml().rstrip())
        return
    for name in ("data", "props"):
        if getattr(run, name) is None:
            raise click.UsageError(f"Missing option '--{name}' (or --resume, to continue a run).")
    check_settings(run, chosen)
    if run.init is not None and not resume:
        models.model(Path(run.init))
    arguments.check_training_inputs(run, device)
    if not resume:
        folder = output or new_run_folder(str(run.data), chosen.network.backbone)
        if not force:
            check_free(folder)

    from frcnn_cli.training.train import RunOptions, run_training

    about, stopping = (
        RunOptions(device=device, **how),
        StopOnSignal(folder, silent=started is not None and started.rank > 0),
    )
    checkpoint = folder / STATE_FILE
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() and not resume else None
    try:
        summary = run_training(
            folder, run, chosen, about, resume=resume, force=force, stopping=stopping, progress=console
        )
    except KeyboardInterrupt:
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:  # of this run, not of one that it replaces
            fix = f"Continue with: {resume_command(folder)}"
            raise StoppedAtOnce("interrupted; the last checkpoint is kept", fix) from None
        raise
    finally:
        stopping.close()
    if started is not None and started.rank:
        return
    if summary.stopped:
        console.warn(f"stopped at iteration {summary.iterations} of {summary.total}, and saved")
        console.warn(f"continue with: {resume_command(folder)}")
        ctx.exit(130)
    if summary.loss is None and not summary.fitted_svms:
        console.note(
            f"{folder} is finished: all {summary.total} iterations are done; to train longer, give more --epochs"
        )
    if as_json:
        console.json(summary_as_json(summary, run.validate_on is not None))
    else:
        print_summary(console, summary)


def _stated(
    own: Recipe | None, name: str | None, settings: tuple[str, ...], changes: dict[str, Any], given: dict[str, Any]
) -> Recipe:
    """The recipe that results from the options: they change that of --recipe; without --recipe, that of the resumed
    run; without a run, paper."""
    from frcnn_cli.core.options import parse_settings
    from frcnn_cli.recipes.recipe import Recipe
    from frcnn_cli.training.settings import RunSettings, adapted, check_given

    values = {**changes, **parse_settings(settings)}
    if own is not None and name is None:
        return own.changed(values)
    run, init = RunSettings(**given), given.get("init")
    recipe = Recipe.load(name or ("paper" if init is None else "modern"))
    if init is not None:
        from frcnn_cli.training.init_recipe import recipe_from_init

        recipe = recipe_from_init(init, recipe)
    recipe = recipe.changed(values)
    check_given(run, recipe, values)
    return adapted(run, recipe)
