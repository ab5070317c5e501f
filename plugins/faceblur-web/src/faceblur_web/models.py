"""What the API is asked and what it answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from faceblur_web.allowed import METHOD, MOST_METHODS, MOST_SETTINGS, SETTING

Name = Annotated[str, Field(pattern=METHOD)]
Setting = Annotated[str, Field(pattern=SETTING)]


class Asked(BaseModel):
    """What all questions have in common; what is not named here is refused, lest a misspelt word is passed over."""

    model_config = ConfigDict(extra="forbid")

    settings: list[Setting] = Field(
        [], alias="set", max_length=MOST_SETTINGS, description="An option, such as `mask.grow=1.6`. Repeatable."
    )


class Writing(Asked):
    """How a photo is to be written."""

    form: Literal["png", "jpeg", "webp", "tiff", "bmp", "avif", "gif"] | None = Field(
        None, alias="format", description="Format to write. Default: the photo's own."
    )
    quality: int | None = Field(None, ge=1, le=100, description="For JPEG, WebP and AVIF.")


class Anonymize(Writing):
    """One photo, one method."""

    method: Name = Field(description="Such as `yunet`, `haar+pixelate` or `careful`.", examples=["yunet"])


class Compare(Writing):
    """One photo, several methods."""

    methods: list[Name] = Field(alias="method", min_length=1, max_length=MOST_METHODS, description="Repeatable.")
    images: bool = Field(True, description="Give the pictures too.")


class Video(Asked):
    """One video, one method."""

    method: Name = Field(description="Such as `yunet`, `haar+pixelate` or `careful`.", examples=["yunet"])
    form: Literal["mp4", "mov", "mkv", "webm", "avi"] | None = Field(
        None, alias="format", description="Container to write. Default: the video's own, mkv for those that are only read."
    )
    tracking: bool = Field(True, description="Follow faces from picture to picture: no gaps, no flicker.")
    audio: bool = Field(True, description="Copy the sound.")
    subtitles: bool = Field(True, description="Copy subtitles, which may tell where or who.")
    crf: int | None = Field(None, ge=1, le=51, description="Constant quality, the encoder's own scale; lower is better.")


class Error(BaseModel):
    """Why a request was not answered."""

    error: str = Field(description="One line.")


class Method(BaseModel):
    """Something that a method's name can be made of."""

    name: str
    kind: Literal["anonymizer", "detector", "obfuscator", "file"] = Field(
        description="A detector or a detector+obfuscator is a method; anonymizers and files are methods as they are."
    )
    summary: str
    licence: str = Field(description="Of the code, as SPDX.")
    usable: bool
    why: str = Field("", description="Why it is not usable, if it is not.")


class Methods(BaseModel):
    """What is offered, and the limits that photos and videos must keep."""

    methods: list[Method]
    formats: list[str] = Field(description="What a photo can be written as.")
    max_bytes: int
    max_pixels: int
    max_methods: int = Field(description="In one comparison.")
    max_video_bytes: int
    max_video_pixels: int = Field(description="Of one picture.")
    max_video_seconds: float


class Result(BaseModel):
    """One method's result for the photo; with ``error`` there is nothing else."""

    method: str
    error: str | None = None
    faces: int | None = Field(None, description="Null also for methods that hide without finding faces first.")
    masked_share: float | None = Field(None, description="Share of the photo that was hidden.")
    ms: dict[str, float] = Field(default={}, description="Milliseconds by stage; total is their sum and what lies between.")
    media_type: str | None = None
    image: str | None = Field(None, description="The file, in base64.")


class Comparison(BaseModel):
    """Several methods on one photo."""

    width: int | None = Field(None, description="Pixels, upright. Null if no method could read the photo.")
    height: int | None = None
    results: list[Result]


class Made(BaseModel):
    """A video that is ready."""

    media_type: str
    bytes: int
    width: int = Field(description="Pixels, upright.")
    height: int
    frames: int
    seconds: float = Field(description="As the file says; 0 if it says nothing.")
    tracks: int | None = Field(description="Faces that were followed; null if the method finds none before hiding.")
    masked_share: float = Field(description="Share of all pixels that was hidden.")
    notes: list[str] = Field(description="What of the file could not be read or kept.")
    ms: dict[str, float] = Field(description="Milliseconds by stage; stages overlap.")


class JobState(BaseModel):
    """How far a video is. A job that was cancelled, given up, or delivered a minute ago is no more: 404."""

    id: str = Field(description="Whoever knows it can fetch and cancel the job.")
    state: Literal["waiting", "working", "done", "failed"]
    progress: float = Field(ge=0, le=1)
    seconds_left: float | None = Field(description="An estimate; null while there is none.")
    ahead: int | None = Field(description="Jobs that come before it, while it waits.")
    error: str | None = Field(description="One line, if it failed.")
    result: Made | None = Field(description="If it is done.")
