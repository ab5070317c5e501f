"""The command ``faceblur``: a group whose commands come from plugins, ours too, and are imported when they are run."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn, TextIO

import click

from faceblur_core import __version__
from faceblur_core.cli.output import printable
from faceblur_core.errors import FaceblurError, UnknownName
from faceblur_core.hookspecs import Kind
from faceblur_core.plugins import installed_plugins


class PluginGroup(click.Group):
    """A group whose commands are the components of one kind, ``command`` or ``trainer``."""

    kind: Kind = "command"

    def list_commands(self, ctx: click.Context) -> list[str]:
        return installed_plugins().names(self.kind)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = installed_plugins().factory(self.kind, cmd_name)
        if not isinstance(command, click.Command):
            entry = installed_plugins().get(self.kind, cmd_name)
            raise FaceblurError(
                f"{self.kind} {cmd_name!r} of plugin {entry.plugin} is no click.Command; its author must mend that"
            )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            try:
                rows.append((name, installed_plugins().get(self.kind, name).component.summary))
            except FaceblurError as error:  # two plugins offer it
                rows.append((name, error.message))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in installed_plugins().names(self.kind):
            raise UnknownName(self.kind, args[0], installed_plugins().names(self.kind))
        return super().resolve_command(ctx, args)


@click.command(cls=PluginGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="faceblur")
def cli() -> None:
    """Hide the faces in photos, by any method, and see what each method is worth."""


def main() -> NoReturn:
    """Run the command line; the process ends with 0 all well, 1 something failed, 2 usage, 130 interrupted, or by its signal."""
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    ended = _interrupted_by_signals()
    with contextlib.nullcontext() if "--verbose" in sys.argv else _quiet_libraries():
        code = _run()
    if ended:  # who sent it sees that it was obeyed
        signal.signal(ended[0], signal.SIG_DFL)
        signal.raise_signal(ended[0])
    sys.exit(code)


def _interrupted_by_signals() -> list[int]:
    """Let TERM and HUP interrupt as Ctrl-C does, so that nothing half written is left; return where one is noted that came."""
    came: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> NoReturn:
        came.append(number)
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # nohup's wish stays
            signal.signal(number, interrupt)
    return came


def _nowhere() -> TextIO:
    """Return a stream for an output that was closed by who started us, so that no other file gets its number."""
    return open(os.devnull, "w")


def _run() -> int:
    try:
        code = cli.main(prog_name="faceblur", standalone_mode=False)
        if sys.stdout:
            sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return error.exit_code
    except click.ClickException as error:
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        help_hint = f" ({path} --help explains)" if path else ""
        print(f"faceblur: {printable(error.format_message())}{help_hint}", file=sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("faceblur: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        if error.filename is not None:  # a name too long, a folder of somebody else's
            whose = installed_plugins().blamed(error)
            where = f"{whose}, {error.filename}" if whose else str(error.filename)
            print(f"faceblur: {printable(where)}: {error.strerror}", file=sys.stderr)
            return 1
        # nobody reads our output any more, as after `head`, or it went to a full disk
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            return _told(error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print(f"faceblur: standard output: {error.strerror}", file=sys.stderr)
        return 1
    except SystemExit:  # a command's own end
        raise
    except BaseException as error:  # whatever a stranger's plugin raises
        return _told(error)
    return code if isinstance(code, int) and not isinstance(code, bool) else 0


def _told(error: BaseException) -> int:
    """Tell an error of a plugin's code in one line, and return the exit code. The core's own is raised: it is our mistake.

    In Python's development mode it is raised, too: who writes a plugin wants the traceback.
    """
    whose = installed_plugins().blamed(error)
    if not whose or sys.flags.dev_mode:
        raise error
    reason = " ".join(str(error).split())[:200]
    print(f"faceblur: {printable(f'{whose}, {type(error).__name__}: {reason}')}", file=sys.stderr)
    return 1


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep stderr for what faceblur says: libtiff, MediaPipe and others write dozens of lines to it. --verbose shows them."""
    said, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    before = sys.stderr
    try:
        with open(said, "w", buffering=1, encoding="utf-8", errors="backslashreplace") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sys.stderr = stream
            os.dup2(nowhere, 2)
            try:
                yield
            finally:
                stream.flush()
                os.dup2(said, 2)
                sys.stderr = before
    finally:
        os.close(nowhere)
