"""Face recognition: who is who, and, as the attacker, who can still be matched or found after anonymization."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core import Component, Weights, hookimpl

MOBILEFACENET = Weights(
    file="mobilefacenet.onnx",
    sha256=("b7120c095d60094f28a4a54ba6a8bf51b297a6273fb40ef6350dfec1f63d9507",),
    licence="Apache-2.0",
    size=3_998_070,
    url="https://raw.githubusercontent.com/foamliu/MobileFaceNet/a6cc9032a659b615f477833e1a70b5e7931bcccc/weights/MobileFaceNet.onnx",
)
SFACE = Weights(
    file="face_recognition_sface_2021dec.onnx",
    sha256=("0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",),
    licence="Apache-2.0",
    size=38_696_353,
    url="https://github.com/opencv/opencv_zoo/raw/47534e27c9851bb1128ccc0102f1145e27f23f98/"
    "models/face_recognition_sface/face_recognition_sface_2021dec.onnx",
)


@hookimpl
def faceblur_embedders() -> Iterable[Component]:
    yield Component(
        name="mobilefacenet",
        summary="MobileFaceNet trained with ArcFace, 4 MB (Chen et al., 2018)",
        factory="faceblur_identity.embedders:MobileFaceNet",
        licence="MIT",
        weights=(MOBILEFACENET,),
    )
    yield Component(
        name="sface",
        summary="SFace from the OpenCV zoo, 39 MB (Zhong et al., 2021)",
        factory="faceblur_identity.embedders:SFace",
        licence="MIT AND Apache-2.0",
        weights=(SFACE,),
    )
    yield Component(
        name="buffalo_l",
        summary="ArcFace's ResNet-50, if insightface is installed; its weights are for non-commercial research",
        factory="faceblur_identity.embedders:Buffalo",
        licence="MIT",
    )


@hookimpl
def faceblur_metrics() -> Iterable[Component]:
    def row(name: str, cls: str, summary: str) -> Component:
        return Component(
            name=name,
            summary=summary,
            factory=f"faceblur_identity.metrics:{cls}",
            licence="MIT",
            weights=(MOBILEFACENET,),
        )

    return [
        row("cosine", "Cosine", "Likeness of a face before and after, to a face recogniser"),
        row("reidentified-naive", "Naive", "People found again among their original photos"),
        row("reidentified-parrot", "Parrot", "People found again among photos that are anonymized in the same way"),
        row("reidentified-restoration", "Restoration", "People found again after a filter learned to undo the method"),
    ]
