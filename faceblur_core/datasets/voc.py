"""Pascal VOC annotation files: one XML file per picture (Everingham et al., 2010)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from faceblur_core.datasets.labels import BadRow, BadRows, Face, LabelledPhoto, box_ellipse, check_folder, each, size_of
from faceblur_core.errors import FaceblurError
from faceblur_core.types import option


@dataclass(frozen=True)
class PascalVoc:
    """Boxes ``xmin ymin xmax ymax`` in pixels counted from 1, the last one included; each becomes its inscribed ellipse."""

    images: Path = option(..., "folder of the pictures")
    annotations: Path = option(..., "folder of the XML files")
    classes: list[str] = option(["face"], "names of the objects that are faces")
    origin: int = option(1, "number of the first pixel: 1 as in Pascal VOC, 0 as many tools write it")

    def __call__(self, bad: BadRows) -> Iterator[LabelledPhoto]:
        check_folder(self.annotations)
        files = sorted(self.annotations.rglob("*.xml"))
        if not files:
            raise FaceblurError(f"folder {self.annotations} holds no *.xml")
        for file in files:
            try:
                yield self._photo(_parse(file))
            except BadRow as error:
                bad(file, error.line or 1, str(error))

    def _photo(self, content: _Content) -> LabelledPhoto:
        if not content.filename:
            raise BadRow("no <filename>")
        name = content.filename.replace("\\", "/")
        try:
            height, width = size_of(self.images / name)
        except BadRow as error:
            raise BadRow(str(error), content.filename_line) from None
        faces = each(content.objects, self._face, height, width)
        return LabelledPhoto(self.images / name, name, height, width, tuple(face for face in faces if face))

    def _face(self, values: dict[str, str], height: int, width: int) -> Face | None:
        if not values.get("name"):
            raise BadRow("an object without <name>")
        if values["name"] not in self.classes:
            return None
        try:
            x1, y1, x2, y2 = (float(values[key]) for key in ("xmin", "ymin", "xmax", "ymax"))
        except KeyError as error:
            raise BadRow(f"an object without <{error.args[0]}>") from None
        except ValueError as error:
            raise BadRow(f"an object with a bound that is no number ({error})") from None
        ellipse = box_ellipse(x1 - self.origin, y1 - self.origin, x2 - self.origin + 1, y2 - self.origin + 1, height, width)
        flags = {"truncated": "occlusion", "occluded": "occlusion", "difficult": "ignore"}
        return Face(ellipse, frozenset(flag for key, flag in flags.items() if values.get(key) == "1"))


@dataclass
class _Content:
    filename: str = ""
    filename_line: int = 1
    objects: list[tuple[int, dict[str, str]]] = field(default_factory=list)  #: with the line of each


def _parse(path: Path) -> _Content:
    """Return what is needed of a file, with line numbers. :raises BadRow: if it is no well-formed XML."""
    content, text = _Content(), ""
    stack: list[str] = []
    parser = expat.ParserCreate()

    def start(tag: str, _: dict[str, Any]) -> None:
        nonlocal text
        stack.append(tag)
        text = ""
        if stack[1:] == ["object"]:
            content.objects.append((parser.CurrentLineNumber, {}))

    def data(part: str) -> None:
        nonlocal text
        text += part

    def end(tag: str) -> None:
        if stack[1:] == ["filename"]:
            content.filename, content.filename_line = text.strip(), parser.CurrentLineNumber
        elif stack[1:-1] in (["object"], ["object", "bndbox"]):  # parts and attributes have names and bounds of their own
            content.objects[-1][1][tag] = text.strip()
        stack.pop()

    parser.StartElementHandler, parser.CharacterDataHandler, parser.EndElementHandler = start, data, end
    try:
        parser.Parse(path.read_bytes(), True)
    except OSError as error:
        raise BadRow(str(error.strerror), 1) from None
    except (LookupError, ValueError) as error:  # of the encoding that the file names
        raise BadRow(f"no well-formed XML ({error})", parser.CurrentLineNumber) from None
    except expat.ExpatError as error:
        raise BadRow(f"no well-formed XML ({expat.ErrorString(error.code)})", error.lineno) from None
    return content
