"""Turns what is predicted of a caption into words: written by BLIP's text decoder, or a training stimulus's own.

The settings (`models.captioners.settings`) import no torch; a captioner that needs weights is loaded by its `build`.
"""
