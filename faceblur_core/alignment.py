"""Faces as recognisers take them: 112 x 112 pixels in ArcFace's alignment (Deng et al., CVPR 2019)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faceblur_core.errors import FaceblurError
from faceblur_core.types import Floats, Image

SIDE = 112  #: pixels
#: Where ArcFace's alignment puts the eyes, the nose and the corners of the mouth.
TEMPLATE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])


def fit(landmarks: Floats) -> NDArray[np.float64]:
    """Return the 2 x 3 matrix of the similarity that brings landmarks (5 x 2 pixels) nearest to the template.

    :raises FaceblurError: if the landmarks lie in one point
    """
    from skimage.transform import SimilarityTransform

    fitted = SimilarityTransform.from_estimate(landmarks.astype(np.float64), TEMPLATE)
    if not fitted:
        raise FaceblurError("landmarks in one point cannot be aligned")
    return np.asarray(fitted.params[:2], np.float64)


def align(image: Image, landmarks: Floats) -> Image:
    """Return the face with these landmarks (5 x 2 pixels), 112 x 112 x 3. :raises FaceblurError: as :func:`fit`"""
    import cv2

    matrix = fit(landmarks)
    return np.asarray(cv2.warpAffine(np.ascontiguousarray(image), matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR), np.uint8)
