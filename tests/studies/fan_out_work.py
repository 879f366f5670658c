"""What workers do in tests of ingest: as in the study, but in small chunks, and one of them dies in the middle."""

import os
import signal
from pathlib import Path
from typing import Any

from feature_store import schema
from feature_store.chunks import ChunkFiles
from studies.runs import GroupRef
from studies.stores.responses import IngestionTask, _ingest_subject

CHUNK_BYTES = 1500


def ingest_subject(task: IngestionTask, subject: str) -> GroupRef:
    """Ingest in small chunks; every chunk that is written leaves a line."""
    schema.CHUNK_BYTES = CHUNK_BYTES
    write, log = ChunkFiles.write, task.root / "chunks.log"

    def logged(self: ChunkFiles, path: Path, encoded: Any) -> None:
        write(self, path, encoded)
        self.finish()
        with log.open("a") as lines:
            lines.write(f"{os.getpid()} {path.relative_to(path.parents[5])}\n")
        died = task.root / "died"
        if (task.root / "dies").exists() and not died.exists() and path.parts[-2] == "4":
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    ChunkFiles.write = logged  # type: ignore[method-assign]
    try:
        return _ingest_subject(task, subject)
    finally:
        ChunkFiles.write = write  # type: ignore[method-assign]
