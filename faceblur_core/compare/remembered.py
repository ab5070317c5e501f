"""Detections kept between jobs: seven methods with one detector need it to look at each photo once.

What is kept is addressed by the detector's name, options, weights, versions and code, the core's and its backend's too, and by
the photo's pixels. Time is measured elsewhere, by the detector itself.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceblur_core.backends import readable_suffixes
from faceblur_core.media.files import write_whole
from faceblur_core.pipeline import AroundDetector, model_files
from faceblur_core.plugins import Registered, distribution_versions, installed_plugins
from faceblur_core.types import Detections, Detector, Image
from faceblur_core.weights import cache_folder, sha256_of

_AFTER = (
    "assess",
    "diff",
    "plots",
    "record",
    "recorded",
    "report",
    "statistics",
    "table",
    "verified",
    "verify",
)  # what works on results
NOT_IN_DIGEST = ("cli/", "pages/", "run/", *(f"compare/{name}.py" for name in _AFTER))  #: parts of the core that decide none
SOURCES = {".py", ".c", ".h"}
#: what reading a kept file raises if it is not there, or damaged; the last, of a ZIP file whose head is
DAMAGED = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)
_digests: dict[str, str] = {}


def code_digest(package: str) -> str:
    """Return a digest of a package's source files; of the core's, without those that decide no result of a job."""
    if package not in _digests:
        found = importlib.util.find_spec(package)
        roots = [Path(root) for root in found.submodule_search_locations or ()] if found else []
        files = roots or ([Path(found.origin)] if found and found.origin else [])
        digest = hashlib.sha256()
        for root in files:
            for path in sorted(path for path in root.rglob("*") if path.suffix in SOURCES) if root.is_dir() else [root]:
                inner = path.relative_to(root).as_posix() if root.is_dir() else ""
                if package != "faceblur_core" or not inner.startswith(NOT_IN_DIGEST):
                    digest.update(inner.encode() + b"\0" + path.read_bytes())
        _digests[package] = digest.hexdigest()
    return _digests[package]


def code_of(entries: Iterable[Registered]) -> dict[str, str]:
    """Return the digest of each package that components come from, and of the core."""
    packages = {entry.package for entry in entries}
    return {package: code_digest(package) for package in sorted({"faceblur_core", *packages})}


def backends_of(options: Iterable[Any], files: Iterable[Path]) -> list[Registered]:
    """Return the installed backends that an option names, or that read one of the model files."""
    plugins, named, suffixes = installed_plugins(), {str(value) for value in options}, {path.suffix for path in files}
    readers = {name for name, readable in readable_suffixes().items() if suffixes & set(readable)}
    return [plugins.get("backend", name) for name in plugins.names("backend") if name in named | readers]


@dataclass
class RememberedDetector(AroundDetector):
    """A detector that looks into a folder before it looks at a photo."""

    detector: Detector
    folder: Path

    def __call__(self, image: Image) -> Detections:
        digest = hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
        path = self.folder / digest[:2] / f"{digest}.npz"
        try:
            with np.load(path, allow_pickle=False) as kept:
                return Detections(kept["boxes"], kept["scores"], kept.get("landmarks"), kept.get("mask"))
        except (*DAMAGED, KeyError):
            pass  # it is not there, or damaged
        found = self.detector(image)
        arrays = {"boxes": found.boxes, "scores": found.scores, "landmarks": found.landmarks, "mask": found.mask}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{name: array for name, array in arrays.items() if array is not None})
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, buffer.getvalue())
        return found


def remembered(name: str, options: Mapping[str, Any], detector: Detector) -> Detector:
    """Return the detector, made with these options, with a memory for as long as nothing about it changes."""
    files = model_files(detector)
    entries = [installed_plugins().get("detector", name), *backends_of(options.values(), files)]
    facts = {
        "name": name,
        "options": dict(options),
        "weights": [sha256_of(path) for path in files],
        "versions": distribution_versions(["faceblur-core", *(entry.distribution for entry in entries)]),
        "code": code_of(entries),
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
    return RememberedDetector(detector, cache_folder() / "compare" / "detections" / key)
