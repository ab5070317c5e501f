"""Find model files: ``FACEBLUR_MODELS``, then the plugin's own package, then the cache, then a checksummed download."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from faceblur_core.errors import MissingWeights, UnknownName
from faceblur_core.hookspecs import Weights
from faceblur_core.machine import UMASK

FOLDER = "FACEBLUR_MODELS"
OFFLINE = "FACEBLUR_OFFLINE"
_download_lock = threading.Lock()


def local_folder() -> Path | None:
    """Return the folder that ``FACEBLUR_MODELS`` names, or None."""
    name = os.environ.get(FOLDER)
    return Path(name).expanduser() if name else None


def cache_folder() -> Path:
    """Return the folder that downloads are kept in; the variable ``FACEBLUR_CACHE`` moves it."""
    from platformdirs import user_cache_path

    name = os.environ.get("FACEBLUR_CACHE")
    return Path(name) if name else user_cache_path("faceblur") / "models"


def package_folder(weights: Weights) -> Path | None:
    """Return the folder of the package that the file ships in, or None if it ships in none."""
    if weights.package is None:
        return None
    try:
        spec = importlib.util.find_spec(weights.package)
    except ModuleNotFoundError:  # of the package that it is in
        return None
    return Path(spec.origin).parent / "weights" if spec and spec.origin else None


def present(weights: Weights) -> Path | None:
    """Return where the file lies on this machine, not checked, or None."""
    folders = [folder for folder in (local_folder(), package_folder(weights), cache_folder()) if folder]
    return next((folder / weights.file for folder in folders if (folder / weights.file).is_file()), None)


def locate(weights: Weights) -> Path:
    """Return the path of the file, its checksum verified; download it if it is not there or damaged in the cache.

    :raises MissingWeights: if the file is nowhere and cannot be downloaded, or the one that is there is another
    """
    path = present(weights)
    if path and path.parent != cache_folder() and sha256_of(path) not in weights.sha256:
        expected = " or ".join(f"{digest[:12]}…" for digest in weights.sha256)
        found = sha256_of(path)[:12]
        raise MissingWeights(f"{path} is not the file that is expected (sha256 {found}…, not {expected}); replace or remove it")
    with _download_lock:  # several workers ask at once
        path = present(weights)
        if path is None or sha256_of(path) not in weights.sha256:
            path = _download(weights)
    return path


def named_file(name: str | Path) -> Path | None:
    """Return the file of that name, here or in ``FACEBLUR_MODELS``; None if there is none."""
    paths = (folder / name for folder in (Path(), local_folder()) if folder)
    return next((path for path in paths if path.is_file()), None)


def weights_file(text: str, shipped: Mapping[str, Weights], what: str) -> Path:
    """Return the model file that ``text`` names: one of those that ship, a path, or a file in ``FACEBLUR_MODELS``.

    :param what: the kind of file, for the message
    :raises MissingWeights: as :func:`locate`
    :raises UnknownName: if it is neither a name nor a file
    """
    if text in shipped:
        return locate(shipped[text])
    if path := named_file(text):
        return path
    raise UnknownName(what, text, shipped)


def _download(weights: Weights) -> Path:
    where = f"put {weights.file} into {local_folder() or f'a folder and set {FOLDER} to it'}"
    if weights.url is None:
        raise MissingWeights(f"model file {weights.file} is missing: {where} ({weights.source or 'it has no download'})")
    if os.environ.get(OFFLINE):
        raise MissingWeights(f"model file {weights.file} is missing and {OFFLINE} is set: {where}, from {weights.url}")
    print(f"faceblur: downloading {weights.file} ({weights.size / 1e6:.1f} MB, licence {weights.licence})", file=sys.stderr)
    try:
        return _fetch(weights)
    except Exception as error:  # no network, a changed file, a full disk: all end in the same advice
        reason = "what came has another checksum" if "hash" in str(error) else type(error).__name__
        raise MissingWeights(
            f"model file {weights.file} is missing and could not be downloaded ({reason}): {where}, from {weights.url}"
        ) from error


def _fetch(weights: Weights) -> Path:
    import logging

    import pooch
    from rich.console import Console
    from rich.progress import Progress

    pooch.get_logger().setLevel(logging.ERROR)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        progress = _PoochProgress(bar, bar.add_task(weights.file, total=weights.size))
        path = pooch.retrieve(
            weights.url,
            known_hash=f"sha256:{weights.sha256[0]}",
            fname=weights.file,
            path=cache_folder(),
            downloader=pooch.HTTPDownloader(progressbar=progress, timeout=30),
        )
    os.chmod(path, 0o666 & ~UMASK)  # pooch leaves it to its owner alone: no container's user, no colleague could read it
    return Path(path)


class _PoochProgress:
    """What pooch asks of a progress bar, shown by rich."""

    def __init__(self, bar: object, task: object) -> None:
        self._bar, self._task = bar, task
        self.total = 0

    def update(self, count: int) -> None:
        self._bar.update(self._task, advance=count)  # type: ignore[attr-defined]

    def reset(self) -> None:
        self._bar.reset(self._task)  # type: ignore[attr-defined]

    def close(self) -> None: ...


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits; remembered for as long as the file does not change."""
    status = path.stat()
    return _sha256(path, status.st_mtime_ns, status.st_size)


def checksums(paths: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file by its name, as records of what was used have it.

    :raises OSError: if a file cannot be read
    """
    return {path.name: sha256_of(path) for path in paths}


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, modified: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
