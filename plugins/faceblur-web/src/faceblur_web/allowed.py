"""What a request may ask for: methods by name, and options that can neither name a file nor cost much."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from faceblur_core.errors import FaceblurError, UnreadableImage, UsageMistake
from faceblur_core.service import Offered, named, offered

T = TypeVar("T")

METHOD = r"^[a-z0-9][a-z0-9.|+-]{0,119}$"  #: how a method's name looks; no slash, no backslash
SETTING = r"^[a-z][a-z0-9_.-]{0,59}=[A-Za-z0-9#.]{1,20}$"
MOST_METHODS = 8  #: in one comparison
MOST_DETECTORS = 4  #: in one method such as ``haar|yunet``
MOST_SETTINGS = 12
_OPTIONS = re.compile(
    r"mask\.(shape|grow|feather)"
    r"|obfuscator\.(cells|color|sigma|kernel)"
    r"|detector\.([a-z0-9.-]+\.)?(score_threshold|min_detection_confidence|min_neighbors|conf|profile|range)"
    r"|detector\.votes"
)


class Unusable(FaceblurError):
    """A method is installed, but cannot start on this machine."""


CLIENTS = (UsageMistake, UnreadableImage, Unusable)  #: what a client can put right, and is told; the rest may name folders


@dataclass(frozen=True, slots=True)
class Wanted:
    """A method and its options, as a request named them."""

    method: str
    settings: tuple[tuple[str, str], ...] = ()

    def load(self, make: Callable[[Any], T]) -> T:
        """Load its models.

        :param make: makes what runs the method, of the service's method
        :raises UsageMistake: if an option does not exist or does not fit
        :raises Unusable: if it cannot start here
        """
        try:
            method = named(self.method, dict(self.settings))
            for name, value in method.resolved().items():
                if name.endswith("min_neighbors") and value < 1:  # every hit of a cascade would be a face, thousands in a photo
                    raise UsageMistake(f"{name} must be at least 1 over the web")
            return make(method)
        except UsageMistake:
            raise
        except FaceblurError as error:
            raise Unusable(f"method {self.method!r} cannot be used on this server") from error


@dataclass(frozen=True)
class Catalogue:
    """The methods that are offered.

    :param only: names of detectors, whole methods and method files; None: all that are installed
    """

    only: frozenset[str] | None = None

    def check(self) -> None:
        """:raises UsageMistake: if a name in ``only`` is no method."""
        for name in sorted(self.only or ()):
            named(name, {})
            if "+" in name or "|" in name:
                raise UsageMistake(
                    f"--method {name}: name a detector, a whole method or a method file; they combine by themselves"
                )

    def methods(self) -> list[Offered]:
        """Return what is offered, obfuscators too."""
        return [item for item in offered() if item.kind == "obfuscator" or self.only is None or item.name in self.only]

    def wanted(self, method: str, settings: Sequence[str]) -> Wanted:
        """Return what a request asks for; nothing is loaded.

        :raises UsageMistake: if there is no such method, it is not offered, or an option is not open to requests
        """
        detectors = method.partition("+")[0].split("|")
        if len(detectors) > MOST_DETECTORS:
            raise UsageMistake(f"a method here has at most {MOST_DETECTORS} detectors")
        if self.only is not None and not set(detectors) <= self.only:
            raise UsageMistake(f"method {method!r} is not offered here")
        found = named(method, {})
        pairs = []
        for setting in settings:
            name, _, value = setting.partition("=")
            if not _OPTIONS.fullmatch(name):
                raise UsageMistake(f"option {name!r} cannot be set over the web")
            pairs.append((name, value))
        return Wanted(found.text, tuple(sorted(dict(pairs).items())))
