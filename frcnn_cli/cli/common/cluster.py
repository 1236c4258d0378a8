"""The options of commands whose work a cluster can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.cli.common.options import Number

if TYPE_CHECKING:
    from frcnn_cli.system.cluster import Cluster

_GIVEN = "frcnn.cluster"  # where click's context keeps the values until `chosen` reads them


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    ctx.meta.setdefault(_GIVEN, {})[param.name] = value


def _option(*names: str, **more: Any) -> Callable[..., Any]:
    return click.option(*names, expose_value=False, callback=_keep, **more)


_CLUSTER = _option(
    "--cluster",
    metavar="ADDRESS",
    help="Compute on a Ray cluster. ray: start one on this machine; auto, HOST:6379 or ray://HOST:10001: use one that"
    " is already running. Input files must be at the same path on all machines.",
)
_SEND_IMAGES = _option(
    "--send-images",
    is_flag=True,
    help="Send the content of images to the machines of --cluster; needed if they do not share a disk.",
)
_TASK_CORES = _option(
    "--task-cores",
    type=Number(0, min_open=True),
    default=1,
    show_default=True,
    metavar="N",
    help="Cores of each task of --cluster.",
)
_TASK_GPUS = _option(
    "--task-gpus",
    type=Number(0),
    default=0,
    show_default=True,
    metavar="N",
    help="GPUs of each task of --cluster; 0.5: two tasks share one. Without any, tasks use the CPU.",
)


def _together(*options: Callable[..., Any]) -> Callable[..., Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


for_sources = _together(_CLUSTER, _SEND_IMAGES, _TASK_CORES)
for_networks = _together(_CLUSTER, _SEND_IMAGES, _TASK_CORES, _TASK_GPUS)
for_files = _together(_CLUSTER, _TASK_CORES, _TASK_GPUS)


def chosen() -> Cluster | None:
    """The cluster that was named, or None for this machine. Raises click.UsageError: options without --cluster."""
    ctx = click.get_current_context()
    given = ctx.meta.get(_GIVEN, {})
    if given.get("cluster") is None:
        for name in ("send_images", "task_cores", "task_gpus"):
            source = ctx.get_parameter_source(name)
            if name in given and source is click.core.ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{name.replace('_', '-')} needs --cluster.")
        return None
    if ctx.get_parameter_source("device") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--device is that of this machine; with --cluster, --task-gpus gives GPUs to tasks.")
    from frcnn_cli.system.cluster import Cluster

    return Cluster(
        given["cluster"], given["task_cores"], given.get("task_gpus", 0), send_images=given.get("send_images", False)
    )
