"""Write the model card of faceblur-inpaint from its training run and published results.

Usage: python benchmarks/mask_card.py [RUN] takes config.yaml, log.csv, run.json and curves from RUN (runs/train/mask-unet)
into plugins/faceblur-inpaint/cards/mask-unet, then writes cards/mask-unet.md; without RUN only the page is made anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cards import FIGURES, SLICED, facts_and_config, facts_of, pictures, published, take_run
from tables import rows_of, table

ROOT = Path(__file__).parents[1]
PLUGIN, RESULTS = ROOT / "plugins/faceblur-inpaint", ROOT / "results"
CARDS = PLUGIN / "cards"
NAME = "mask-unet"
CURVES = ("loss", "iou", "dice", "precision", "recall")
KINDS = ("val_iou", "val_dice", "val_precision", "val_recall")
METHODS = ("mask-unet+inpaint", "mask-unet+solid", "mask-unet+blur", "yunet+inpaint")
ATTACKS = tuple((name, f"reidentified-{name}", "rank-1", 1, ".3f") for name in ("naive", "parrot", "restoration"))

PAGE = """# mask-unet

A U-Net that marks the pixels of faces: {parameters:,} parameters, {channels} in, 256 x 256.

Made by `benchmarks/mask_card.py` from the training run in [`{name}/`]({name}/) and the tables in `results/`.

| | |
|---|---|
| files | {files} |
| input, output | 256 x 256 x {depth} in 0..1, black bars make a photo square; the probability of a face for each pixel |
| data | `faceblur dataset build masks256`: {train:,} pictures to train, {val:,} to validate; manifest `{manifest}` |
| truth | pixel masks for CelebA-HQ where there are any; ellipses, from boxes or key points, for all other faces |
| training | [config]({name}/config.yaml), seed {seed}, {epochs} epochs, {half} of them at half the side; [log]({name}/log.csv) |
| machine | {machine} |

## Training

{epochs} epochs in {hours:.1f} hours; the best is epoch {best:.0f}.

{curves}

## Validation

Means over the {val:,} validation pictures at 0.5; a picture without a face in which nothing is marked counts 1.

{validated}

## Where to cut

`python benchmarks/mask_rules.py` on the validation pictures: the mean IoU to the pixel masks of {iou} held-back CelebA-HQ
pictures, the share of {coverage} faces of at least a tenth of the picture that are covered by 0.95, and the share of {touched}
face-free pictures with a mask over 1 % of them. `floored` is the default rule, with the options of `faceblur methods mask-unet`;
`histogram` is the rule of the project that this one follows, and marks something in every picture.

{rules}

## On the test sets

`faceblur compare inpaint`, then `python benchmarks/publish.py RUN MACHINE inpaint-`. Figures are `value [low, high]`, 95 %
intervals; definitions: docs/metrics.md. naive, parrot and restoration are attacks: the share of
photos whose person each still names.

{compared}
## Per category

{sliced}
## Limits

- What the network does not see in 256 pixels it does not mark: faces below about a twentieth of the longer side.
  `--set tile=1000` runs it on tiles.
- The truth of most training pictures is an ellipse. Outlines are those of an ellipse where the photo has no edge.
- A filled-in face is gone from the picture, but that somebody was there can be seen.
- A share of faces with a cosine below 0.4 is a figure of one face recogniser (MobileFaceNet), not a proof.

## Licence

Code and weights: MIT. The weights were trained on photos whose owners allow research use only (WIDER FACE, CelebA-HQ,
YouTube Faces, Helen, AFW, UTKFace): whether weights made from them may be used commercially is for you to decide.
"""


def page() -> str:
    run, config = facts_and_config(CARDS / NAME)
    rules = rows_of(max(RESULTS.glob("mask-rules-*.csv")))
    sizes = {path.name: path.stat().st_size for path in sorted((PLUGIN / "src/faceblur_inpaint/weights").iterdir())}
    shown = [key for key in rules[0] if not key.startswith("n ")]
    names = [key.removeprefix("coverage ") + (" faces" if "coverage " in key else "") for key in shown]
    renamed = [dict(zip(names, (f"`{row[shown[0]]}`", *(row[key] for key in shown[1:])), strict=True)) for row in rules]
    return PAGE.format(
        name=NAME,
        **facts_of(run),
        channels="grey" if config["channels"] == 1 else "RGB",
        depth=config["channels"],
        files=", ".join(f"`{file}` ({size:,} bytes)" for file, size in sizes.items()),
        manifest=run["data"]["manifest_sha256"][:12],
        half=config["half_size_epochs"],
        curves=pictures(NAME, CURVES),
        validated=table([{kind: f"{run['best'][kind]:.3f}" for kind in KINDS}], KINDS),
        **{key: rules[0][f"n {key}"] for key in ("iou", "coverage", "touched")},
        rules=table(renamed, names),
        compared=published(("inpaint-",), METHODS, (*FIGURES, *ATTACKS)),
        sliced=published(("inpaint-",), METHODS[:1], SLICED, sliced=True),
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        take_run(Path(sys.argv[1]), CARDS, NAME, CURVES)
    (CARDS / f"{NAME}.md").write_text(page())
