"""Score a folder of videos; compare two runs."""
