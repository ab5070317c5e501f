"""Photos of people from YouTube Faces, who is who known from their file names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


class Someone:
    """One person: photos from two videos."""

    def __init__(self, shared: Path, number: int) -> None:
        folder = shared / "data" / "ytf" / "test"
        name = sorted({path.stem[:-3] for path in folder.glob("*_??.jpg")})[number]
        videos: dict[str, list[Path]] = {}
        for path in sorted(folder.glob(f"{name}_??.jpg")):
            videos.setdefault(path.stem[-2], []).append(path)
        self.references, photos, *_ = videos.values()
        self.photo = np.asarray(Image.open(photos[0]).convert("RGB"))

    def head(self, side: int) -> np.ndarray:
        """The middle of a photo of the other video, side x side: a face with its hair."""
        height, width = self.photo.shape[:2]
        length = min(height, width)
        top, left = (height - length) // 2, (width - length) // 2
        square = Image.fromarray(self.photo[top : top + length, left : left + length])
        return np.asarray(square.resize((side, side), Image.Resampling.LANCZOS))
