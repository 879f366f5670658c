"""Chunks of arrays on disk: files, codecs, rows, cache."""
