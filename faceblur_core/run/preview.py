"""Draw what a method would hide: the mask's outline and tint, each face's score; faces left open in another colour.

The photo itself stays visible.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from faceblur_core.media.images import Frame
from faceblur_core.types import Anonymized, Detections

COLOR = (255, 64, 64)
OPENED = (64, 224, 64)  #: of the boxes of faces that stay open


def draw_preview(frame: Frame, result: Anonymized, opened: Detections | None = None) -> Frame:
    """Return the frame as 8-bit RGB with the mask and the scores of ``result`` drawn on it, and the boxes of opened faces."""
    import cv2

    canvas = frame.rgb().copy()
    height, width = canvas.shape[:2]
    line = max(1, round(min(height, width) / 250))
    marked = (result.mask >= 0.5).astype(np.uint8)
    tint = (0.7 * canvas + 0.3 * np.array(COLOR, np.float32)).astype(np.uint8)
    np.copyto(canvas, tint, where=marked[..., None] > 0)
    outlines, _ = cv2.findContours(marked, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, COLOR, line)
    for x1, y1, x2, y2 in opened.boxes.round().astype(int).tolist() if opened else ():
        cv2.rectangle(canvas, (x1, y1), (x2, y2), OPENED, line)
    if result.detections is not None:
        for box, score in zip(result.detections.boxes, result.detections.scores, strict=True):
            corner = (int(np.clip(box[0], 0, width)), int(np.clip(box[1], 8 * line, height)))
            size = max(0.4, min(height, width) / 1000)
            cv2.putText(canvas, f"{score:.2f}", corner, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 3 * line, cv2.LINE_AA)
            cv2.putText(canvas, f"{score:.2f}", corner, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), line, cv2.LINE_AA)
    return dataclasses.replace(frame, pixels=canvas, mode="RGB")
