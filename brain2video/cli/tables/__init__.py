"""Tables of what commands did, drawn with rich."""
