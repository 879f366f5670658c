"""Decoding from each ROI alone and without it."""
