"""Renders videos from predicted latents and captions, and trains the small world's own models."""
