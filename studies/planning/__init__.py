"""What a study takes: bytes, files, memory."""
