"""Files in, anonymized files out: naming, workers, manifest, resume. What ``faceblur run`` is made of."""
