"""Brings objects of a bucket into a folder: listed, then fetched in parallel, each file complete and checked or absent.

A file under way is ``.NAME.ETAG.partial`` beside its place. Whatever ends a download, the next one goes on from the
bytes that are there, and a name that does not end in ``.partial`` is always a complete file.
"""

import os
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import BinaryIO

from core.errors import Brain2VideoError, DownloadError, NoSpace
from core.files import disk_explained, exclusive, fsync_path, require_space
from core.progress import report, track
from feature_store.bucket import Bucket, ObjectChanged, RemoteObject, Unreachable, etag_of

ATTEMPTS = 5
"""How often a file is tried without a byte gained before the download is given up."""
BACKOFF_S = 0.5
"""Seconds before going on after a break; doubled with each attempt that gained nothing."""
LOOK_S = 0.5
"""Seconds between two reports."""
MB = 10**6


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a remote folder.

    Attributes
    ----------
    folder : str
        Below the bucket's prefix; "" is the top.
    names : tuple of str
        Patterns of file names, each of which must be there; none means everything below.
    """

    folder: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bill:
    """What a download comes to; sizes in bytes.

    Attributes
    ----------
    wanted : all objects
    missing : those of them that are not complete in the folder
    there : int
        What the folder holds already, files under way included.
    free : int
        Room on the folder's disk.
    """

    wanted: tuple[RemoteObject, ...]
    missing: tuple[RemoteObject, ...]
    there: int
    free: int

    @property
    def size(self) -> int:
        """Return the size of everything that is wanted."""
        return sum(item.size for item in self.wanted)

    @property
    def to_fetch(self) -> int:
        """Return the size of what is still to be fetched."""
        return self.size - self.there


def find(bucket: Bucket, wanted: Sequence[Wanted], *, jobs: int = 8) -> list[RemoteObject]:
    """Return the objects that are wanted, sorted by key and each once.

    Raises
    ------
    DownloadError
        A folder lacks what is wanted of it, or cannot be listed.
    """
    found: dict[str, RemoteObject] = {}
    with ThreadPoolExecutor(jobs) as pool:
        listings = pool.map(lambda one: bucket.list_folder(one.folder, deep=not one.names), wanted)
        for one, objects in zip(wanted, track(listings, "listing", len(wanted)), strict=True):
            found.update((item.key, item) for item in _chosen(bucket, one, objects))
    return [found[key] for key in sorted(found)]


def _chosen(bucket: Bucket, wanted: Wanted, objects: list[RemoteObject]) -> list[RemoteObject]:
    names = [item.key.rpartition("/")[2] for item in objects]
    absent = [pattern for pattern in wanted.names if not any(fnmatchcase(name, pattern) for name in names)]
    if absent or not objects:
        lacking = f"no {absent[0]}" if absent else "nothing"
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise DownloadError(
            f"{bucket.url(wanted.folder)}: {lacking}{more} among {len(objects)} files there; "
            "check the subjects and regions asked for, and the endpoint"
        )
    patterns = wanted.names or ("*",)
    named = zip(objects, names, strict=True)
    return [item for item, name in named if any(fnmatchcase(name, pattern) for pattern in patterns)]


class Download:
    """Brings objects of a bucket into a folder.

    Parameters
    ----------
    bucket : Bucket
    folder : Path
        Receives the tree below the bucket's prefix; nothing is written outside it.
    jobs : int
        How many files are fetched at once.
    """

    def __init__(self, bucket: Bucket, folder: Path, *, jobs: int = 8) -> None:
        self.bucket, self.folder, self.jobs = bucket, folder, jobs
        self._fetched = 0
        self._counting, self._stop = threading.Lock(), threading.Event()

    def bill(self, objects: Sequence[RemoteObject], *, check: bool = False) -> Bill:
        """Return what fetching these objects comes to; nothing is written.

        Parameters
        ----------
        objects : what `find` returned
        check : bool
            Whether files of the right size are hashed as well; otherwise their size suffices.
        """
        seen = track(objects, "checking files") if check else iter(objects)
        with _told_of(self.folder):
            missing = tuple(item for item in seen if not self._is_there(item, check=check))
            lacking = sum(item.size - _begun(self.folder / item.key, item) for item in missing)
            there = sum(item.size for item in objects) - lacking
            return Bill(tuple(objects), missing, there, _free(self.folder))

    def _is_there(self, item: RemoteObject, *, check: bool) -> bool:
        path = self.folder / item.key
        return path.is_file() and path.stat().st_size == item.size and not (check and self._differs(path, item))

    def fetch(self, bill: Bill, *, again: str = "run again: it goes on from what is there") -> None:
        """Fetch what is missing; what was begun is continued, and partial files of older versions are removed.

        Parameters
        ----------
        bill : Bill
        again : str
            What to do after a failure; ends its message.

        Raises
        ------
        NoSpace
            The disk has too little room; nothing was fetched.
        DownloadError
            Files are still missing, or another download is writing into the folder.
        """
        with _told_of(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            # Two downloads that append to one partial file would spoil it.
            busy = DownloadError(f"{self.folder}: another download is writing here; wait for it, or end it")
            with exclusive(self.folder, busy):
                missing = set(bill.missing)
                for item in bill.wanted:
                    _sweep(self.folder / item.key, item if item in missing else None)
                require_space(self.folder, bill.to_fetch)
                lacking, reason = self._fetch_all(bill)
        if reason is not None:
            told = f"{lacking} of {len(bill.wanted)} files are missing"
            raise DownloadError(f"{self.folder}: {told} ({_told(reason)}); {again}") from reason

    def _fetch_all(self, bill: Bill) -> tuple[int, BaseException | None]:
        """Return how many files are still missing, and why the first of them is."""
        self._stop.clear()
        self._fetched = 0
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(self._bring, item) for item in bill.missing]
            try:
                self._watch(futures, bill.to_fetch)
            finally:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                for item in bill.missing:
                    _drop_empty(self.folder / item.key, item)
        ended = [future.exception() for future in futures if not future.cancelled()]
        failures = [error for error in ended if error is not None and not isinstance(error, _Stopped)]
        unforeseen = [error for error in failures if not isinstance(error, Brain2VideoError | OSError)]
        if unforeseen:
            raise unforeseen[0]
        first = next((error for error in failures if _ends_all(error)), failures[0] if failures else None)
        return len(futures) - ended.count(None), first

    def _watch(self, futures: Sequence["Future[None]"], size: int) -> None:
        """Report until all is fetched, or something failed that would fail for the other files as well."""
        total, waiting = max(1, -(-size // MB)), set(futures)
        while waiting:
            report("megabytes fetched", min(self._fetched // MB, total - 1), total)
            done, waiting = wait(waiting, LOOK_S, FIRST_EXCEPTION)
            if any(_ends_all(future.exception()) for future in done):
                return
        if not any(future.exception() for future in futures):
            report("megabytes fetched" if futures else "every file is there", total, total)

    def _bring(self, item: RemoteObject) -> None:
        """Bring one file to its place: a broken stream is continued, a changed or damaged object begun afresh."""
        path, patience = self.folder / item.key, ATTEMPTS
        with disk_explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                before = _begun(path, item)
                try:
                    return self._complete(item, path)
                except Unreachable:
                    patience = ATTEMPTS if _begun(path, item) > before else patience - 1
                    if not patience:
                        raise
                except ObjectChanged:
                    patience -= 1
                    if not patience:
                        raise
                    partial_of(path, item).unlink(missing_ok=True)
                    item = self.bucket.look(item.key)
                if self._stop.wait(BACKOFF_S * 2 ** (ATTEMPTS - patience)):
                    raise _Stopped

    def _complete(self, item: RemoteObject, path: Path) -> None:
        """Append what a partial file lacks, check it, and give it its name."""
        partial = partial_of(path, item)
        _drop_empty(path, item)  # also one that is longer than the object
        with partial.open("ab") as file:
            if file.tell() < item.size:
                self._append(file, item)
            file.flush()
            os.fsync(file.fileno())
        if fault := self._differs(partial, item):
            raise ObjectChanged(f"{self.bucket.url(item.key)}: {fault}")
        partial.replace(path)
        fsync_path(path.parent)

    def _append(self, file: BinaryIO, item: RemoteObject) -> None:
        for piece in self.bucket.read(item, file.tell()):
            if self._stop.is_set():
                raise _Stopped
            file.write(piece)
            with self._counting:
                self._fetched += len(piece)

    def _differs(self, path: Path, item: RemoteObject) -> str | None:
        """Return what is wrong with a file of an object, or None.

        An object that was uploaded in parts is hashed in parts of that size, where the service tells it.
        """
        size = path.stat().st_size
        if size != item.size:
            return f"{size:,} bytes came, expected {item.size:,}"
        part = self.bucket.part_size(item) if "-" in item.etag else None
        if "-" in item.etag and part is None:
            return None
        found = etag_of(path, part)
        return None if found == item.etag else f"what came has the digest {found}, expected {item.etag}"


class _Stopped(Exception):
    """Another file failed, or the user ended the download."""


def partial_of(path: Path, item: RemoteObject) -> Path:
    """Return where a file is kept until it is complete; another version of the object has another."""
    return path.with_name(f".{path.name}.{re.sub(r'[^0-9A-Za-z-]', '_', item.etag)}.partial")


def _begun(path: Path, item: RemoteObject) -> int:
    """Return how many bytes of a file's partial are there to go on from; none where it is longer than the object."""
    partial = partial_of(path, item)
    size = partial.stat().st_size if partial.is_file() else 0
    return size if size <= item.size else 0


def _drop_empty(path: Path, item: RemoteObject) -> None:
    """Remove a file's partial that holds nothing to go on from."""
    partial = partial_of(path, item)
    if partial.is_file() and not _begun(path, item):
        partial.unlink()


def _sweep(path: Path, item: RemoteObject | None) -> None:
    """Remove the partial files of a path, except that of `item`."""
    kept = partial_of(path, item) if item else None
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9A-Za-z_-]+\.partial")
    for partial in path.parent.glob(f".{escape(path.name)}.*.partial"):
        if partial != kept and ours.fullmatch(partial.name):
            partial.unlink()


def _free(folder: Path) -> int:
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free


def _ends_all(error: BaseException | None) -> bool:
    """Return whether a failure is of more than one file: no network, no room, or a fault of the program."""
    return error is not None and (
        isinstance(error, Unreachable | NoSpace) or not isinstance(error, Brain2VideoError | OSError)
    )


def _told(error: BaseException) -> str:
    """Return a failure in a few words."""
    if isinstance(error, NoSpace):
        return "the disk is full; make room"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename2 or error.filename}: {error.strerror}"
    return str(error)


@contextmanager
def _told_of(folder: Path) -> Iterator[None]:
    """Turn what the system says of a folder into one line."""
    try:
        yield
    except OSError as error:
        if isinstance(error, Brain2VideoError):
            raise
        raise DownloadError(f"{folder}: cannot be written to ({_told(error)}); mend it or choose another") from error
