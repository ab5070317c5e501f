"""What OpenAPI says of bodies and errors."""

from __future__ import annotations

from typing import Any

from faceblur_web.models import Error

BINARY = {"schema": {"type": "string", "format": "binary"}}
_WHY = {
    400: "The request is no HTTP that makes sense.",
    401: "The token is missing or wrong.",
    403: "A page of another site asked.",
    404: "There is no such job, or no more.",
    408: "The upload came too slowly.",
    409: "The video is not done.",
    413: "The upload has too many bytes.",
    415: "A form was sent in place of the file's bytes.",
    416: "The result does not have these bytes.",
    421: "The server does not go by the name in the Host header.",
    422: "The photo cannot be read or is too large, or there is no such method or option.",
    500: "The method failed on this photo.",
    503: "Busy; the header Retry-After says when to ask again.",
}


def errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of errors by their status."""
    return {code: {"model": Error, "description": _WHY[code]} for code in codes}


def body(what: str, *media_types: str) -> dict[str, Any]:
    """Return the description of a body that is a file: a photo or a video."""
    content = dict.fromkeys(("application/octet-stream", *media_types), BINARY)
    description = f"The bytes of the {what}'s file, as they are; no form."
    return {"requestBody": {"required": True, "description": description, "content": content}}
