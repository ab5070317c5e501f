"""HTML pages that are one file: pictures and plots are inside, nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceblur_core.media.files import check_kind, save
from faceblur_core.media.images import encode_pixels
from faceblur_core.types import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


START = b"<!doctype html>"  #: how every page begins


def check_page(path: Path) -> None:
    """:raises UsageMistake: if a page would take the place of another kind of file"""
    check_kind(path, START, "HTML page")


def write_page(path: Path, template: str, **context: Any) -> None:
    """Fill in a template of this package and write the page; one that is there is replaced, another kind of file is not.

    :raises UsageMistake: if another kind of file is there
    :raises FaceblurError: if it cannot be written
    """
    check_page(path)
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("faceblur_core.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(**context)
    save(path, page.encode())


def picture(image: Image, quality: int = 80) -> str:
    """Return a picture as the value of an ``src`` attribute."""
    return f"data:image/jpeg;base64,{base64.b64encode(encode_pixels(image, 'JPEG', quality=quality)).decode()}"


def plot(figure: Figure) -> str:
    """Return a matplotlib figure as the value of an ``src`` attribute."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
