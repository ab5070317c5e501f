"""From what the user typed to an anonymizer: ``haar``, ``haar+median``, ``haar|yunet+blur``, or a YAML file.

Options are dotted: ``detector.scale_factor``, ``obfuscator.cells``, ``mask.grow``, ``tile.size``, ``border.share``. In a union a
detector's options carry its name, ``detector.haar.min_neighbors``, and ``detector.votes`` says how many detectors
must agree. A whole method (an anonymizer) has options without a dot. Later wins: default < YAML < ``--set``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceblur_core.errors import UnknownName, UsageMistake
from faceblur_core.options import Option, converted, describe_options, read_yaml, shipped_configs
from faceblur_core.plugins import DISABLE, METHODS, Plugins, Registered

if TYPE_CHECKING:
    from faceblur_core.pipeline import MaskShape
    from faceblur_core.types import Anonymizer, Detector

DEFAULT_OBFUSCATOR = "blur"
SHORT = {"tile": "tile.size", "border": "border.share"}
YAML_SUFFIXES = (".yaml", ".yml")

Wrap = Callable[[str, Mapping[str, Any], "Detector"], "Detector"]


@dataclass(frozen=True)
class Method:
    """A method by name, its parts found but nothing loaded yet; :meth:`make` loads."""

    text: str  #: as it was typed
    spec: str  #: as resolved: an anonymizer's name, or ``a|b+obfuscator``
    options: Mapping[str, Any]  #: dotted, those given
    plugins: Plugins = field(repr=False)
    summary: str = ""

    @property
    def anonymizer(self) -> str | None:
        """The anonymizer's name, or None for a detector with an obfuscator."""
        return self.spec if self.spec in self.plugins.names("anonymizer") else None

    @property
    def detectors(self) -> list[str]:
        """The names of the detectors; empty for an anonymizer."""
        return [] if self.anonymizer else self.spec.partition("+")[0].split("|")

    @property
    def obfuscator(self) -> str:
        """The obfuscator's name; empty for an anonymizer."""
        return "" if self.anonymizer else self.spec.partition("+")[2]

    def parts(self) -> Iterator[tuple[str, Registered]]:
        """Yield the prefix of its options (with its dot, or empty) and the record of every component."""
        if self.anonymizer:
            yield "", self.plugins.get("anonymizer", self.anonymizer)
            return
        for name in self.detectors:
            yield f"detector.{name}." if len(self.detectors) > 1 else "detector.", self.plugins.get("detector", name)
        yield "obfuscator.", self.plugins.get("obfuscator", self.obfuscator)

    def _sections(self) -> Iterator[tuple[str, Any]]:
        """Yield the prefix and the dataclass of everything that has options; imports the components' modules."""
        for prefix, entry in self.parts():
            yield prefix, self.plugins.factory(entry.kind, entry.component.name)
        if self.anonymizer:
            return
        from faceblur_core.pipeline import Border, MaskShape, Tiling

        if len(self.detectors) > 1:
            yield "detector.", _Votes
        yield "mask.", MaskShape
        yield "tile.", Tiling
        yield "border.", Border

    def describe(self) -> Iterator[tuple[str, Option]]:
        """Yield (prefix, option) for everything that ``--set`` can change."""
        for prefix, cls in self._sections():
            yield from ((prefix, item) for item in describe_options(cls))

    def _values(self) -> dict[str, dict[str, Any]]:
        """Return the given options, converted to their types, by prefix.

        :raises UsageMistake: if an option is unknown or does not fit
        """
        known = {f"{prefix}{item.name}": prefix for prefix, item in self.describe()}
        given: dict[str, dict[str, Any]] = {prefix: {} for prefix, _ in self._sections()}
        for key, value in self.options.items():
            if key not in known:
                raise UnknownName(f"option of method {self.text!r}", key, known)
            given[known[key]][key.removeprefix(known[key])] = value
        return {
            prefix: converted(cls, given[prefix], prefix.rstrip(".") or f"method {self.text!r}")
            for prefix, cls in self._sections()
        }

    def resolved(self) -> dict[str, Any]:
        """Return every option with the value in force, defaults included, keys sorted.

        :raises UsageMistake: if an option is unknown or does not fit
        """
        values = {f"{prefix}{item.name}": item.default for prefix, item in self.describe()}
        for prefix, given in self._values().items():
            values.update({f"{prefix}{name}": value for name, value in given.items()})
        return dict(sorted(values.items()))

    def make(self, detector: Detector | None = None, wrap: Wrap | None = None) -> Anonymizer:
        """Return a new anonymizer, models loaded. One is for one thread.

        :param detector: used in place of the method's own, for boxes that are known already
        :param wrap: is given each detector's name, options and the detector, and returns what to use in its place
        :raises UsageMistake: if an option is unknown or does not fit, or boxes are given to an anonymizer
        :raises FaceblurError: if a component cannot start
        """
        values = self._values()
        if self.anonymizer:
            if detector is not None:
                raise UsageMistake(f"method {self.text!r} finds no boxes, so it cannot use given ones")
            made: Anonymizer = self.plugins.make("anonymizer", self.anonymizer, values[""])
            return made
        from faceblur_core.pipeline import DetectAndObfuscate, MaskShape

        mask = MaskShape(**values["mask."])
        if detector is None:
            detector = self._make_detector(values, mask, wrap)
        return DetectAndObfuscate(detector, self.plugins.make("obfuscator", self.obfuscator, values["obfuscator."]), mask)

    def _make_detector(self, values: Mapping[str, Mapping[str, Any]], mask: MaskShape, wrap: Wrap | None) -> Detector:
        from faceblur_core.pipeline import Border, BorderedDetector, TiledDetector, Tiling, UnionDetector, check_votes

        tiling, border = Tiling(**values["tile."]), Border(**values["border."])

        def one(name: str, prefix: str) -> Detector:
            made: Detector = self.plugins.make("detector", name, values[prefix])
            made = wrap(name, values[prefix], made) if wrap else made
            made = BorderedDetector(made, border, mask) if border.share else made
            return TiledDetector(made, tiling, mask) if tiling.size else made

        if len(self.detectors) == 1:
            return one(self.detectors[0], "detector.")
        votes = values["detector."].get("votes", 1)
        check_votes(votes, len(self.detectors))  # before any model is loaded
        return UnionDetector({name: one(name, f"detector.{name}.") for name in self.detectors}, votes, mask=mask)


@dataclass(frozen=True)
class _Votes:
    votes: int = dataclasses.field(default=1, metadata={"help": "how many of the detectors must find a face"})


def find_method(text: str, settings: Mapping[str, Any], plugins: Plugins) -> Method:
    """Return the method that ``text`` names: a YAML file, components, or the name of a file in configs/methods.

    :raises UsageMistake: if a name is unknown or the file is not a method
    """
    if text.endswith(YAML_SUFFIXES):
        return _from_yaml(text, Path(text), settings, plugins)
    if text in named_methods():
        if kind := next((kind for kind in METHODS if text in plugins.names(kind)), None):
            entry = plugins.get(kind, text)
            raise UsageMistake(
                f"{text!r} is a method file of faceblur's and a {kind} of plugin {entry.plugin} ({entry.distribution}). "
                f"Disable that: {DISABLE}={plugins.handle(entry)}"
            )
        return _from_yaml(text, named_methods()[text], settings, plugins)
    return _with_options(Method(text, _spec(text, plugins), {}, plugins), settings)


def _with_options(method: Method, *settings: Mapping[str, Any]) -> Method:
    """Return the method with these settings, nested or dotted; of those of one name the last.

    ``tile`` is written out as ``tile.size``, ``border`` as ``border.share``; the value of an option may be a mapping itself.
    """

    @functools.cache
    def names() -> set[str]:
        return {f"{prefix}{item.name}" for prefix, item in method.describe()}

    def is_option(key: str) -> bool:  # a key without a dot is a section, for which no component's module need be imported
        return ("." in key or bool(method.anonymizer)) and key in names()

    flat = {SHORT.get(key, key): value for tree in settings for key, value in flatten(tree, is_option).items()}
    return dataclasses.replace(method, options=flat)


def _spec(text: str, plugins: Plugins) -> str:
    """Return ``text`` with every name checked and the obfuscator filled in."""
    if text in plugins.names("anonymizer"):
        return text
    detectors, plus, obfuscator = text.partition("+")
    names = detectors.split("|")
    for name in names:
        if name not in plugins.names("detector"):
            if name in plugins.names("anonymizer") or name in named_methods():
                within = "another method file" if name == text else repr(text)
                raise UsageMistake(f"{name!r} is a whole method: it stands alone, not within {within}")
            known = [*plugins.names("detector"), *plugins.names("anonymizer"), *named_methods()]
            broken = [info.name for info in plugins.infos if info.status == "error"]
            hint = f" A plugin could not be loaded ({', '.join(broken)}): see faceblur plugins." if broken else ""
            raise UnknownName("method", name, known, hint)
        plugins.get("detector", name)
    if len(set(names)) < len(names):
        raise UsageMistake(f"method {text!r} names a detector twice")
    obfuscator = obfuscator if plus else DEFAULT_OBFUSCATOR
    plugins.get("obfuscator", obfuscator)
    return f"{detectors}+{obfuscator}"


def _from_yaml(text: str, path: Path, settings: Mapping[str, Any], plugins: Plugins) -> Method:
    content = read_yaml(path, "method file")
    if not isinstance(content.get("method"), str):
        raise UsageMistake(f"method file {path} needs a line such as 'method: haar+blur'")
    if unknown := sorted(map(str, set(content) - {"method", "summary", "options"})):
        raise UsageMistake(f"method file {path}: unknown key {unknown[0]!r}; it takes method, summary and options")
    options = content.get("options") or {}
    if not isinstance(options, dict):
        raise UsageMistake(f"method file {path}: options must be a mapping")
    method = Method(text, _spec(content["method"], plugins), {}, plugins, str(content.get("summary", "")))
    try:
        return _with_options(method, options, settings)
    except RecursionError:
        raise UsageMistake(f"method file {path}: options contain themselves") from None


def named_methods() -> dict[str, Path]:
    """Return the method files that ship with faceblur, by name."""
    return shipped_configs("methods")


def flatten(tree: Mapping[str, Any], whole: Callable[[str], bool] = lambda _: False, prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as one of dotted keys.

    :param whole: asked of the dotted key of a mapping within, whether that stays as it is
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        nested = isinstance(value, dict) and not whole(name)
        flat.update(flatten(value, whole, f"{name}.") if nested else {name: value})
    return flat
