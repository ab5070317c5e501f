"""Hide faces while the pictures come: what ``faceblur cam`` is made of. What could not be hidden is shown black."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from faceblur_core.errors import FaceblurError, pass_on
from faceblur_core.media.camera import Sink
from faceblur_core.pipeline import DetectAndObfuscate
from faceblur_core.run.checks import checked_share
from faceblur_core.run.video import Clock, Hider
from faceblur_core.tracking import Tracked, Tracker, Tracking
from faceblur_core.types import Anonymized, Anonymizer, Detections, Image

#: Three pictures are a tenth of a second, in which a face that comes in is found; a lost one is hidden for half a second.
LIVE = Tracking(look_ahead=3, hold=15)


@dataclass
class Live:
    """Anonymizes pictures as they come. The methods of one object are for one stream of pictures."""

    anonymizer: Anonymizer
    tracking: Tracking = LIVE
    shown: int = 0  #: pictures, the black ones too
    failures: Counter[str] = field(default_factory=Counter)  #: why pictures were black, and how often

    def run(self, pictures: Iterable[Image], sinks: Sequence[Sink]) -> None:
        """Show every picture anonymized, until there are no more or a sink wants none.

        :raises FaceblurError: if a sink cannot show anything
        """
        for picture in self.hidden(pictures):
            self.shown += 1
            wanted = [sink.show(picture) for sink in sinks]
            if not all(wanted):
                return

    def hidden(self, pictures: Iterable[Image]) -> Iterator[Image]:
        """Yield the pictures anonymized, those black for which that failed."""
        if isinstance(self.anonymizer, DetectAndObfuscate):
            return self._followed(self.anonymizer, pictures)
        return (self._checked(picture, None) for picture in pictures)

    def _followed(self, method: DetectAndObfuscate, pictures: Iterable[Image]) -> Iterator[Image]:
        tracker = Tracker(self.tracking)
        hider = Hider(method, Clock({}), None, preview=False)
        waiting: deque[tuple[Image, bool]] = deque()  #: pictures that the tracker holds back, and whether their faces are known
        for picture in pictures:
            found = self._found(method, picture)
            waiting.append((picture, found is not None))
            for tracked in tracker.push(Detections.none() if found is None else found):
                yield self._shown(hider, *waiting.popleft(), tracked)
        for tracked in tracker.flush():
            yield self._shown(hider, *waiting.popleft(), tracked)

    def _found(self, method: DetectAndObfuscate, picture: Image) -> Detections | None:
        """Return the faces; None if the detector failed."""
        try:
            return method.detector(picture)
        except BaseException as error:  # whatever a stranger's plugin raises
            pass_on(error)
            self._note(error)
            return None

    def _shown(self, hider: Hider, picture: Image, known: bool, tracked: Tracked) -> Image:
        return self._checked(picture, (hider, tracked)) if known else np.zeros_like(picture)

    def _checked(self, picture: Image, how: tuple[Hider, Tracked] | None) -> Image:
        """Return a picture anonymized by the whole method, or where its faces are; black if that fails."""
        try:
            result = self._result(picture, how)
            checked_share(picture, result)
        except BaseException as error:  # whatever a stranger's plugin raises
            pass_on(error)
            self._note(error)
            return np.zeros_like(picture)
        return result.image

    def _result(self, picture: Image, how: tuple[Hider, Tracked] | None) -> Anonymized:
        if how is None:
            return self.anonymizer(picture)
        hider, tracked = how
        if not len(tracked.detections) and tracked.detections.mask is None:
            return Anonymized(picture, np.zeros(picture.shape[:2], np.float32))
        return hider.obfuscated(picture, tracked, Detections.none(), 0.0)

    def _note(self, error: BaseException) -> None:
        self.failures[error.message if isinstance(error, FaceblurError) else type(error).__name__] += 1
