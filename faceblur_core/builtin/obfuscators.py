"""The classical ways to hide a region. Sizes are shares of the region's longer side, so that strength follows the face.

The region is what the mask marks: a face's box, grown and feathered (``mask.grow``, ``mask.feather``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from faceblur_core.errors import UsageMistake
from faceblur_core.types import Image, Mask, option

Share = Annotated[float, Gt(0), Le(1)]


@dataclass(frozen=True)
class Blur:
    """A region is reduced to mean cells and smoothly enlarged again: it looks blurred and keeps only the means."""

    cells: Annotated[int, Ge(1), Le(64)] = option(4, "mean cells along the region's longer side; fewer hide more")

    def __call__(self, image: Image, mask: Mask) -> Image:
        from faceblur_core.builtin import filters

        return filters.hide(image, mask, lambda crop, _: filters.enlarge(filters.cell_means(crop, self.cells), crop, smooth=True))


@dataclass(frozen=True)
class Pixelate:
    """A region is reduced to mean cells and enlarged again as blocks."""

    cells: Annotated[int, Ge(1), Le(64)] = option(4, "mean cells along the region's longer side; fewer hide more")

    def __call__(self, image: Image, mask: Mask) -> Image:
        from faceblur_core.builtin import filters

        return filters.hide(
            image, mask, lambda crop, _: filters.enlarge(filters.cell_means(crop, self.cells), crop, smooth=False)
        )


@dataclass(frozen=True)
class Solid:
    """A region becomes one colour."""

    color: str = option("#000000", "red, green and blue as #rrggbb")

    def __post_init__(self) -> None:
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", self.color):
            raise UsageMistake(f"obfuscator.color={self.color!r} is not of the form #rrggbb, such as #808080")

    def __call__(self, image: Image, mask: Mask) -> Image:
        from faceblur_core.builtin import filters

        rgb = np.frombuffer(bytes.fromhex(self.color[1:]), np.uint8)
        return filters.hide(image, mask, lambda crop, _: np.broadcast_to(rgb, crop.shape))


@dataclass(frozen=True)
class Inpaint:
    """A region is filled in from its surroundings, by Telea (2004) or by Navier-Stokes (Bertalmio et al., 2001)."""

    method: Literal["telea", "ns"] = option("telea", "the algorithm")
    radius: Annotated[float, Ge(1), Le(100)] = option(10.0, "how far around a missing pixel it looks, pixels")
    limit: Annotated[int, Ge(16)] = option(256, "longer side in pixels to which larger regions are reduced for it")

    def __call__(self, image: Image, mask: Mask) -> Image:
        from faceblur_core.builtin import filters

        def change(crop: Image, hole: Mask) -> Image:
            return filters.inpaint(crop, hole, self.method, self.radius, self.limit)

        return filters.hide(image, mask, change, margin=0.25)


@dataclass(frozen=True)
class Gaussian:
    """Gaussian blur. Can be reversed (deconvolution, trained networks): for comparison, not for protection."""

    sigma: Share = option(0.1, "standard deviation as a share of the region's longer side")

    def __call__(self, image: Image, mask: Mask) -> Image:
        from faceblur_core.builtin import filters

        return filters.hide(image, mask, lambda crop, _: filters.gaussian(crop, self.sigma))


@dataclass(frozen=True)
class Median:
    """Median filter. Can be reversed in part: for comparison, not for protection."""

    kernel: Share = option(0.2, "side of the kernel as a share of the region's longer side")

    def __call__(self, image: Image, mask: Mask) -> Image:
        from faceblur_core.builtin import filters

        return filters.hide(image, mask, lambda crop, _: filters.median(crop, self.kernel))


@dataclass(frozen=True)
class Bilateral:
    """Bilateral filter: smooths, keeps edges. Keeps much of a face: for comparison, not for protection."""

    diameter: Share = option(0.1, "diameter of the kernel as a share of the region's longer side")
    sigma_color: Annotated[float, Gt(0)] = option(75.0, "how different colours may be that are mixed, levels of 0..255")

    def __call__(self, image: Image, mask: Mask) -> Image:
        from faceblur_core.builtin import filters

        return filters.hide(image, mask, lambda crop, _: filters.bilateral(crop, self.diameter, self.sigma_color))


@dataclass(frozen=True)
class Box:
    """Box (mean) filter. Can be reversed (deconvolution): for comparison, not for protection."""

    kernel: Share = option(0.2, "side of the kernel as a share of the region's longer side")

    def __call__(self, image: Image, mask: Mask) -> Image:
        from faceblur_core.builtin import filters

        return filters.hide(image, mask, lambda crop, _: filters.box(crop, self.kernel))
