"""From what the user typed to an anonymizer: ``haar``, ``haar+median``, ``haar|yunet+blur``, or a YAML file.

Options are dotted: ``detector.scale_factor``, ``obfuscator.cells``, ``mask.grow``, ``tile.size``. In a union a
detector's options carry its name, ``detector.haar.min_neighbors``, and ``detector.votes`` says how many detectors
must agree. A whole method (an anonymizer) has options without a dot. Later wins: default < YAML < ``--set``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceblur_core.errors import UnknownName, UsageMistake
from faceblur_core.plugins import Option, Plugins, Registered, describe_options, validated

if TYPE_CHECKING:
    from faceblur_core.types import Anonymizer, Detector

DEFAULT_OBFUSCATOR = "blur"
YAML_SUFFIXES = (".yaml", ".yml")


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

    def make(self, detector: Detector | None = None) -> Anonymizer:
        """Return a new anonymizer, models loaded. One is for one thread.

        :param detector: used in place of the method's own, for boxes that are known already
        :raises UsageMistake: if an option is unknown or does not fit, or boxes are given to an anonymizer
        :raises FaceblurError: if a component cannot start
        """
        if self.anonymizer:
            if detector:
                raise UsageMistake(f"method {self.text!r} finds no boxes, so it cannot use given ones")
            made: Anonymizer = self.plugins.make("anonymizer", self.anonymizer, self.options)
            return made
        from faceblur_core.pipeline import DetectAndObfuscate, MaskShape

        groups = self._groups()
        mask = validated(MaskShape, groups["mask"], "mask")
        return DetectAndObfuscate(
            detector or self._make_detector(groups, mask),
            self.plugins.make("obfuscator", self.obfuscator, groups["obfuscator"]),
            mask,
        )

    def _make_detector(self, groups: Mapping[str, dict[str, Any]], mask: Any) -> Detector:
        from faceblur_core.pipeline import TiledDetector, Tiling, UnionDetector

        options = dict(groups["detector"])
        tiling = validated(Tiling, groups["tile"], "tile")
        if len(self.detectors) == 1:
            only: Detector = self.plugins.make("detector", self.detectors[0], options)
            return TiledDetector(only, tiling) if tiling.size else only
        votes = validated(_Votes, {"votes": options.pop("votes", 1)}, "detector").votes
        own: dict[str, dict[str, Any]] = {name: {} for name in self.detectors}
        for key, value in options.items():
            name, _, rest = key.partition(".")
            if name not in own or not rest:
                raise UnknownName("option of a union of detectors", f"detector.{key}", self._known_options())
            own[name][rest] = value
        made = {name: self.plugins.make("detector", name, given) for name, given in own.items()}
        if tiling.size:
            made = {name: TiledDetector(each, tiling) for name, each in made.items()}
        return UnionDetector(made, votes, mask=mask)

    def _groups(self) -> dict[str, dict[str, Any]]:
        groups: dict[str, dict[str, Any]] = {"detector": {}, "obfuscator": {}, "mask": {}, "tile": {}}
        for key, value in self.options.items():
            head, _, rest = key.partition(".")
            if key == "tile":  # short for tile.size
                rest = "size"
            if head not in groups or not rest:
                raise UnknownName(f"option of method {self.text!r}", key, self._known_options())
            groups[head][rest] = value
        return groups

    def _known_options(self) -> list[str]:
        return [f"{prefix}{option.name}" for prefix, option in self.describe()]

    def describe(self) -> Iterator[tuple[str, Option]]:
        """Yield (prefix, option) for everything that ``--set`` can change; imports the components' modules."""
        for prefix, entry in self.parts():
            for item in self.plugins.options(entry.kind, entry.component.name):
                yield prefix, item
        if self.anonymizer:
            return
        from faceblur_core.pipeline import MaskShape, Tiling

        if len(self.detectors) > 1:
            yield from (("detector.", item) for item in describe_options(_Votes))
        yield from (("mask.", item) for item in describe_options(MaskShape))
        yield from (("tile.", item) for item in describe_options(Tiling))

    def resolved(self) -> dict[str, Any]:
        """Return every option with the value in force, defaults included, keys sorted."""
        values = {f"{prefix}{item.name}": item.default for prefix, item in self.describe()}
        return dict(sorted({**values, **self.options}.items()))


@dataclass(frozen=True)
class _Votes:
    votes: int = dataclasses.field(default=1, metadata={"help": "how many of the detectors must find a face"})


def find_method(text: str, settings: Mapping[str, Any], plugins: Plugins) -> Method:
    """Return the method that ``text`` names: a YAML file, the name of one in configs/methods, or components.

    :raises UsageMistake: if a name is unknown or the file is not a method
    """
    path = Path(text) if text.endswith(YAML_SUFFIXES) else named_methods().get(text)
    if path:
        return _from_yaml(text, path, settings, plugins)
    return Method(text, _spec(text, plugins), dict(settings), plugins)


def _spec(text: str, plugins: Plugins) -> str:
    """Return ``text`` with every name checked and the obfuscator filled in."""
    if text in plugins.names("anonymizer"):
        return text
    detectors, plus, obfuscator = text.partition("+")
    names = detectors.split("|")
    for name in names:
        if name not in plugins.names("detector"):
            known = [*plugins.names("detector"), *plugins.names("anonymizer"), *named_methods()]
            raise UnknownName("method", name, known)
        plugins.get("detector", name)
    if len(set(names)) < len(names):
        raise UsageMistake(f"method {text!r} names a detector twice")
    obfuscator = obfuscator if plus else DEFAULT_OBFUSCATOR
    plugins.get("obfuscator", obfuscator)
    return f"{detectors}+{obfuscator}"


def _from_yaml(text: str, path: Path, settings: Mapping[str, Any], plugins: Plugins) -> Method:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageMistake(f"method file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageMistake(f"method file {path} is no YAML: {reason}") from None
    if not isinstance(content, dict) or not isinstance(content.get("method"), str):
        raise UsageMistake(f"method file {path} needs a line such as 'method: haar+blur'")
    if unknown := sorted(set(content) - {"method", "summary", "options"}):
        raise UsageMistake(f"method file {path}: unknown key {unknown[0]!r}; it takes method, summary and options")
    options = content.get("options") or {}
    if not isinstance(options, dict):
        raise UsageMistake(f"method file {path}: options must be a mapping")
    merged = {**flatten(options), **settings}
    return Method(text, _spec(content["method"], plugins), merged, plugins, str(content.get("summary", "")))


def named_methods() -> dict[str, Path]:
    """Return the method files by name: those that ship with faceblur, then those in ``./configs/methods``."""
    here = Path(__file__).parent
    folders = [here / "configs" / "methods", here.parent / "configs" / "methods", Path("configs/methods")]
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.yaml"))}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as one of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return the mapping of ``--set`` arguments ``key=value``; ``none`` is None, a list is written ``[a, b]``.

    :raises UsageMistake: if one has no ``=`` or its list is no YAML
    """
    import yaml

    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise UsageMistake(f"--set {setting!r} is not of the form name=value, such as detector.conf=0.3")
        try:
            values[key] = yaml.safe_load(value) if value.startswith("[") else None if value == "none" else value
        except yaml.YAMLError:
            raise UsageMistake(f"--set {setting!r}: {value!r} is no list such as [a, b]") from None
    return values
