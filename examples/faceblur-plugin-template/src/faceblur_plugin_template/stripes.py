"""An obfuscator: called with an image and a mask from 0 (keep) to 1 (hide), returning a new image."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from faceblur_core.types import Image, Mask, option


@dataclass
class Stripes:
    """Covers what the mask marks with diagonal stripes; nothing under a mask of 1 is left."""

    width: Annotated[int, Ge(1)] = option(8, "width of a stripe, pixels")

    def __call__(self, image: Image, mask: Mask) -> Image:
        y, x = np.indices(mask.shape)
        stripes = np.where((x + y) // self.width % 2, 255.0, 0.0)[..., None]
        blended = image + (stripes - image) * mask[..., None]  # a mask of 0 leaves the pixel as it is, to the bit
        return np.rint(blended).astype(np.uint8)
