"""Published models that clips are judged by: classifiers of frames and of videos, and CLIP for frames and captions.

The settings (`models.classifiers.settings`) import no torch; a model is loaded by its `build`.
"""
