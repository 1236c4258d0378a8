"""What every command has: -q and --debug, one line per error, exit codes, and suggestions for misspelt names."""

from __future__ import annotations

import os
import sys
import time
import traceback
import warnings
from collections import Counter
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from frcnn_cli.cli.common.console import Console, SomeFailed, printable
from frcnn_cli.core.errors import FrcnnError, FrcnnWarning, explain_missing_library, explain_os_error
from frcnn_cli.system.processes import started_together
from frcnn_cli.system.startup import is_supported

# What follows "interrupted". Training saves when it is interrupted, so this applies only before it has begun.
_CONTINUES = "; run the same command again to continue"
_AFTER_INTERRUPT = {
    "train": " before training began; nothing is lost",
    **dict.fromkeys(("proposals", "features", "score", "nms"), _CONTINUES),
}


class Command(click.Command):
    """A command whose errors are one line on stderr, and a traceback only with --debug.

    Its function gets a `Console` as `click.get_current_context().obj`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(click.Option(["-q", "--quiet"], is_flag=True, help="Print no progress and no notes."))
        self.params.append(click.Option(["--debug"], is_flag=True, help="Print the traceback of an error."))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        for param, times in Counter(given).items():
            if times > 1 and isinstance(param, click.Option) and _names_data(param):
                raise click.UsageError(f"Option '{param.opts[-1]}' is given {times} times, but takes one value.", ctx)
        try:
            left = super().parse_args(ctx, args)
        except click.UsageError as error:
            if "unexpected extra argument" not in error.message or ".h5" not in error.message:
                raise
            hint = "Several files are named by a pattern in quotes, or with commas."
            raise click.UsageError(f"{error.message}. {hint}", ctx) from None
        if ctx.get_parameter_source("split") is ParameterSource.COMMANDLINE:
            images = ctx.params.get("images")
            for spec in (ctx.params.get("data"), *(images if isinstance(images, tuple) else ())):
                if isinstance(spec, str) and "@" in spec:
                    _check_split_has_effect(ctx, spec)
        return left

    def invoke(self, ctx: click.Context) -> Any:
        debug = ctx.params.pop("debug")
        console = ctx.obj = Console(ctx.params.pop("quiet"), debug)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", FrcnnWarning)
                warnings.showwarning = _showing(console, warnings.showwarning)
                return super().invoke(ctx)
        except click.UsageError as error:  # click prints it, with the usage
            _let_first_rank_speak()
            if ctx.params.get("as_json"):
                console.json({"error": {"what": error.message, "fix": f"See {ctx.command_path} --help"}})
            raise
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            explained, code = _explained(error)
            if debug and not isinstance(error, SomeFailed):
                traceback.print_exception(error)
            if not isinstance(error, SomeFailed):
                console.list_failures()
            if isinstance(error, KeyboardInterrupt):
                writes_stage = ctx.info_name == "detect" and str(ctx.params.get("output")).lower().endswith(".h5")
                after = _CONTINUES if writes_stage else _AFTER_INTERRUPT.get(ctx.info_name or "", "")
                click.echo(f"interrupted{after}", err=True)
            elif explained is not None:
                _let_first_rank_speak()
                kind = "internal error" if isinstance(explained, _InternalError) else "error"
                click.echo(printable(f"{kind}: {explained}"), err=True)
                if ctx.params.get("as_json"):
                    console.json({"error": {"what": explained.what, "fix": explained.fix}})
            return ctx.exit(code)


def _let_first_rank_speak() -> None:
    """Under torchrun, most errors are found by all processes. When the first one ends, torchrun ends the others, which
    therefore wait before they print what the first has printed."""
    started = started_together()
    if started is not None and started.rank:
        time.sleep(3)


class NetworkCommand(Command):
    """A command that runs a network."""

    def invoke(self, ctx: click.Context) -> Any:
        from frcnn_cli.system.memory import keep_freed_memory, limit_kernel_cache

        keep_freed_memory()
        limit_kernel_cache()
        return super().invoke(ctx)


class LazyGroup(click.Group):
    """Commands by name. Each is the attribute `command` of a module of that name, which is imported when it is used."""

    def __init__(self, *args: Any, package: str = "", names: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.package, self.names = package, names

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.names:
            return None
        command: click.Command = import_module(f"{self.package}.{cmd_name}").command
        return command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the command line. If standard output cannot be written, also the help, one line on stderr says so."""
        if not is_supported():
            click.echo("error: frcnn runs on Linux and macOS. On Windows, install it in WSL.", err=True)
            sys.exit(1)
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            _give_up_output(error)
        except SystemExit as end:
            try:
                if sys.stdout is not None:
                    sys.stdout.flush()  # not at the end of the process, where an error could not be explained
            except (OSError, ValueError) as error:
                _give_up_output(None if end.code else error)  # the command has explained it
            raise

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from frcnn_cli.core.options import did_you_mean

            raise click.UsageError(
                error.message.rstrip(".") + (did_you_mean(args[0], self.names) or "."), ctx
            ) from None


def _give_up_output(error: Exception | None) -> NoReturn:
    """Ends the process with exit code 1: standard output cannot be written. error: one that is not reported yet."""
    if error is not None:
        reason = getattr(error, "strerror", None) or error
        with suppress(OSError):
            click.echo(f"error: standard output cannot be written ({reason}).", err=True)
    with suppress(OSError, ValueError, AttributeError):  # AttributeError: it is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered has nowhere to go
    sys.exit(1)


def _names_data(option: click.Option) -> bool:
    """Whether repeating this option would silently ignore data. Other options may be repeated; the last one counts."""
    return not option.multiple and (isinstance(option.type, click.Path) or option.name in ("data", "shard"))


def _check_split_has_effect(ctx: click.Context, spec: str) -> None:
    from frcnn_cli.data.spec import is_dataset_spec, names_its_splits

    if is_dataset_spec(spec) and names_its_splits(spec):
        raise click.UsageError(f"{spec} states its own split: remove either --split or the @.", ctx)


def _showing(console: Console, default: Any) -> Any:
    """Shows warnings for users as notes, and other warnings as before."""

    def show(message: Any, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        if issubclass(category, FrcnnWarning):
            console.note(f"note: {message}")
        else:
            default(message, category, *args, **kwargs)

    return show


class _InternalError(FrcnnError):
    """A defect of frcnn."""


def _explained(error: BaseException) -> tuple[FrcnnError | None, int]:
    """What is printed of an error, if anything, and the exit code."""
    match error:
        case KeyboardInterrupt():
            return None, 130
        case SomeFailed():
            return None, 1
        case FrcnnError():
            return error, error.exit_code
        case OSError():
            return explain_os_error(error), 1
        case ValueError() if "embedded null" in str(error):
            return FrcnnError("a path holds a null character", "Correct it"), 1
        case UnicodeEncodeError():
            return FrcnnError(
                f"a string contains a character that cannot be written ({error.reason})", "Correct the argument or file"
            ), 1
        case ImportError() if (explained := explain_missing_library(error)) is not None:
            return explained, 1
        case _ if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch
            return FrcnnError("the GPU is out of memory", "Use smaller images or batches, or --device cpu"), 1
        case MemoryError():
            return FrcnnError("out of memory", "Use smaller images, fewer workers or fewer boxes"), 1
        case _:
            what = " ".join(f"{type(error).__name__}: {error}".split())
            return _InternalError(what, "Run again with --debug and report the output"), 1
