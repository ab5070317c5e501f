"""``faceblur run``."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faceblur_core.cli.output import megapixels_option, printable, progress_bar, tell_passed_over
from faceblur_core.errors import UsageMistake

if TYPE_CHECKING:
    from typing import TypeVar

    from rich.progress import Progress, TaskID

    from faceblur_core.media.video import Encoding
    from faceblur_core.methods import Method
    from faceblur_core.run.batch import Batch
    from faceblur_core.run.jobs import Job, Plan
    from faceblur_core.run.manifest import Row, RowFile
    from faceblur_core.run.people import People
    from faceblur_core.tracking import Tracking

    F = TypeVar("F", bound=RowFile)

WRITABLE = ("png", "jpeg", "webp", "tiff", "bmp", "avif", "gif")


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER|GLOB...")
@click.option(
    "-m", "--method", required=True, help="A method: haar, yunet+pixelate, 'haar|yunet', a YAML file. See faceblur methods."
)
@click.option("-o", "--output", "output_name", required=True, help="Folder to write to, or a file name for one photo or video.")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="An option of the method, such as mask.grow=1.5. Repeatable."
)
@click.option(
    "--format", "form", type=click.Choice(WRITABLE, case_sensitive=False), help="Format to write. Default: each file's own."
)
@click.option("--quality", type=click.IntRange(1, 100), help="For JPEG, WebP, AVIF. Default: a JPEG's own, else 95 / 90 / 90.")
@click.option("--keep-metadata", is_flag=True, help="Keep camera, lens, exposure, times, author and copyright; no more.")
@click.option("--overwrite", is_flag=True, help="Replace outputs (and the manifest) that exist.")
@click.option("--resume", is_flag=True, help="Skip what the manifest says is done with the same settings.")
@click.option("--again", is_flag=True, help="Also take files that faceblur made, previews too; otherwise they are skipped.")
@click.option(
    "--manifest", type=click.Path(path_type=Path, dir_okay=False), help="Write one JSON line per file: boxes, checksums, times."
)
@click.option(
    "--detections", type=click.Path(path_type=Path, dir_okay=False), help="Hide the boxes of this JSONL file; run no detector."
)
@click.option("--preview", is_flag=True, help="Write the photos with masks and scores drawn, NOT anonymized.")
@click.option("--dry-run", is_flag=True, help="Print what would be read and written; load and write nothing.")
@click.option("--fail-on-no-face", is_flag=True, help="A file without a face is an error and is not written.")
@megapixels_option
@click.option("--workers", type=click.IntRange(1, 64), help="Photos in work at a time. Default: one per core, at most 8.")
@click.option("--verbose", is_flag=True, help="Show the traceback of an internal error.")
@click.option("--tracking", type=click.Choice(("on", "off")), default="on", help="Follow faces in videos. Default: on.")
@click.option(
    "--look-ahead", type=click.IntRange(0, 600), help="Pictures held back for it: gaps up to as many are closed. Default: 24."
)
@click.option(
    "--regions", type=click.Path(path_type=Path, dir_okay=False), help="Where and when faces of videos are hidden: a YAML file."
)
@click.option(
    "--export-detections",
    "exported",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the faces of every picture to this JSONL file, for --detections.",
)
@click.option(
    "--keep",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PHOTO|FOLDER",
    help="Leave the person in this photo, or these photos, visible; hide all others. Repeatable, for more people.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PHOTO|FOLDER",
    help="Hide the person in this photo, or these photos, and whoever might be that person. Repeatable.",
)
@click.option("--embedder", metavar="NAME", help="What recognises faces for --keep and --only. Default: mobilefacenet.")
@click.option(
    "--same-from",
    type=click.FloatRange(-1, 1),
    help="Likeness from which a face is surely the person's. Default: the embedder's.",
)
@click.option(
    "--other-below", type=click.FloatRange(-1, 1), help="Likeness below which it is surely another's. Default: the embedder's."
)
@click.option("--no-audio", is_flag=True, help="Leave the sound of videos out.")
@click.option("--no-subtitles", is_flag=True, help="Leave subtitles out; a drone's tell where it was.")
@click.option(
    "--video-encoder", metavar="NAME", help="Such as libx264, libsvtav1, h264_nvenc. Default: for each video's own codec."
)
@click.option(
    "--crf",
    type=click.IntRange(0, 255),
    help="Quality of videos on the encoder's scale, if it has one; lower is better. Default: 18 for H.264.",
)
@click.option(
    "--preset", metavar="NAME", help="Speed of the encoder against size, in its own words, if it has some. Default: medium."
)
@click.option(
    "--encoder-option", "encoder_options", multiple=True, metavar="NAME=VALUE", help="More for the encoder. Repeatable."
)
def run(
    inputs: tuple[str, ...],
    method: str,
    output_name: str,
    settings: tuple[str, ...],
    form: str | None,
    manifest: Path | None,
    detections: Path | None,
    exported: Path | None,
    dry_run: bool,
    max_megapixels: int,
    workers: int | None,
    **flags: Any,
) -> None:
    """Anonymize photos and videos.

    Folders are searched and mirrored in the output. Metadata is dropped, the picture turned upright, its depth, alpha
    and colour profile kept. In videos faces are followed, sound and subtitles are copied. One bad file does not stop the
    others: it is reported, and the exit code is 1.

    \b
    faceblur run --method yunet photos/ -o out/
    faceblur run --method 'haar|yunet+solid' --set mask.grow=1.6 portrait.jpg -o hidden.png
    faceblur run --method mediapipe holiday.mp4 -o hidden.mp4
    faceblur run --method yunet --keep me.jpg holiday.mp4 -o hidden.mp4
    """
    from faceblur_core.media.images import FORMAT_OF, only_our_limit
    from faceblur_core.methods import find_method
    from faceblur_core.options import parse_settings
    from faceblur_core.plugins import installed_plugins
    from faceblur_core.run.jobs import plan_jobs
    from faceblur_core.run.manifest import DetectionsWriter, ManifestWriter, finished

    if not output_name:
        raise UsageMistake("-o is empty; name a folder, or a file for one photo")
    output = Path(output_name)
    if flags["resume"] and not manifest:
        raise UsageMistake("--resume needs --manifest, the file that says what is done")
    found = find_method(method, parse_settings(settings), installed_plugins())
    form = form.upper() if form else None
    plan = plan_jobs(inputs, output, form)
    if len(plan.jobs) == 1 and plan.jobs[0].target == output:
        form = form or FORMAT_OF.get(output.suffix.lower())
    found.resolved()  # a wrong option is found before anything is loaded or written
    _check_files(plan, method, output, manifest, detections, exported, flags)
    _check_choice(plan, found, exported, flags["regions"])
    _check_who(found, detections, flags)
    _check_free(plan, flags)
    _tell_of_kinds(plan, form, flags)
    if dry_run:
        for job in plan.jobs:
            click.echo(printable(f"{job.source} -> {job.target}"))
        return
    batch = _batch(found, form, detections, max_megapixels, workers, flags)
    with (
        _opened(ManifestWriter, manifest, flags) as writer,
        _opened(DetectionsWriter, exported, flags) as export,
        only_our_limit(),
    ):
        done = finished(manifest) if flags["resume"] and manifest else None  # now that no other run writes it
        failed = _work(plan, dataclasses.replace(batch, done=done, writer=writer, export=export), output)
    if failed:
        sys.exit(1)


def _batch(
    method: Method,
    form: str | None,
    detections: Path | None,
    max_megapixels: int,
    workers: int | None,
    flags: dict[str, Any],
) -> Batch:
    from faceblur_core.run.batch import Batch, Output
    from faceblur_core.run.manifest import GivenDetections
    from faceblur_core.run.regions import read_regions

    return Batch(
        method,
        Output(
            form,
            flags["quality"],
            flags["keep_metadata"],
            flags["preview"],
            flags["fail_on_no_face"],
            _encoding(flags),
            _tracking(flags),
            read_regions(flags["regions"]) if flags["regions"] else None,
            _people(method, flags),
        ),
        overwrite=flags["overwrite"],
        again=flags["again"],
        max_pixels=max_megapixels * 1_000_000,
        given=GivenDetections(detections) if detections else None,
        workers=workers or min(8, os.cpu_count() or 1),
        verbose=flags["verbose"],
    )


def _encoding(flags: dict[str, Any]) -> Encoding:
    from faceblur_core.media.video import Encoding

    options = []
    for text in flags["encoder_options"]:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UsageMistake(f"--encoder-option {text!r} is not of the form name=value")
        options.append((name, value))
    return Encoding(
        flags["video_encoder"] or "",
        flags["crf"],
        flags["preset"] or "",
        tuple(options),
        audio=not flags["no_audio"],
        subtitles=not flags["no_subtitles"],
    )


def _tracking(flags: dict[str, Any]) -> Tracking | None:
    from faceblur_core.tracking import Tracking

    if flags["tracking"] == "off":
        if flags["look_ahead"] is not None:
            raise UsageMistake("--look-ahead is for following faces; leave it out with --tracking off")
        return None
    return Tracking() if flags["look_ahead"] is None else Tracking(flags["look_ahead"])


def _people(method: Method, flags: dict[str, Any]) -> People | None:
    """Return whom ``--keep`` or ``--only`` names. :raises FaceblurError: if a photo, or what would recognise it, does not do."""
    if not flags["keep"] and not flags["only"]:
        return None
    from faceblur_core.pipeline import DetectAndObfuscate, close
    from faceblur_core.run.people import DEFAULT_EMBEDDER, Limits, Recogniser, know

    embedder = flags["embedder"] or DEFAULT_EMBEDDER
    made = method.make()
    assert isinstance(made, DetectAndObfuscate)
    recogniser = Recogniser.make(embedder, method.plugins, made.detector)
    try:
        limits = Limits(flags["same_from"], flags["other_below"])
        return know("keep" if flags["keep"] else "only", flags["keep"] or flags["only"], embedder, limits, recogniser)
    finally:
        close(recogniser)
        close(made)


def _check_who(method: Method, detections: Path | None, flags: dict[str, Any]) -> None:
    """:raises UsageMistake: if it cannot be chosen who is hidden, or it is not said whom these options are about"""
    if not flags["keep"] and not flags["only"]:
        for name in ("embedder", "same_from", "other_below"):
            if flags[name] is not None:
                raise UsageMistake(f"--{name.replace('_', '-')} needs --keep or --only, which say whom to recognise")
        return
    if flags["keep"] and flags["only"]:
        raise UsageMistake("--keep leaves a person visible, --only hides nobody else; use one of them")
    option = "--keep" if flags["keep"] else "--only"
    if method.anonymizer:
        raise UsageMistake(f"method {method.text!r} finds no faces before it hides them; {option} needs a detector such as yunet")
    if detections:
        raise UsageMistake(f"--detections says already which boxes are hidden, so {option} cannot be used with it")


def _check_files(
    plan: Plan,
    method: str,
    output: Path,
    manifest: Path | None,
    detections: Path | None,
    exported: Path | None,
    flags: dict[str, Any],
) -> None:
    """:raises UsageMistake: if a file that is read would be written over, or two outputs share a name."""
    from faceblur_core.run.people import reference_photos

    targets = {_identity(job.target): job.target for job in plan.jobs}
    read = [Path(method), *(path for path in (detections, flags["regions"]) if path)]
    read += [photo for person in (*flags["keep"], *flags["only"]) for photo in reference_photos(person)]
    for path in read:
        if _identity(path) in targets:
            raise UsageMistake(f"{path} is read by this run and would be written over; choose another -o")
    taken = {*targets, *map(_identity, [*(job.source for job in plan.jobs), *read]), _identity(output)}
    for option, written in (("--manifest", manifest), ("--export-detections", exported)):
        if written is None:
            continue
        if _identity(written) in taken:
            raise UsageMistake(f"{option} {written} is an input or an output of this run; choose another name")
        taken.add(_identity(written))


def _tell_of_kinds(plan: Plan, form: str | None, flags: dict[str, Any]) -> None:
    """Say on stderr which of the given options do not count for the videos among the inputs, or count for none of them."""
    if _kind(plan) == "photo":
        names = ("look_ahead", "no_audio", "no_subtitles", "video_encoder", "crf", "preset", "encoder_option")
        values = {**flags, "encoder_option": flags["encoder_options"]}
        asked = ["--tracking"] * (flags["tracking"] == "off")
        asked += [f"--{name.replace('_', '-')}" for name in names if values[name] not in (None, False, ())]
        if asked:
            click.echo(f"faceblur: {' and '.join(asked)} for videos alone, and there is none among the inputs", err=True)
    given = {"--format": form, "--quality": flags["quality"], "--keep-metadata": flags["keep_metadata"]}
    asked = [option for option, value in given.items() if value]
    if asked and _kind(plan) != "photo":
        text = "a video keeps its container, has --crf for its quality, and its metadata is dropped"
        click.echo(f"faceblur: {' and '.join(asked)} for photos alone: {text}", err=True)


def _check_choice(plan: Plan, method: Method, exported: Path | None, regions: Path | None) -> None:
    """:raises UsageMistake: if faces are to be chosen or listed where the method or the file has no such thing"""
    from faceblur_core.media.video import is_video

    if method.anonymizer and (exported or regions):
        option = "--regions" if regions else "--export-detections"
        raise UsageMistake(f"method {method.text!r} finds no faces before it hides them, so {option} cannot be used with it")
    if regions and not all(is_video(job.source) for job in plan.jobs):
        raise UsageMistake("--regions is for videos, and there are photos among the inputs; name the videos only")


def _identity(path: Path) -> object:
    """Return what two names of one file have in common, hard links included."""
    try:
        status = path.stat()
    except OSError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


def _check_free(plan: Plan, flags: dict[str, Any]) -> None:
    """:raises UsageMistake: before anything is done, if outputs exist and nothing says what to do with them."""
    if flags["overwrite"] or flags["resume"]:
        return
    there = [job.target for job in plan.jobs if os.path.lexists(job.target)]
    if there:
        more = f" and {len(there) - 1} more exist" if len(there) > 1 else " exists"
        raise UsageMistake(f"{there[0]}{more}; --overwrite replaces outputs, --resume with --manifest continues a run")


@contextlib.contextmanager
def _opened(kind: type[F], path: Path | None, flags: dict[str, Any]) -> Iterator[F | None]:
    if path is None:
        yield None
        return
    with contextlib.closing(kind(path, resume=flags["resume"], overwrite=flags["overwrite"])) as file:
        yield file


def _work(plan: Plan, batch: Batch, output: Path) -> bool:
    """Do all jobs, report each failure on stderr and the sum on stdout; return whether anything failed."""
    from faceblur_core.run.manifest import Row

    counts: Counter[str] = Counter(error=len(plan.unreadable))
    faces = left_open = 0
    for folder, reason in plan.unreadable:
        click.echo(f"faceblur: {printable(str(folder))}: {reason}", err=True)
        if batch.writer:
            batch.writer.write(Row(input=str(folder), outcome="error", error=reason))
    with progress_bar("anonymizing", len(plan.jobs)) as progress, contextlib.ExitStack() as stack:
        if progress:
            batch = dataclasses.replace(batch, progress=_VideoBars(progress))
        rows = stack.enter_context(contextlib.closing(batch.run(plan.jobs)))
        for job, row in rows:
            counts[row if isinstance(row, str) else row.outcome] += 1
            if isinstance(row, Row):
                faces += _faces(row)
                left_open += row.left_open
                _report(job, row, progress)
            if progress:
                progress.advance(progress.task_ids[0])
    if batch.output.people:
        click.echo(f"{left_open} faces left open" + (", counted in every picture" if _kind(plan) != "photo" else ""))
    click.echo(_summary(counts, faces, _kind(plan), output, preview=batch.output.preview))
    tell_passed_over(plan.passed_over)
    return counts["error"] > 0


class _VideoBars:
    """A bar for each video in work, beside the one for all files; called from many threads."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, job: Job, done: float, seconds: float) -> None:
        """Show how many seconds of a video are done; ``seconds`` is 0 if nobody knows how many there are."""
        if job.name not in self._tasks:
            name = printable(job.source.name)
            self._tasks[job.name] = self._progress.add_task(name[-40:].replace("[", "\\["), total=round(seconds) or None)
        self._progress.update(self._tasks[job.name], completed=round(done), visible=not seconds or done < seconds - 0.1)


def _faces(row: Row) -> int:
    """Return how many faces were hidden: in a video, how many tracks."""
    if row.outcome != "faces":
        return 0
    return int(row.video.get("tracks", 0)) if row.video else len(row.detections or ())


def _kind(plan: Plan) -> str:
    """Return what the files of a run are called."""
    from faceblur_core.media.video import is_video

    videos = sum(is_video(job.source) for job in plan.jobs)
    return "photo" if not videos else "video" if videos == len(plan.jobs) else "file"


def _report(job: Job, row: Row, progress: Progress | None) -> None:
    for text in [row.error] * (row.outcome == "error") + row.notes:
        line = f"faceblur: {printable(str(job.source))}: {text}"
        if progress:
            progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(line, err=True)


def _summary(counts: Counter[str], faces: int, kind: str, output: Path, *, preview: bool) -> str:
    parts = [f"{counts['faces']} with faces" + (f" ({faces} in all)" if faces else ""), f"{counts['no-face']} without"]
    if counts["done"]:
        parts.append(f"{counts['done']} done before")
    if counts["ours"]:
        parts.append(f"{counts['ours']} skipped, made by faceblur (--again takes them)")
    if counts["error"]:
        parts.append(f"{counts['error']} failed")
    total = counts.total()
    mark = " (previews, NOT anonymized)" if preview else ""
    return f"{total} {kind}{'' if total == 1 else 's'}: {', '.join(parts)} -> {printable(str(output))}{mark}"
