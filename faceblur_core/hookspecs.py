"""Every point at which a plugin can extend faceblur, and the records that the hooks return.

A plugin is a module with any of these functions, marked ``@faceblur_core.hookimpl`` and named in the
``faceblur`` entry-point group. Hooks take nothing and *return* records. They are called at start-up, so
the module must not import a framework: a record names its factory as ``"package.module:Class"`` and the
core imports that when somebody asks for it by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from pluggy import HookimplMarker, HookspecMarker

GROUP = "faceblur"  #: the entry-point group, and pluggy's project name

hookspec = HookspecMarker(GROUP)
hookimpl = HookimplMarker(GROUP)

Kind = Literal["detector", "obfuscator", "anonymizer", "embedder", "backend", "metric", "trainer", "command"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One model file that a component loads; :func:`faceblur_core.weights.locate` finds it.

    :raises ValueError: if a checksum is not 64 lower-case hexadecimal digits, or there is none.
    """

    file: str  #: its name in ``FACEBLUR_MODELS`` and in the cache
    sha256: tuple[str, ...]  #: every version that may be used; the first is what ships or what ``url`` gives
    licence: str  #: SPDX id, or a few words where the source states none
    size: int  #: bytes of the file that ships or that ``url`` gives
    url: str | None = None  #: where it can be downloaded; None: only a local file will do
    source: str = ""  #: where a person gets the file when there is no ``url``
    package: str | None = None  #: import name of the package whose folder ``weights`` holds the file, if it ships with the plugin

    def __post_init__(self) -> None:
        if not self.sha256 or not all(_SHA256.fullmatch(digest) for digest in self.sha256):
            raise ValueError(f"Weights {self.file!r}: sha256 must be a tuple of 64-digit checksums")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One named thing that a plugin offers.

    ``factory`` points at a dataclass: its fields, with their type hints and defaults, are the options
    that ``--set`` and a method file may give. A trainer's or command's factory points at a ``click.Command``.

    :raises ValueError: if a field is not of the documented form.
    """

    name: str  #: what the user types: lower case, digits, ``-``, ``_`` and ``.``
    summary: str  #: one line for ``faceblur methods``
    factory: str  #: ``"faceblur_opencv.haar:HaarDetector"``
    licence: str = "MIT"  #: SPDX id of the code behind it, frameworks included
    weights: tuple[Weights, ...] = ()  #: model files that it may load, the default's first

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name.endswith((".yaml", ".yml")):
            raise ValueError(
                f"component name {self.name!r} must be lower-case letters, digits, '-', '_' and '.', and no YAML file's"
            )
        if not _FACTORY.fullmatch(self.factory):
            raise ValueError(f"component {self.name!r}: factory {self.factory!r} is not 'package.module:Class'")
        if not (isinstance(self.summary, str) and isinstance(self.licence, str)):
            raise ValueError(f"component {self.name!r}: summary and licence must be strings")
        if not (isinstance(self.weights, tuple) and all(isinstance(one, Weights) for one in self.weights)):
            raise ValueError(f"component {self.name!r}: weights must be a tuple of Weights")


@hookspec
def faceblur_detectors() -> Iterable[Component]:
    """Return detectors, ``Image -> Detections``. ``haar`` becomes the method ``haar``, short for ``haar+blur``."""
    return ()


@hookspec
def faceblur_obfuscators() -> Iterable[Component]:
    """Return obfuscators, ``(Image, Mask) -> Image``. ``pixelate`` makes ``haar+pixelate`` possible."""
    return ()


@hookspec
def faceblur_anonymizers() -> Iterable[Component]:
    """Return whole methods, ``Image -> Anonymized``, for networks that do not find faces first."""
    return ()


@hookspec
def faceblur_embedders() -> Iterable[Component]:
    """Return face recognisers, aligned faces to unit vectors; see ``types.Embedder``. ``run --keep`` asks one who is who."""
    return ()


@hookspec
def faceblur_backends() -> Iterable[Component]:
    """Return backends: each runs model files of one format, arrays in and out; see ``types.Backend``."""
    return ()


@hookspec
def faceblur_metrics() -> Iterable[Component]:
    """Return metrics: each scores one result against one sample; see ``types.Metric``."""
    return ()


@hookspec
def faceblur_trainers() -> Iterable[Component]:
    """Return commands to hang under ``faceblur train``; each factory is a ``click.Command`` that trains a network."""
    return ()


@hookspec
def faceblur_commands() -> Iterable[Component]:
    """Return commands to hang under ``faceblur``; each factory is a ``click.Command``."""
    return ()
