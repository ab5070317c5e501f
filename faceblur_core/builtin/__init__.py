"""What ships with the core, registered through the same hooks as everybody else's."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core.hookspecs import Component, hookimpl

_OBFUSCATORS = "faceblur_core.builtin.obfuscators"
_REVERSIBLE = "For comparison only: it can be reversed."


@hookimpl
def faceblur_obfuscators() -> Iterable[Component]:
    def row(name: str, cls: str, summary: str) -> Component:
        return Component(name=name, summary=summary, factory=f"{_OBFUSCATORS}:{cls}")

    return [
        row("blur", "Blur", "Smooth blur of a few mean cells: what it can leak is bounded by them (the default)"),
        row("pixelate", "Pixelate", "Mosaic of a few mean cells, with the same bound"),
        row("solid", "Solid", "One flat colour: nothing of the face is left"),
        row("inpaint", "Inpaint", "Filled in from the surroundings (OpenCV, Telea or Navier-Stokes)"),
        row("gaussian", "Gaussian", f"Gaussian blur. {_REVERSIBLE}"),
        row("median", "Median", f"Median filter. {_REVERSIBLE}"),
        row("bilateral", "Bilateral", f"Bilateral filter, which keeps edges. {_REVERSIBLE}"),
        row("box", "Box", f"Box (mean) filter. {_REVERSIBLE}"),
    ]


@hookimpl
def faceblur_metrics() -> Iterable[Component]:
    def row(name: str, cls: str, summary: str, module: str = "faceblur_core.builtin.metrics") -> Component:
        return Component(name=name, summary=summary, factory=f"{module}:{cls}")

    more, over_time = "faceblur_core.compare.metrics", "faceblur_core.compare.motion"
    return [
        row("coverage", "Coverage", "Share of a face's true ellipse that the method's mask hides"),
        row("image-missed", "ImageMissed", "Images with at least one face that is covered by less than a half"),
        row("still-detected", "StillDetected", "Faces that another detector finds in the anonymized image", more),
        row("psnr-outside", "PsnrOutside", "PSNR outside the faces"),
        row("psnr-outside-128", "PsnrOutside128", "The same on images reduced to 128 pixels"),
        row("ssim-outside", "SsimOutside", "SSIM outside the faces"),
        row("ssim-outside-128", "SsimOutside128", "The same on images reduced to 128 pixels"),
        row("over-blur", "OverBlur", "Share of what is no face that the mask covers"),
        row("touched", "Touched", "Images without a face in which something is hidden"),
        row("fidelity-mse", "Fidelity", "Mean squared error to the blurred target, 128 pixels", more),
        row("fidelity-mae", "FidelityMae", "Mean absolute error to the blurred target, 128 pixels", more),
        row("fidelity-ssim", "FidelitySsim", "SSIM to the blurred target, 128 pixels", more),
        row("fidelity-psnr", "FidelityPsnr", "PSNR to the blurred target, 128 pixels", more),
        row("recall", "Recall", "Faces that the method's own detector finds"),
        row("precision", "Precision", "Detections that are faces"),
        row("ap50", "Ap50", "Average precision of the method's own detector at an IoU of 0.5"),
        row("gap-frames", "GapFrames", "Faces of a clip that are open in a picture, and hidden before and after", over_time),
        row("jitter", "Jitter", "How much what is hidden trembles about a moving face", over_time),
    ]


@hookimpl
def faceblur_backends() -> Iterable[Component]:
    yield Component(
        name="mcu",
        summary="Full-int8 .tflite files as the C that export-mcu writes, compiled for this machine",
        factory="faceblur_core.mcu.backend:Mcu",
        licence="MIT AND Apache-2.0",
    )


@hookimpl
def faceblur_commands() -> Iterable[Component]:
    yield Component(name="run", summary="Anonymize photos and videos, and folders of them", factory="faceblur_core.cli.run:run")
    yield Component(name="cam", summary="Show the webcam with faces hidden", factory="faceblur_core.cli.cam:cam")
    yield Component(name="methods", summary="List methods and their options", factory="faceblur_core.cli.methods:methods")
    yield Component(name="plugins", summary="List and check plugins", factory="faceblur_core.cli.plugins:plugins")
    yield Component(
        name="dataset", summary="Make, label and check data sets for training", factory="faceblur_core.cli.dataset:dataset"
    )
    yield Component(name="train", summary="Train networks", factory="faceblur_core.cli.train:train")
    yield Component(
        name="quantize",
        summary="Turn a method's network into int8 for small devices",
        factory="faceblur_core.cli.quantize:quantize",
        licence="MIT AND Apache-2.0",
    )
    yield Component(
        name="export-mcu",
        summary="Turn a method's network into C for a microcontroller, and check it on a simulated board",
        factory="faceblur_core.cli.export_mcu:export_mcu",
        licence="MIT AND Apache-2.0",
    )
    yield Component(name="testset", summary="Make, list and verify test sets", factory="faceblur_core.cli.testset:testset")
    yield Component(name="compare", summary="Compare methods on a shared test set", factory="faceblur_core.cli.compare:compare")
    yield Component(
        name="assess", summary="Tell how blurred faces are, without their originals", factory="faceblur_core.cli.assess:assess"
    )
    yield Component(name="verify", summary="Look for faces that are left in outputs", factory="faceblur_core.cli.verify:verify")
