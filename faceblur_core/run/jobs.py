"""Which files to read and under which names to write: folders are mirrored, nothing is written twice or over itself."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faceblur_core.errors import UsageMistake
from faceblur_core.media.files import check_folder_above
from faceblur_core.media.images import FORMAT_OF, FORMATS
from faceblur_core.media.video import MUXERS, READ_ONLY, is_video, written_as

# Photos of which Pillow alone reads nothing, or a preview: in a folder they are errors, where other files are passed over.
RAW_PHOTOS = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")
UNREADABLE_PHOTOS = frozenset((".heic", ".heif", ".jxl", ".jp2", ".j2k", ".psd", ".svg", *RAW_PHOTOS))

BY_SIGHT = ("linked folder", "hidden folder", "hidden file")  #: what is passed over whatever its suffix


@dataclass(frozen=True, slots=True)
class Job:
    """One file to anonymize."""

    source: Path
    name: str  #: of the source, as manifests show it: relative to the folder that was given, with ``/``
    target: Path


@dataclass
class Plan:
    """All jobs of a run, and what was left out."""

    jobs: list[Job] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)  #: folders that could not be listed
    videos: bool = True  #: whether videos in folders are taken too
    passed_over: Counter[str] = field(default_factory=Counter)  #: in folders: by suffix, or of BY_SIGHT


def plan_jobs(inputs: Sequence[str], output: Path, form: str | None) -> Plan:
    """Return what to do for files, folders and glob patterns.

    :param output: a folder, or the name of the one output file
    :param form: a key of FORMATS to write, or None for each file's own
    :raises UsageMistake: if an input does not exist, two inputs would get one output, or an output is an input
    """
    plan = Plan()
    pairs = _found(inputs, output, plan)
    single = _is_file_name(output)
    check_folder_above(output.parent if single else output)
    if single:
        _check_single(inputs, output, len(pairs), form)
        _check_kind(pairs[0][0], output)
    for source, name in pairs:
        target = output if single else written_as(output / name)
        if form and not single and not is_video(source):
            target = _with_format(target, form)
        plan.jobs.append(Job(source, name, target))
    _check_any(plan, inputs)
    _check_targets(plan.jobs)
    return plan


def list_files(source: Path, left_out: Path | None = None, *, videos: bool = True) -> Plan:
    """Return the files in a folder, or the file, as a run finds them; each job's target is its source, nothing is to be written.

    :param left_out: a folder in it, such as that of a run's output
    :param videos: whether videos in folders are taken too
    :raises UsageMistake: if there is none
    """
    plan = Plan(videos=videos)
    nowhere = source.resolve().parent / ".faceblur-nowhere"
    plan.jobs = [Job(path, name, path) for path, name in _found([str(source)], left_out or nowhere, plan)]
    _check_any(plan, [str(source)])
    return plan


def _found(inputs: Sequence[str], output: Path, plan: Plan) -> list[tuple[Path, str]]:
    """Return the files that are named or lie in folders, with their names below these, and note in ``plan`` what is left out."""
    pairs: list[tuple[Path, str]] = []
    for text in inputs:
        if not text:
            raise UsageMistake("an input is empty; name a file, a folder or a glob pattern")
        try:
            pairs += list(_expand(text, output, plan))
        except OSError as error:
            raise UsageMistake(f"{text}: {error.strerror}") from None
    return pairs


def _check_any(plan: Plan, inputs: Sequence[str]) -> None:
    if not plan.jobs and not plan.unreadable:
        more = ", and no videos" if plan.videos else "; videos are not looked at"
        raise UsageMistake(f"no photos in {' '.join(inputs)}{more}")


def _is_file_name(path: Path) -> bool:
    return (path.suffix.lower() in (*FORMAT_OF, *UNREADABLE_PHOTOS) or is_video(path)) and not path.is_dir()


def _check_single(inputs: Sequence[str], output: Path, count: int, form: str | None) -> None:
    """:raises UsageMistake: if ``-o`` names a file, but not one that the only input can be written to."""
    suffix = output.suffix.lower()
    if suffix in UNREADABLE_PHOTOS or suffix in READ_ONLY:
        known = MUXERS if suffix in READ_ONLY else FORMAT_OF
        raise UsageMistake(f"-o {output}: {suffix} cannot be written; it can be: {', '.join(sorted(known))}")
    if len(inputs) != 1 or count != 1 or Path(inputs[0]).is_dir():
        raise UsageMistake(f"-o {output} names one file, but the input is a folder or several files; name a folder")
    if form and FORMAT_OF.get(suffix) != form:
        raise UsageMistake(f"-o {output} and --format {form.lower()} contradict each other")


def _check_kind(source: Path, output: Path) -> None:
    """:raises UsageMistake: if one of the two is a photo and the other a video"""
    if is_video(source) != is_video(output):
        kinds = ("a video", "a photo") if is_video(source) else ("a photo", "a video")
        raise UsageMistake(f"{source} is {kinds[0]} and -o {output} is named as {kinds[1]}")


def _with_format(target: Path, form: str) -> Path:
    return target if FORMAT_OF.get(target.suffix.lower()) == form else target.with_suffix(FORMATS[form].suffixes[0])


def _expand(text: str, output: Path, plan: Plan) -> Iterator[tuple[Path, str]]:
    path = Path(text)
    if path.is_dir():
        yield from _walk(path, output, plan)
    elif path.exists():
        yield path, path.name
    elif glob.has_magic(text):
        found = sorted(Path(name) for name in glob.glob(text, recursive=True))
        if not found:
            raise UsageMistake(f"no file matches {text}")
        base = _fixed_part(text)
        for match in found:
            if ".." in match.relative_to(base).parts:
                raise UsageMistake(f"{text}: '..' after a wildcard would lead out of the output folder")
            if _inside(match, output) and not _inside(base, output):
                continue  # written by an earlier run
            if match.is_dir():
                inside = match.relative_to(base).as_posix()
                yield from ((source, f"{inside}/{name}") for source, name in _walk(match, output, plan))
            else:
                yield match, match.relative_to(base).as_posix()
    else:
        raise UsageMistake(f"no file or folder {text}")


def _fixed_part(pattern: str) -> Path:
    """Return the folders of a glob pattern before its first wildcard."""
    parts = Path(pattern).parts
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])


def _walk(folder: Path, output: Path, plan: Plan) -> Iterator[tuple[Path, str]]:
    def note(error: OSError) -> None:
        plan.unreadable.append((Path(error.filename), f"the folder cannot be read ({error.strerror})"))

    for root, folders, files in os.walk(folder, onerror=note):
        here = Path(root)
        plan.passed_over["linked folder"] += sum((here / name).is_symlink() for name in folders)
        folders[:] = sorted(name for name in folders if not _same(here / name, output))
        plan.passed_over["hidden folder"] += sum(name.startswith(".") and not (here / name).is_symlink() for name in folders)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in sorted(files):
            suffix = Path(name).suffix.lower()
            wanted = suffix in FORMAT_OF or suffix in UNREADABLE_PHOTOS or (plan.videos and is_video(here / name))
            if name.startswith("."):
                plan.passed_over["hidden file"] += wanted
            elif wanted:
                yield here / name, (here / name).relative_to(folder).as_posix()
            else:
                plan.passed_over[suffix or name] += 1


def _same(path: Path, other: Path) -> bool:
    return _real(path) == _real(other)


def _inside(path: Path, folder: Path) -> bool:
    return folder.is_dir() and _real(path).is_relative_to(_real(folder))


def _real(path: Path) -> Path:
    """Return the path without links; one that leads in a circle stays as far as it is known."""
    return Path(os.path.realpath(path))


def _check_targets(jobs: Sequence[Job]) -> None:
    sources = {_real(job.source) for job in jobs}
    seen: dict[Path, Path] = {}
    for job in jobs:
        target = _real(job.target)
        if target in sources:
            raise UsageMistake(f"{job.target} would be written over an input; choose another folder with -o")
        if target in seen:
            raise UsageMistake(
                f"{seen[target]} and {job.source} would both be written to {job.target}; rename one, or give it a run of its own"
            )
        seen[target] = job.source
