"""Contract tests: what every component must do, whoever wrote it.

``faceblur plugins check NAME`` runs them on an installed plugin. A plugin's own tests subclass them, one class for
each component, and pytest finds their ``test_`` methods::

    from faceblur_core.testing import DetectorContract

    class TestSkin(DetectorContract):
        name = "skin"
        photo = my_photo_with_a_face  # H x W x 3 uint8; without it the tests that need one are skipped
"""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from faceblur_core.alignment import SIDE
from faceblur_core.contracts import detections_fault, image_fault
from faceblur_core.errors import FaceblurError, pass_on
from faceblur_core.hookspecs import Kind
from faceblur_core.options import describe_options
from faceblur_core.pipeline import close
from faceblur_core.plugins import installed_plugins
from faceblur_core.run.checks import checked_share
from faceblur_core.types import Anonymized, Detections, Ellipse, Faces, Floats, Image, Mask, Sample
from faceblur_core.weights import package_folder, sha256_of

Skip = unittest.SkipTest  # pytest knows it as a skip too

ODD_SHAPES = ((1, 1), (1, 64), (64, 1), (5, 3000), (3000, 5), (33, 47))


def flat_images() -> Iterator[Image]:
    """Yield pictures with no face in them: black, white, grey, two gradients."""
    for level in (0, 128, 255):
        yield np.full((120, 160, 3), level, np.uint8)
    ramp = np.linspace(0, 255, 160, dtype=np.uint8)
    yield np.repeat(np.broadcast_to(ramp, (120, 160))[..., None], 3, axis=2).copy()
    yield np.stack(
        [np.broadcast_to(ramp, (160, 160)), np.broadcast_to(ramp[:, None], (160, 160)), np.zeros((160, 160))], 2
    ).astype(np.uint8)


def noise_image(height: int = 96, width: int = 128, seed: int = 0) -> Image:
    """Return a picture of reproducible noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def require(condition: bool, message: str) -> None:
    """:raises AssertionError: with the message, also under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def _refuse(fault: str) -> None:
    """:raises AssertionError: if there is a fault"""
    require(not fault, fault)


def _guarded(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


class Contract:
    """What all kinds have in common. Subclasses set ``name`` and, if they like, ``options``."""

    kind: ClassVar[Kind]
    name: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Any]] = {}
    photo: ClassVar[Image | None] = None  #: with at least one face, H x W x 3 uint8
    _made: ClassVar[Any] = None

    @property
    def component(self) -> Any:
        """The component under test, made once per class."""
        cls = type(self)
        if cls._made is None:
            cls._made = installed_plugins().make(self.kind, self.name, self.options)
        return cls._made

    @classmethod
    def teardown_class(cls) -> None:
        close(cls._made)
        cls._made = None

    def test_options_are_described(self) -> None:
        """Every option has a default and a line of help."""
        for option in describe_options(installed_plugins().factory(self.kind, self.name)):
            require(bool(option.help), f"option {option.name} has no help; make it with types.option(default, help)")

    def test_record_is_complete(self) -> None:
        """The record has a summary of one line and a licence."""
        component = installed_plugins().get(self.kind, self.name).component
        require(
            0 < len(component.summary) <= 120 and "\n" not in component.summary, "summary must be one line, at most 120 letters"
        )
        require(bool(component.licence), "licence is empty")

    def test_weights_that_ship_are_those_of_the_record(self) -> None:
        """Model files in the plugin's package have the size and the checksum that their record says."""
        for weights in installed_plugins().get(self.kind, self.name).component.weights:
            if folder := package_folder(weights):
                path = folder / weights.file
                require(path.is_file(), f"{path} is missing")
                size, digest = path.stat().st_size, sha256_of(path)
                require(size == weights.size, f"{path} has {size} bytes; its record says {weights.size}")
                require(digest in weights.sha256, f"{path} has the SHA-256 {digest}, which its record does not name")


def _same_detections(a: Detections, b: Detections) -> bool:
    masks = (a.mask is None and b.mask is None) or (a.mask is not None and b.mask is not None and np.array_equal(a.mask, b.mask))
    points = (a.landmarks is None and b.landmarks is None) or np.array_equal(a.landmarks, b.landmarks)  # type: ignore[arg-type]
    return np.array_equal(a.boxes, b.boxes) and np.array_equal(a.scores, b.scores) and masks and points


class DetectorContract(Contract):
    """``Image -> Detections``."""

    kind = "detector"

    def _check(self, image: Image) -> Detections:
        given = _guarded(image)
        found: Detections = self.component(given)
        _refuse(detections_fault(found, image))
        require(np.array_equal(given, image), "changed its input")
        height, width = image.shape[:2]
        inside = (found.boxes[:, :2] < [width, height]).all() and (found.boxes[:, 2:] > 0).all()
        require(bool(inside), f"a box lies wholly outside the {height} x {width} image: {found.boxes}")
        return found

    def test_result_and_untouched_input(self) -> None:
        """Returns Detections whose boxes meet the image, and leaves the input alone."""
        self._check(noise_image())

    def test_no_face_in_flat_pictures(self) -> None:
        """Finds nothing in black, grey, white and gradients."""
        for image in flat_images():
            found = self._check(image)
            require(len(found) == 0, f"found {len(found)} faces in a picture without any")
            require(found.mask is None or not found.mask.any(), "marked pixels in a picture without a face")

    def test_odd_shapes(self) -> None:
        """Takes 1 x 1 pixels, very wide and very high pictures."""
        for shape in ODD_SHAPES:
            self._check(noise_image(*shape))

    def test_same_twice(self) -> None:
        """Gives the same for the same picture, also after another one."""
        image = noise_image() if self.photo is None else self.photo
        first = self._check(image)
        self._check(noise_image(60, 90, seed=1))
        require(_same_detections(first, self._check(image)), "two runs on one picture differ")

    def test_finds_the_face(self) -> None:
        """Finds at least one face in the photo that the subclass gives, and says in pixels where it is."""
        if self.photo is None:
            raise Skip("needs a photo: subclass the contract and set photo")
        found = self._check(self.photo)
        require(len(found) > 0 or bool(found.mask is not None and found.mask.any()), "found no face in the photo")
        most = float(found.longer_sides().max(initial=0))
        require(
            not len(found) or most > 1, f"no side of a box has more than {most:.2g} pixels: boxes are in pixels, not in shares"
        )


def _spot(height: int, width: int) -> Mask:
    """Return a mask with a soft-edged disc."""
    y, x = np.ogrid[:height, :width]
    distance = np.hypot((x - width / 2) / (width / 4), (y - height / 2) / (height / 4))
    return np.asarray(np.clip(3 - 2 * distance, 0, 1), np.float32)


class ObfuscatorContract(Contract):
    """``(Image, Mask) -> Image``."""

    kind = "obfuscator"

    def _check(self, image: Image, mask: Mask) -> Image:
        given, given_mask = _guarded(image), _guarded(mask)
        result: Image = self.component(given, given_mask)
        _refuse(image_fault(result, image))
        require(np.array_equal(given, image) and np.array_equal(given_mask, mask), "changed its input")
        require(np.array_equal(result[mask == 0], image[mask == 0]), "changed pixels where the mask is 0")
        return result

    def test_leaves_the_rest_alone(self) -> None:
        """Shape and type stay, and so does every pixel with mask 0, to the bit."""
        image = noise_image()
        self._check(image, _spot(*image.shape[:2]))

    def test_empty_mask(self) -> None:
        """An empty mask changes nothing."""
        image = noise_image()
        require(np.array_equal(self._check(image, np.zeros(image.shape[:2], np.float32)), image), "changed the image")

    def test_hides_up_to_the_borders(self) -> None:
        """A full mask changes the picture, its first and last row and column too."""
        image = noise_image()
        changed = (self._check(image, np.ones(image.shape[:2], np.float32)) != image).any(axis=2)
        for name, line in {
            "row 0": changed[0],
            "last row": changed[-1],
            "column 0": changed[:, 0],
            "last column": changed[:, -1],
        }.items():
            require(bool(line.mean() > 0.5), f"most of {name} is untouched under a full mask")

    def test_odd_shapes(self) -> None:
        """Takes 1 x 1 pixels, very wide and very high pictures."""
        for shape in ODD_SHAPES:
            self._check(noise_image(*shape), np.ones(shape, np.float32))

    def test_same_twice(self) -> None:
        """Gives the same for the same picture and mask."""
        image = noise_image()
        mask = _spot(*image.shape[:2])
        require(np.array_equal(self._check(image, mask), self._check(image, mask)), "two runs on one picture differ")


class AnonymizerContract(Contract):
    """``Image -> Anonymized``."""

    kind = "anonymizer"

    def _check(self, image: Image) -> Anonymized:
        given = _guarded(image)
        result: Anonymized = self.component(given)
        checked_share(image, result)  # what faceblur run demands
        require(np.array_equal(given, image), "changed its input")
        require(np.array_equal(result.image[result.mask == 0], image[result.mask == 0]), "changed pixels where its mask is 0")
        return result

    def test_result_and_untouched_input(self) -> None:
        """Returns an image and a mask that says where it changed it, and leaves the input alone."""
        self._check(noise_image())

    def test_flat_pictures_stay(self) -> None:
        """Masks at most 1 % of black, grey, white and gradients."""
        for image in flat_images():
            share = float(self._check(image).mask.mean())
            require(share <= 0.01, f"masked {share:.1%} of a picture without a face")

    def test_odd_shapes(self) -> None:
        """Takes 1 x 1 pixels, very wide and very high pictures."""
        for shape in ODD_SHAPES:
            self._check(noise_image(*shape))

    def test_same_twice(self) -> None:
        """Gives the same for the same picture."""
        image = noise_image() if self.photo is None else self.photo
        first, second = self._check(image), self._check(image)
        require(
            np.array_equal(first.image, second.image) and np.array_equal(first.mask, second.mask),
            "two runs on one picture differ",
        )

    def test_hides_the_face(self) -> None:
        """Masks something in the photo that the subclass gives."""
        if self.photo is None:
            raise Skip("needs a photo: subclass the contract and set photo")
        require(bool(self._check(self.photo).mask.any()), "hid nothing in the photo")


class EmbedderContract(Contract):
    """Aligned faces to unit vectors. Subclasses may give an aligned ``face``, 112 x 112 x 3."""

    kind = "embedder"
    face: ClassVar[Image | None] = None

    def _check(self, faces: Faces) -> Floats:
        given = _guarded(faces)
        vectors: Floats = self.component(given)
        require(np.array_equal(given, faces), "changed its input")
        require(
            vectors.ndim == 2 and len(vectors) == len(faces) and vectors.dtype == np.float32,
            f"gave {vectors.shape} {vectors.dtype} for {len(faces)} faces, not N x D float32",
        )
        require(bool(np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)), "gave vectors that have not the length 1")
        return vectors

    def test_says_when_faces_are_alike(self) -> None:
        """Has both limits, within -1..1 and in order, and says where they come from; or none of the two."""
        same, different = self.component.threshold, self.component.different
        require((same is None) == (different is None), f"threshold is {same} and different {different}; both or none is None")
        if same is not None:
            require(-1 <= different < same <= 1, f"threshold is {same}, different {different}: not in order within -1..1")
            require(bool(self.component.origin), "origin does not say where the limits come from")

    def test_result_and_untouched_input(self) -> None:
        """Gives N x D unit vectors for one face and for three, also for flat ones, and leaves the input alone."""
        self._check(noise_image(SIDE, SIDE)[None])
        self._check(np.stack([noise_image(SIDE, SIDE), *(np.full((SIDE, SIDE, 3), level, np.uint8) for level in (0, 255))]))

    def test_does_not_depend_on_the_others(self) -> None:
        """A face's vector is the same alone and among others."""
        faces = np.stack([noise_image(SIDE, SIDE, seed) for seed in range(3)])
        together, alone = self._check(faces), self._check(faces[1:2])
        require(bool(np.allclose(together[1], alone[0], atol=1e-5)), "a face's vector depends on the others")

    def test_knows_a_face_again(self) -> None:
        """A face is itself after a small change of brightness, and is not its negative."""
        if self.face is None:
            raise Skip("needs a face: subclass the contract and set face, aligned")
        vectors = self._check(np.stack([self.face, (self.face * 0.9).astype(np.uint8), 255 - self.face]))
        likeness = vectors @ vectors[0]
        limit = self.component.threshold or 0.5
        require(bool(likeness[1] >= limit > likeness[2]), f"likeness to itself, darker: {likeness[1]}, negative: {likeness[2]}")


class BackendContract(Contract):
    """Runs model files of one format. Subclasses may give a ``model`` and the shape of its input."""

    kind = "backend"
    model: ClassVar[Path | None] = None
    input_shape: ClassVar[tuple[int, ...]] = ()  #: H x W x C

    def test_says_what_it_reads(self) -> None:
        """Has file name endings that begin with a dot."""
        suffixes = self.component.suffixes
        require(bool(suffixes) and all(item.startswith(".") for item in suffixes), f"suffixes is {suffixes!r}")

    def test_bad_files(self) -> None:
        """A missing file and one of noise are errors for the user, not tracebacks."""
        with TemporaryDirectory() as folder:
            noise = Path(folder) / f"noise{self.component.suffixes[0]}"
            noise.write_bytes(noise_image().tobytes())
            for path in (Path(folder) / "missing", noise):
                try:
                    self.component.load(path)
                except FaceblurError:
                    continue
                raise AssertionError(f"loading {path.name} did not raise FaceblurError")

    def test_runs_a_model(self) -> None:
        """Takes float32 batches of one and of two, and gives the same for the same picture."""
        if self.model is None:
            raise Skip("needs a model: subclass the contract and set model and input_shape")
        predict = self.component.load(self.model)
        batch = np.random.default_rng(0).random((1, *self.input_shape), np.float32)
        first = predict(batch)
        require(first.dtype == np.float32 and len(first) == 1, f"returned {first.shape} {first.dtype} for a batch of one")
        require(np.array_equal(first, predict(batch)), "two runs on one batch differ")
        try:
            both = predict(np.concatenate([batch, batch]))
        except FaceblurError:
            return  # a model may take one picture at a time, if it says so
        require(both.shape == (2, *first.shape[1:]), f"a batch of two gave {both.shape}")


#: Where the eyes, the nose and the corners of the mouth are in the middle of a noise_image.
_POINTS = np.array([[56, 40], [72, 40], [64, 50], [58, 60], [70, 60]], np.float32)
GROUPS = ("privacy", "utility", "fidelity", "detection", "other")


class MetricContract(Contract):
    """Scores one result against one sample; or, where ``per`` is ``set``, all results at once from what it observed."""

    kind = "metric"

    def _samples(self) -> Iterator[tuple[Sample, Anonymized]]:
        """Yield photos of four people, with two faces, one and none: copied, black and dimmed; read-only, as in a comparison."""
        mask = _spot(*noise_image().shape[:2])
        faces = (Ellipse(64, 48, 20, 28), Ellipse(20, 20, 8, 10, 0.5))
        for number, truth in enumerate((faces, faces[:1], (), faces[:1]) * 3):
            image = _guarded(noise_image(seed=number))
            points = tuple(_POINTS if face is faces[0] else None for face in truth)
            sample = Sample("noise", image, truth, f"person {number % 4}" if truth else None, ignored=faces[1:], landmarks=points)
            boxes = np.array([face.bounds() for face in faces], np.float32) + number
            for shown, hidden in ((image, np.zeros_like(mask)), (np.zeros_like(image), np.ones_like(mask)), (image // 2, mask)):
                yield sample, Anonymized(_guarded(shown), _guarded(hidden), Detections(boxes, np.array([0.9, 0.5], np.float32)))

    def _pooled(self) -> bool:
        return bool(self.component.per == "set")

    def _observed(self) -> list[Mapping[str, Any]]:
        return [self.component.observe(sample, result) for sample, result in self._samples()]

    def _check_range(self, values: NDArray[np.float64]) -> None:
        low, high = self.component.range
        known = values[~np.isnan(values)]
        require(bool(((known >= low) & (known <= high)).all()), f"gave {values}, outside {low}..{high}")

    def test_declares_itself(self) -> None:
        """Has a unit, a direction, a range and a source."""
        metric = self.component
        require(isinstance(metric.unit, str) and isinstance(metric.higher_is_better, bool), "unit or higher_is_better is missing")
        require(
            metric.per in ("face", "image", "set") and len(metric.range) == 2 and bool(metric.citation),
            "per, range or citation is missing",
        )
        group, over = getattr(metric, "group", "other"), getattr(metric, "over", "images")
        require(group in GROUPS, f"group is {group!r}, none of {', '.join(GROUPS)}")
        require(over in ("images", "people"), f"over is {over!r}, neither images nor people")

    def test_statistics(self) -> None:
        """Every statistic is one that tables know; a name in place of a number is a threshold that it calibrates."""
        from faceblur_core.compare.statistics import Draws, figure, threshold_name

        statistics = getattr(self.component, "statistics", ("mean",))
        require(bool(statistics) and not isinstance(statistics, str), "statistics is no tuple of names")
        for statistic in statistics:
            if name := threshold_name(statistic):
                require(hasattr(self.component, "calibrate"), f"nothing calibrates the threshold of {statistic!r}")
            figure(np.ones(2), np.arange(2), Draws.make(2, 1, 0), statistic, {name: 0.5})

    def test_calibrates(self) -> None:
        """If it calibrates, that gives thresholds by name, also without a sample."""
        if not hasattr(self.component, "calibrate"):
            return
        for samples in ([sample for sample, _ in self._samples()], []):
            found = self.component.calibrate(samples)
            require(all(isinstance(value, float) for value in found.values()), f"calibrate gave {found}, not numbers by name")
            named = {
                name for text in getattr(self.component, "statistics", ()) if (name := text.partition("<")[2]).isidentifier()
            }
            require(named <= set(found), f"calibrate gave no {', '.join(sorted(named - set(found)))}")

    def test_values(self) -> None:
        """Gives one float64 per face (or one), within its range, for copies, black pictures and soft masks; unless pooled."""
        if self._pooled():
            return
        for sample, result in self._samples():
            values = self.component(sample, result)
            count = len(sample.faces) if self.component.per == "face" else 1
            require(
                values.shape == (count,) and values.dtype == np.float64,
                f"gave {values.shape} {values.dtype}, not ({count},) float64",
            )
            self._check_range(values)

    def test_observations_can_be_kept(self) -> None:
        """What a pooled metric observes are arrays that a file holds without pickling."""
        for seen in self._observed() if self._pooled() else ():
            require(all(isinstance(value, np.ndarray) for value in seen.values()), "it observed something that is no array")
            require(not any(value.dtype.hasobject for value in seen.values()), "it observed an array of objects")

    def test_figures(self) -> None:
        """Figures of a pooled metric are in the range or nan; twice the weight changes nothing; none at all is no error."""
        if not self._pooled():
            return
        seen = self._observed()
        prepared = self.component.prepare(seen, seen)
        ones = np.ones(len(seen))
        first = self._figures(prepared, ones)
        twice, none = self._figures(prepared, 2 * ones), self._figures(prepared, 0 * ones)
        require(list(first) == list(twice) == list(none), "the names of its figures depend on the weights")
        same = np.allclose(list(first.values()), list(twice.values()), rtol=1e-9, atol=0, equal_nan=True)
        require(same, f"twice the weight changes {first} to {twice}")

    def test_nothing_observed(self) -> None:
        """Without any observation, figures of a pooled metric are nan or in the range."""
        nothing: list[list[Mapping[str, Any]]] = [[], [{}], [{}, {}]]
        for seen in nothing if self._pooled() else ():
            self._figures(self.component.prepare(seen, seen), np.ones(len(seen)))

    def _figures(self, prepared: Any, weights: NDArray[np.float64]) -> dict[str, float]:
        figures = dict(self.component.figures(prepared, weights))
        require(bool(figures) and all(isinstance(name, str) for name in figures), "it names no figure")
        self._check_range(np.array(list(figures.values()), np.float64))
        return figures


class CommandContract(Contract):
    """A ``click.Command``."""

    kind: ClassVar[Kind] = "command"

    @property
    def component(self) -> Any:
        return installed_plugins().factory(self.kind, self.name)

    def test_options_are_described(self) -> None:
        """Every option of the command has a line of help."""
        import click

        for parameter in self.component.params:
            require(not isinstance(parameter, click.Option) or bool(parameter.help), f"option {parameter.name} has no help")

    def test_help(self) -> None:
        """Prints its help."""
        from click.testing import CliRunner

        result = CliRunner().invoke(self.component, ["--help"])
        require(result.exit_code == 0 and "Usage" in result.output, f"--help exits {result.exit_code}")


class TrainerContract(CommandContract):
    """A ``click.Command`` under ``faceblur train``."""

    kind: ClassVar[Kind] = "trainer"


CONTRACTS: dict[Kind, type[Contract]] = {
    contract.kind: contract
    for contract in (
        DetectorContract,
        ObfuscatorContract,
        AnonymizerContract,
        EmbedderContract,
        BackendContract,
        MetricContract,
        TrainerContract,
        CommandContract,
    )
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One row of ``faceblur plugins check``."""

    kind: Kind
    component: str
    check: str
    outcome: Literal["passed", "failed", "skipped"]
    message: str = ""


def check_component(kind: Kind, name: str) -> list[CheckResult]:
    """Run the contract of one component's kind on it, with its default options."""
    contract: type[Contract] = type(f"Check_{name}", (CONTRACTS[kind],), {"name": name})
    tests = [attribute for attribute in dir(contract) if attribute.startswith("test_")]
    results = [_run(kind, name, test.removeprefix("test_"), getattr(contract(), test)) for test in tests]
    ended = _run(kind, name, "can be closed", contract.teardown_class)
    return [*results, *([ended] if ended.outcome == "failed" else [])]


def _run(kind: Kind, name: str, test: str, call: Callable[[], None]) -> CheckResult:
    check = test.replace("_", " ")
    try:
        call()
    except Skip as reason:
        return CheckResult(kind, name, check, "skipped", str(reason))
    except BaseException as error:  # whatever a stranger's code raises is a failed check
        pass_on(error)
        message = error.message if isinstance(error, FaceblurError) else str(error) or type(error).__name__
        if not isinstance(error, (FaceblurError, AssertionError)):
            message = f"{type(error).__name__}: {message}"
        return CheckResult(kind, name, check, "failed", " ".join(message.split()))
    return CheckResult(kind, name, check, "passed")
