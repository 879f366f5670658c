"""Renders videos from predicted latents and captions."""
