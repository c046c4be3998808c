"""From a checkpoint to people: images from the prior, a web service, exports.

`python -m serving.generate`, `python -m serving.app` and `python -m serving.export` each take a
checkpoint by any reference that `serving.model.references` knows.
"""
