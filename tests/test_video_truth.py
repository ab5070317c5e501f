"""Videos with known truth and a detector that does what it is told: gaps of every length, crossing, leaving; sound in time."""

import threading
from fractions import Fraction

import av
import numpy as np
import pytest
import videos

from faceblur_core.builtin.metrics import Coverage
from faceblur_core.builtin.obfuscators import Solid
from faceblur_core.compare.motion import GapFrames
from faceblur_core.media.video import Encoding, VideoReader, encoded_clip
from faceblur_core.pipeline import DetectAndObfuscate
from faceblur_core.run.manifest import Row
from faceblur_core.run.video import VideoRun
from faceblur_core.tracking import Tracking, gaps
from faceblur_core.types import Detections, Ellipse, Sample

HEIGHT, WIDTH, LENGTH = 120, 160, 60


class Script:
    """A detector that finds the true faces, but for those pictures in which it is to lose them."""

    def __init__(self, truth, lost):
        self.truth, self.lost, self.frame = truth, lost, -1

    def __call__(self, image):
        self.frame += 1
        faces = [face for track, face in self.truth(self.frame).items() if self.frame not in self.lost.get(track, ())]
        return Detections(np.reshape([face.bounds() for face in faces], (-1, 4)), np.ones(len(faces), np.float32))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A clip of noise, in which some places are called faces."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    scene = rng.integers(40, 255, (HEIGHT, WIDTH, 1), np.uint8).repeat(3, axis=2)
    path.write_bytes(encoded_clip([np.roll(scene, t, axis=1) for t in range(LENGTH)], Fraction(25), "ultrafast"))
    return path


def hidden(path, target, truth, lost, tracking):
    """Run a clip; return whether each track is hidden in each picture that shows it, and the metric's share of gaps.

    Where a face is hidden whole, or not at all, the written file is to say the same as what ``watch`` is told.
    """
    shares, told, metric = [], [], GapFrames()

    def watch(frame, image, result):
        faces = truth(frame)
        sample = Sample(str(frame), image, tuple(faces.values()), clip="clip", frame=frame, tracks=tuple(faces))
        shares.append(dict(zip(faces, Coverage()(sample, result), strict=True)))
        told.append(metric.observe(sample, result))

    method = DetectAndObfuscate(Script(truth, lost), Solid())
    with VideoReader(path, 10**7) as reader:
        row = Row(input="plain.mp4", outcome="error")
        VideoRun(method, Encoding(), tracking, watch=watch)(reader, target, row, threading.Event())
    written = videos.frames(target)
    assert len(written) == LENGTH
    for frame, picture in enumerate(written):
        for track, share in shares[frame].items():
            inside = truth(frame)[track].inside(HEIGHT, WIDTH, 0.8)  # away from the soft edge and its chroma
            if share in (0, 1) and inside.any():
                assert (picture[inside].mean() < 30) == share, (frame, track)
    seen = {track: [bool(one[track] >= 0.5) for one in shares if track in one] for track in {*truth(0), *truth(LENGTH - 1)}}
    return seen, metric.figures(metric.prepare(told, []), np.ones(LENGTH))["mean"]


def straight(t):
    return {0: Ellipse(25 + 1.8 * t, 60, 9, 12)}


def bent(t):
    """A walk that bends, and comes nearer."""
    return {0: Ellipse(25 + 1.8 * t, 60 + 15 * np.sin(t / 9), 8 + t / 10, 10 + t / 8)}


@pytest.mark.parametrize("truth", [straight, bent])
@pytest.mark.parametrize("length", [1, 2, 5, 10, 15])
def test_a_face_that_is_lost_for_a_while_has_no_gap_with_tracking(plain, tmp_path, truth, length):
    lost = {0: range(20, 20 + length)}
    for tracking, count in ((Tracking(), 0), (None, length)):
        seen, share = hidden(plain, tmp_path / "out.mp4", truth, lost, tracking)
        assert gaps(seen[0]).sum() == count and share == pytest.approx(count / LENGTH)
        assert len(seen[0]) == LENGTH and sum(seen[0]) == LENGTH - count


def test_a_face_that_is_lost_again_and_again_has_no_gap_with_tracking(plain, tmp_path):
    lost = {0: [t for t in range(LENGTH) if t % 7 in (1, 2, 3)]}
    seen, _ = hidden(plain, tmp_path / "on.mp4", bent, lost, Tracking())
    assert all(seen[0])
    seen, _ = hidden(plain, tmp_path / "off.mp4", bent, lost, None)
    assert seen[0] == [t not in lost[0] for t in range(LENGTH)]


@pytest.mark.parametrize("length", [5, 15])
def test_faces_that_cross_are_hidden_though_the_one_behind_is_lost(plain, tmp_path, length):
    def truth(t):
        return {0: Ellipse(20 + 2 * t, 58, 9, 12), 1: Ellipse(140 - 2 * t, 62, 11, 14)}

    lost = {0: range(30 - length // 2, 30 - length // 2 + length)}
    seen, share = hidden(plain, tmp_path / "on.mp4", truth, lost, Tracking())
    assert all(seen[0]) and all(seen[1]) and share == 0
    seen, share = hidden(plain, tmp_path / "off.mp4", truth, lost, None)
    assert all(seen[1]) and share == pytest.approx(gaps(seen[0]).sum() / (2 * LENGTH))
    assert (gaps(seen[0]).sum() > 0) == (length == 15)  # what hides the one before hides the one behind, too, where they meet


def test_faces_that_come_and_leave_are_hidden_up_to_the_edge(plain, tmp_path):
    """The detector finds neither while it is cut by the edge: for 3 pictures each; what it is hidden for beyond is on its way."""

    def truth(t):
        faces = {0: Ellipse(-9 + 2.5 * t, 40, 9, 12), 1: Ellipse(170 - 2.5 * (LENGTH - 1 - t), 80, 9, 12)}
        return {track: face for track, face in faces.items() if face.inside(HEIGHT, WIDTH).sum() > 0.25 * np.pi * 9 * 12}

    first = min(t for t in range(LENGTH) if 0 in truth(t))
    last = max(t for t in range(LENGTH) if 1 in truth(t))
    lost = {0: range(first + 3), 1: range(last - 2, LENGTH)}
    seen, _ = hidden(plain, tmp_path / "on.mp4", truth, lost, Tracking())
    assert all(seen[0]) and all(seen[1])
    seen, _ = hidden(plain, tmp_path / "off.mp4", truth, lost, None)
    assert seen[0][:4] == [False, False, False, True] and seen[1][-4:] == [True, False, False, False]


NTSC = Fraction(30_000, 1001)
_GAPS = np.random.default_rng(0).integers(10, 120, 60)
VARYING = [int(value) for value in np.cumsum(_GAPS) - _GAPS[0]]  #: milliseconds
DRIFT = {
    "plain.mp4": {"audio": "aac"},
    "ntsc.mp4": {"audio": "aac", "rate": NTSC},
    "film.mov": {"audio": "pcm_s16le", "rate": Fraction(24_000, 1001)},
    "varying.mkv": {"audio": "flac", "times": VARYING, "tick": Fraction(1, 1000)},
    "varying.mp4": {"audio": "aac", "times": VARYING, "tick": Fraction(1, 1000)},
    "late.mkv": {"audio": "ac3", "times": range(40, 100), "tick": Fraction(1, 25)},
    "late.mp4": {"audio": "aac", "times": range(40, 100), "tick": Fraction(1, 25)},
    "web.webm": {"audio": "libopus", "codec": "libvpx-vp9"},
    "tape.avi": {"audio": "pcm_s16le", "codec": "mpeg4"},
}


@pytest.mark.parametrize("tracking", ["on", "off"])
@pytest.mark.parametrize("name", DRIFT)
def test_sound_and_picture_do_not_drift_apart(cli, tmp_path, name, tracking):
    """Pictures are held back while sound is copied at once: neither moves against the other by as much as a frame."""
    scene = videos.background(120, 160)
    path = videos.write(tmp_path / name, [np.roll(scene, t, axis=1) for t in range(60)], **DRIFT[name])
    result = cli("run", "-m", "haar", path, "-o", tmp_path / "out", "--tracking", tracking)
    assert result.code == 0 and result.err == "", result.err
    before, after = (_both(one) for one in (path, tmp_path / "out" / name))
    assert len(before[0]) == len(after[0]) == 60 and len(before[1]) == len(after[1]) > 10
    moved = [np.subtract(new, old) for new, old in zip(after, before, strict=True)]
    drift = max(moved[0].max() - moved[1].min(), moved[1].max() - moved[0].min())
    assert drift < 0.5 / 30, drift


def _both(path):
    """The times of all pictures, and of all packets of sound, seconds."""
    with av.open(str(path)) as container:
        sound = [float(p.pts * p.time_base) for p in container.demux(audio=0) if p.size and p.pts is not None]
    return np.array(videos.times(path)), np.array(sound)
