"""Dataclasses as options: described for people, checked by pydantic, read from YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from faceblur_core.errors import FaceblurError, UnknownName, UsageMistake

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a component, as ``faceblur methods NAME`` prints it."""

    name: str
    type: str
    default: Any
    help: str


def converted(cls: Any, options: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return the options with every value checked against the type hint of its field and converted by pydantic.

    :param what: how a message calls it, such as ``detector 'haar'``
    :raises UsageMistake: if an option is unknown or does not fit its type
    :raises FaceblurError: if pydantic can do nothing with a type hint
    """
    from pydantic import TypeAdapter, ValidationError

    hints = get_type_hints(cls, include_extras=True)
    known = [item.name for item in fields(cls) if item.init]
    values = {}
    for name, value in options.items():
        if name not in known:
            raise UnknownName(f"option of {what}", name, known)
        if get_origin(hints[name]) is Literal and isinstance(value, str):  # of numbers, which a command line writes as text
            value = {str(choice): choice for choice in get_args(hints[name])}.get(value, value)
        try:
            values[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            reason = "; ".join(dict.fromkeys(fault["msg"] for fault in error.errors()))
            raise UsageMistake(f"bad option of {what}: {name}={value}: {reason}") from None
        except Exception as error:  # a type that pydantic does not know, a range for what has none
            reason = " ".join(str(error).split())[:200]
            raise FaceblurError(f"option {name} of {what} has a type hint that cannot be used: {reason}") from None
    return values


def describe_options(cls: Any) -> list[Option]:
    """Return the options of a dataclass, in the order of its fields."""
    if not is_dataclass(cls):
        return []
    hints = get_type_hints(cls)
    return [
        Option(
            item.name,
            _type_name(hints[item.name]) + ", required" * _is_required(item),
            _shown(_default(item)),
            item.metadata.get("help", ""),
        )
        for item in fields(cls)
        if item.init
    ]


def _default(item: Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not MISSING else item.default


def _is_required(item: Field[Any]) -> bool:
    return item.init and _default(item) is MISSING


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def _shown(default: Any) -> Any:
    return None if default is MISSING else default


def made(cls: type[T], options: Mapping[str, Any], what: str) -> T:
    """Return ``cls(**options)``, every value checked and converted as by :func:`converted`.

    :raises UsageMistake: also if an option without a default is not given
    """
    check_given(cls, options, what)
    return cls(**converted(cls, options, what))


def check_given(cls: Any, options: Mapping[str, Any], what: str) -> None:
    """:raises UsageMistake: if an option without a default is not given"""
    if missing := [item.name for item in fields(cls) if _is_required(item) and item.name not in options]:
        raise UsageMistake(f"{what} needs {missing[0]!r}")


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    :param what: how a message calls the file, such as ``method file``
    :raises UsageMistake: if the file cannot be read or holds something else
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageMistake(f"{what} {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageMistake(f"{what} {path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageMistake(f"{what} {path} is no mapping of names to values")
    return content


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return the mapping of ``--set`` arguments ``key=value``; ``none`` is None, a list is ``[a, b]``, a mapping ``{a: 1}``.

    :raises UsageMistake: if one has no ``=`` or its list or mapping is no YAML
    """
    import yaml

    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise UsageMistake(f"--set {setting!r} is not of the form name=value")
        try:
            values[key] = yaml.safe_load(value) if value.startswith(("[", "{")) else None if value == "none" else value
        except yaml.YAMLError:
            raise UsageMistake(
                f"--set {setting!r}: {value!r} is no list such as [a, b] and no mapping such as {{a: 1}}"
            ) from None
    return values


def shipped_configs(kind: str) -> dict[str, Path]:
    """Return the config files that ship with faceblur, by name: those of ``configs/<kind>/``."""
    here = Path(__file__).parent
    in_source_tree = (here.parent / "pyproject.toml").is_file()
    folder = (here.parent if in_source_tree else here) / "configs" / kind
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def find_config(text: str, kind: str) -> Path:
    """Return the config file that ``text`` names: a path, or the name of one that ships with faceblur.

    :raises UnknownName: if there is neither
    """
    shipped = shipped_configs(kind)
    if text in shipped and not Path(text).is_file():
        return shipped[text]
    if not text.endswith((".yaml", ".yml")) and not Path(text).exists():
        raise UnknownName(f"config in configs/{kind}", text, shipped)
    return Path(text)
