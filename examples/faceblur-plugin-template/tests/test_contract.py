"""The contract tests of faceblur on both components, with a real photo for the detector."""

from skimage import data

from faceblur_core.testing import DetectorContract, ObfuscatorContract


class TestCat(DetectorContract):
    name = "cat"
    photo = data.chelsea()


class TestStripes(ObfuscatorContract):
    name = "stripes"
