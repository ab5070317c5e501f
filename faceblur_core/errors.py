"""Errors meant for the user: one line that says what to do, never a traceback.

Each carries the exit code of the process that it ends: 1 something failed, 2 the command was wrong.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import click


class FaceblurError(click.ClickException):
    """Anything that the person at the keyboard can put right."""

    exit_code = 1


class UsageMistake(FaceblurError):
    """The command itself was wrong: an unknown name, a bad option, inputs that contradict each other."""

    exit_code = 2


class UnknownName(UsageMistake):
    """A name that no plugin registered."""

    def __init__(self, what: str, name: str, known: Iterable[str], more: str = "") -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(names) or 'none'}."
        super().__init__(f"no {what} named {name!r}. {hint}{more}")


class MissingDependency(FaceblurError):
    """A component is registered, but a package that it needs is not installed."""


class MissingWeights(FaceblurError):
    """A model file is neither on this machine nor to be had over the network."""


class UnreadableImage(FaceblurError):
    """A file is no picture, is damaged, or is of a kind that could not be kept whole."""


class TooLarge(UnreadableImage):
    """A picture has more pixels than are accepted."""

    def with_option(self) -> str:
        """Return the message for commands that can be told how many are."""
        return f"{self.message} (--max-megapixels)"


def pass_on(error: BaseException) -> None:
    """Raise what nothing that was called can have meant: the user's interruption. Anything else is a failure of what was called.

    A stranger's code may raise what is no :class:`Exception`: ``SystemExit``, or the panic of a library in Rust.
    """
    if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
        raise error
