"""Atomic files and folders, and digests: nothing this project writes is ever seen half-written.

Files mapped into memory: the pages that were touched count as the process's own until they are released.
"""

import ctypes
import errno
import fcntl
import hashlib
import json
import mmap
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import Brain2VideoError, NoSpace, NotAllowed

if TYPE_CHECKING:
    from numpy.typing import NDArray

WAIT_S = 0.2
"""Seconds between two looks at a lock that another process holds."""
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""Linux's names for "relative to the working folder" and "exchange"; see renameat2(2)."""


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(root: Path, paths: list[Path]) -> str:
    """Return one digest over files' names relative to `root`, sizes and contents, in sorted order."""
    rows = [(path.relative_to(root).as_posix(), path.stat().st_size, digest_file(path)) for path in sorted(set(paths))]
    return digest_json(rows)


def digest_folder(folder: Path) -> str:
    """Return one digest over every file below a folder."""
    return digest_files(folder, [path for path in folder.rglob("*") if path.is_file()])


def fsync_path(path: Path) -> None:
    """Flush a file or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that it is either absent, old, or complete: partial name, fsync, rename, fsync the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    fsync_path(path.parent)


def json_bytes(value: Any) -> bytes:
    """Return a JSON file's content: sorted keys, two spaces, a final newline, no NaN."""
    return f"{json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)}\n".encode()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically; see `json_bytes`."""
    write_bytes(path, json_bytes(value))


def read_json(path: Path) -> Any:
    """Read a JSON file, with or without the mark of its byte order in front."""
    return json.loads(path.read_text(encoding="utf-8-sig"))


@contextmanager
def staged_folder(target: Path, staging: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder that replaces `target` when the block ends well, and vanishes when it does not.

    It is built in `staging`, on the same filesystem; by default in a hidden sibling of `target`. Another process that
    builds there is waited for.
    """
    building = staging or target.with_name(f".{target.name}.staging")
    with disk_explained(target), one_at_a_time(building.with_name(f"{building.name}.lock")):
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        try:
            yield building
            publish_folder(building, target)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def publish_folder(building: Path, target: Path) -> None:
    """Move a finished folder to its place; what was there before is removed only after the new one is in place.

    Where the system can exchange two folders in one step, one of the two is there at every moment.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    old = building.with_name(f"{building.name}.old")
    remove_folder(old)
    if not target.exists():
        building.rename(target)
    elif _exchange(building, target):
        building.rename(old)
    else:
        target.rename(old)
        building.rename(target)
    fsync_path(target.parent)
    remove_folder(old)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all it holds, or only the link where it is one; nothing where it is absent."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def exclusive(path: Path, busy: Exception) -> Iterator[None]:
    """Hold a lock for the length of a ``with`` block; raise `busy` at once where another process holds it.

    The path is a folder that is there, or a file that comes and goes with the lock. The lock ends with the process that
    holds it, however that ends. On a filesystem without locks nothing is held.
    """
    handle = _lock(path, busy)
    try:
        yield
    finally:
        if not path.is_dir():
            path.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def one_at_a_time(path: Path, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock as `exclusive` does, but wait for another process or thread that holds it.

    Parameters
    ----------
    path : a file that comes and goes with the lock
    waits : called once where there is something to wait for
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as lock:
        try:
            lock.enter_context(exclusive(path, _Busy()))
        except _Busy:
            waits()
            while True:
                with suppress(_Busy):
                    lock.enter_context(exclusive(path, _Busy()))
                    break
                time.sleep(WAIT_S)
        yield


class _Busy(Exception):
    """Another process or thread holds a lock."""


def _lock(path: Path, busy: Exception) -> int:
    while True:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise busy from None
        except OSError:
            return handle
        # The process that held the lock before may have removed the file between the opening and the locking.
        if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:
            return handle
        os.close(handle)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders atomically; False where the system or the filesystem cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0)


def point_link(link: Path, target: Path) -> None:
    """Point a relative symbolic link at a sibling, atomically."""
    partial = link.with_name(f".{link.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(os.path.relpath(target, link.parent))
    partial.replace(link)


def require_space(folder: Path, needed: int) -> None:
    """Raise `NoSpace` before a write of `needed` bytes that the disk cannot hold."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise NoSpace(
            f"{folder}: {needed / 1e6:,.0f} MB are to be written and {free / 1e6:,.0f} MB are free; "
            "make room or choose another folder"
        )


@contextmanager
def disk_explained(folder: Path) -> Iterator[None]:
    """Turn the system's error about a full disk or a protected file into `NoSpace` or `NotAllowed`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, Brain2VideoError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{folder}: the disk is full; nothing was published; make room and run again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"the system refuses ({os.strerror(error.errno)})"
            where = error.filename or folder
            raise NotAllowed(f"{where}: {reason}; change its permissions, or choose another folder") from error
        raise


def release_pages(values: "NDArray[Any]") -> None:
    """Take a mapped file's pages out of the process's memory; touched again, they come from the file again.

    Nothing is lost: an array that is not mapped, or that may be written to, is left alone, and so is everything where
    the system cannot do it.
    """
    owner: Any = values
    while hasattr(owner, "flags"):  # an array is a view of its base
        owner = owner.base
    if isinstance(owner, mmap.mmap) and not values.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)
