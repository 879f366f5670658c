"""Turns clips and captions into what a brain's response is regressed on: pixels, latents, conditioning states.

The settings (`models.extractors.settings`) import no torch; an extractor is loaded by its settings' `build`.
"""
