"""``python -m faceblur_core`` is the command ``faceblur``."""

from faceblur_core.cli import main

main()
