"""What a study takes before it is started: bytes, files, chunks and memory."""
