"""Charts of scores, each returned as the bytes of a PNG."""
