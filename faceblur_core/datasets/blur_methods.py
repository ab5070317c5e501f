"""The ways in which ``faceblur dataset blur`` blurs a face: drawn from ranges, strengths relative to the face's height."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
from annotated_types import Ge, Gt, Le

from faceblur_core.datasets.blur_kernels import blurred, disc_kernel, draw_shake, line_kernel, path_kernel, shake_path
from faceblur_core.errors import UnknownName, UsageMistake
from faceblur_core.options import made
from faceblur_core.plugins import installed_plugins
from faceblur_core.types import Image, Mask, Obfuscator, option

Weight = Annotated[float, Ge(0), Le(1e6)]
Positive = Annotated[float, Gt(0), Le(10)]
Parameters = dict[str, float]


class BlurMethod(Protocol):
    """A kind of blur."""

    weight: float
    in_mask: bool  #: it hides what a mask marks and leaves the rest alone

    def draw(self, rng: np.random.Generator) -> Parameters:
        """Return the parameters of one blur."""
        ...

    def apply(self, image: Image, mask: Mask, height: float, parameters: Parameters, rng: np.random.Generator) -> Image:
        """Return an image, H x W x 3, blurred.

        :param height: of the face, pixels
        :param rng: for what the parameters do not say
        """
        ...


def drawn(limits: list[Any], rng: np.random.Generator, *, log: bool = False) -> float:
    """Return a number between two limits: uniform, or its logarithm is; whole if both limits are."""
    low, high = limits
    if all(isinstance(limit, int) for limit in limits):
        return int(rng.integers(low, high + 1))
    value = math.exp(rng.uniform(math.log(low), math.log(high))) if log else rng.uniform(low, high)
    return round(float(value), 5)


@dataclass(frozen=True)
class CameraShake:
    """A shaken camera: a random trajectory as in DeblurGAN."""

    in_mask = False
    weight: Weight = option(1.0, "how often it is drawn, beside the others")
    length: list[Positive] = option([0.02, 2.0], "least and greatest length of the whole trajectory, in heights of the face")
    anxiety: list[Annotated[float, Ge(0), Le(1)]] = option([0.003, 0.005, 0.007, 0.008, 0.009, 0.01], "one of these: how jumpy")
    exposure: list[Annotated[float, Gt(0), Le(1)]] = option([0.1, 0.5, 1.0], "one of these: share of the trajectory that is seen")

    def draw(self, rng: np.random.Generator) -> Parameters:
        """Return length, anxiety and exposure."""
        return {
            "length": drawn(self.length, rng, log=True),
            "anxiety": float(rng.choice(self.anxiety)),
            "exposure": float(rng.choice(self.exposure)),
        }

    def apply(self, image: Image, mask: Mask, height: float, parameters: Parameters, rng: np.random.Generator) -> Image:
        """Return the image blurred; the trajectory's shape is drawn."""
        path = shake_path(draw_shake(parameters["anxiety"], rng), parameters["length"] * height, rng)
        return blurred(image, path_kernel(path[: max(2, round(parameters["exposure"] * len(path)))]))


@dataclass(frozen=True)
class Defocus:
    """A lens out of focus: a disc."""

    in_mask = False
    weight: Weight = option(1.0, "how often it is drawn, beside the others")
    radius: list[Positive] = option([0.004, 0.15], "least and greatest radius, in heights of the face")

    def draw(self, rng: np.random.Generator) -> Parameters:
        """Return the radius."""
        return {"radius": drawn(self.radius, rng, log=True)}

    def apply(self, image: Image, mask: Mask, height: float, parameters: Parameters, rng: np.random.Generator) -> Image:
        """Return the image blurred."""
        return blurred(image, disc_kernel(parameters["radius"] * height))


@dataclass(frozen=True)
class LinearMotion:
    """A straight motion at constant speed."""

    in_mask = False
    weight: Weight = option(1.0, "how often it is drawn, beside the others")
    length: list[Positive] = option([0.02, 0.8], "least and greatest length, in heights of the face")
    angle: list[Annotated[float, Ge(-360), Le(360)]] = option([0.0, 180.0], "least and greatest angle to the x axis, degrees")

    def draw(self, rng: np.random.Generator) -> Parameters:
        """Return length and angle."""
        return {"length": drawn(self.length, rng, log=True), "angle": drawn(self.angle, rng)}

    def apply(self, image: Image, mask: Mask, height: float, parameters: Parameters, rng: np.random.Generator) -> Image:
        """Return the image blurred."""
        return blurred(image, line_kernel(parameters["length"] * height, math.radians(parameters["angle"])))


@dataclass(frozen=True)
class Hidden:
    """An installed obfuscator, with options drawn between limits: what anonymized faces look like."""

    in_mask = True
    name: str = option(..., "of the obfuscator")
    weight: Weight = option(1.0, "how often it is drawn, beside the others")
    options: dict[str, list[int | float]] = option({}, "least and greatest value of its options; whole numbers stay whole")

    def draw(self, rng: np.random.Generator) -> Parameters:
        """Return the options."""
        return {name: drawn(limits, rng) for name, limits in self.options.items()}

    def apply(self, image: Image, mask: Mask, height: float, parameters: Parameters, rng: np.random.Generator) -> Image:
        """Return the image with what the mask marks hidden."""
        obfuscator: Obfuscator = installed_plugins().make("obfuscator", self.name, parameters)
        return obfuscator(image, mask)


OURS: Mapping[str, Any] = {"shake": CameraShake, "defocus": Defocus, "linear": LinearMotion}


def blur_methods(config: Mapping[str, Mapping[str, Any]], what: str) -> dict[str, BlurMethod]:
    """Return the methods of a config that have a weight, by name: ours, and obfuscators by theirs.

    :raises UsageMistake: if a name is unknown, an option does not fit, limits are not two that rise, or no weight is left
    """
    plugins = installed_plugins()
    found: dict[str, BlurMethod] = {}
    for name, options in config.items():
        if name in OURS:
            method: Any = made(OURS[name], options, f"{what}: blur {name}")
        elif name in plugins.names("obfuscator"):
            method = made(Hidden, {**options, "name": name}, f"{what}: blur {name}")
        else:
            raise UnknownName("blur", name, {*OURS, *plugins.names("obfuscator")})
        _check(method, f"{what}: blur {name}")
        if method.weight:
            found[name] = method
    if not found:
        raise UsageMistake(f"{what}: no blur has a weight, so there would be no picture")
    return found


def _check(method: Any, what: str) -> None:
    lists = {name: getattr(method, name) for name in ("length", "radius", "angle") if hasattr(method, name)}
    for name, limits in (method.options if isinstance(method, Hidden) else lists).items():
        if len(limits) != 2 or limits[0] > limits[1]:
            raise UsageMistake(f"{what}: {name} should be two numbers, the least and the greatest, not {limits}")
    if isinstance(method, Hidden):
        for end in (0, 1):  # a mistake shows now, not in the middle
            installed_plugins().make("obfuscator", method.name, {name: limits[end] for name, limits in method.options.items()})
    if any(not getattr(method, name, [1]) for name in ("anxiety", "exposure")):
        raise UsageMistake(f"{what}: anxiety and exposure need a value each")
