"""What every command shares: -q and --debug, files named once, one line for an error, the exit code."""

from __future__ import annotations

import traceback
from collections import Counter
from typing import Any

import click
from click.core import ParameterSource

from frcnn_cli.cli.display import Display
from frcnn_cli.errors import FrcnnError, explain_os_error
from frcnn_cli.memory import keep_freed_memory

# What follows "interrupted"; training saves when it is interrupted, so this is said only before it has begun.
_GO_ON = {"train": " before training began; nothing is lost", "demo": ""}


class SomeFailed(FrcnnError):
    """Some images failed, and were named; the rest is done. Ends the command with 1, without another line."""


class Command(click.Command):
    """A command whose errors are one line on stderr, and a traceback only with --debug.

    Its function is handed a `Display` as `click.get_current_context().obj`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(click.Option(["-q", "--quiet"], is_flag=True, help="No progress and no notes on stderr."))
        self.params.append(click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        for param, times in Counter(given).items():
            if times > 1 and isinstance(param, click.Option) and _names_data(param):
                raise click.UsageError(f"Option '{param.opts[-1]}' is given {times} times, and takes one value.", ctx)
        left = super().parse_args(ctx, args)
        if ctx.get_parameter_source("split") is ParameterSource.COMMANDLINE:
            images = ctx.params.get("images")
            for spec in (ctx.params.get("data"), *(images if isinstance(images, tuple) else ())):
                if isinstance(spec, str) and "@" in spec:
                    _split_counts(ctx, spec)
        return left

    def invoke(self, ctx: click.Context) -> Any:
        debug = ctx.params.pop("debug")
        ctx.obj = Display(quiet=ctx.params.pop("quiet"))
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            message, code = _told(error)
            if isinstance(error, KeyboardInterrupt):
                message += _GO_ON.get(ctx.info_name or "", "; run the same command again to go on from here")
            if debug:
                traceback.print_exception(error)
            if message:
                click.echo(message, err=True)
            return ctx.exit(code)


def _names_data(option: click.Option) -> bool:
    """Whether an option given again would leave out data in silence, where others are overridden, as is the custom."""
    return not option.multiple and (isinstance(option.type, click.Path) or option.name == "data")


def _split_counts(ctx: click.Context, spec: str) -> None:
    """Raises click.UsageError where --split says nothing, as the data set tells the split of each of its parts."""
    from frcnn_cli.data.spec import is_dataset_spec, names_its_splits

    if is_dataset_spec(spec) and names_its_splits(spec):
        raise click.UsageError(f"{spec} tells its split itself: leave --split out, or the @.", ctx)


class NetworkCommand(Command):
    """A command that runs a network."""

    def invoke(self, ctx: click.Context) -> Any:
        keep_freed_memory()
        return super().invoke(ctx)


def _told(error: BaseException) -> tuple[str, int]:
    """The line for an error, and the exit code."""
    match error:
        case KeyboardInterrupt():
            return "interrupted", 130
        case SomeFailed():
            return "", 1
        case FrcnnError():
            return f"error: {error}", error.exit_code
        case OSError():
            return f"error: {explain_os_error(error)}", 1
        case ImportError() if ".so" in str(error):
            return f"error: a system library is missing ({error}). On Debian: apt install libgl1 libglib2.0-0.", 1
        case _ if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch
            return "error: the GPU is out of memory. Use smaller images or batches, or --device cpu.", 1
        case MemoryError():
            return "error: out of memory. Use smaller images, fewer workers or fewer boxes.", 1
        case _:
            what = " ".join(f"{type(error).__name__}: {error}".split())
            return f"internal error: {what}. Run again with --debug and report what it prints.", 1
