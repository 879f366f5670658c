"""Where pretrained weights lie, how they are fetched, loaded, saved and spilled to disk."""
