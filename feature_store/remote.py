"""Downloads files of a public S3 bucket into a folder: in parallel, resumed, each file complete and checked or absent.

A file in progress is ``.NAME.ETAG.partial`` beside its place. Whatever ends a download, the next one continues from the
bytes that are there, and a name that does not end in ``.partial`` is always a complete file. No account is used.

This is the only module that imports s3fs and botocore. Their errors become one of three, by what can be done: try again
(`Unreachable`), look the object up again (`ObjectChanged`), or tell the user (`DownloadError`).
"""

import errno
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import filter as matching
from glob import escape
from itertools import chain
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from fsspec.asyn import sync
from s3fs import S3FileSystem
from s3fs.core import S3_RETRYABLE_ERRORS

from core.errors import Brain2VideoError, DownloadError, NoSpace
from core.files import exclusive, fsync_path, require_space
from core.progress import report, track

CHUNK = 1 << 20
"""The most bytes read at once: an interruption loses less than this."""
CONNECT_S, READ_S = 10, 30
"""Time-outs of a connection, and of a silence on it, in seconds."""
TRIES, ATTEMPTS = 3, 5
"""How often a request is tried, and a file without a byte gained, before the download is given up."""
BACKOFF_S, REPORT_S = 0.5, 0.5
"""Seconds to wait after a failure, doubled with each attempt that gained nothing; seconds between two reports."""
MB = 10**6


class Unreachable(DownloadError):
    """The service did not answer, or stopped in the middle: it may well answer later."""


class ObjectChanged(DownloadError):
    """The object is no longer the one that was listed, or cannot be continued from where it was left."""


@dataclass(frozen=True)
class RemoteObject:
    """An object of a bucket."""

    key: str  # its name below the bucket's prefix, which is also its path below the destination folder
    size: int  # in bytes
    etag: str  # the MD5 of its content, or, with a "-", the MD5 of the MD5s of its parts and their number


@dataclass(frozen=True)
class DownloadPlan:
    """What a download comes to; sizes in bytes."""

    objects: tuple[RemoteObject, ...]
    missing: tuple[RemoteObject, ...]  # those that are not complete in the folder
    present: int  # what the folder holds already, partial files included
    free: int  # room on the folder's disk

    @property
    def size(self) -> int:
        """Return the size of all objects."""
        return sum(item.size for item in self.objects)

    @property
    def to_fetch(self) -> int:
        """Return the size of what is still to be downloaded."""
        return self.size - self.present


class Bucket:
    """The objects of a public bucket below a prefix.

    Parameters
    ----------
    name, prefix, region : for example ``"openneuro.org"``, ``"ds005165/"`` and ``"us-east-1"``
    endpoint : URL of another service that speaks S3; by default ``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL`` or
        Amazon's
    jobs : how many requests may run at once
    """

    def __init__(self, name: str, prefix: str, *, region: str, endpoint: str | None = None, jobs: int = 8) -> None:
        self.name, self.prefix, self.jobs = name, prefix, jobs
        config = {
            "s3": {"addressing_style": "path"},  # a bucket with a dot in its name has no certificate as a host
            "retries": {"mode": "standard", "total_max_attempts": TRIES},
            "connect_timeout": CONNECT_S,
            "read_timeout": READ_S,
            "max_pool_connections": jobs,
        }
        service = {"endpoint_url": endpoint, "client_kwargs": {"region_name": region}, "config_kwargs": config}
        self._files: Any = S3FileSystem(anon=True, skip_instance_cache=True, **service)
        self._files.retries = 1  # botocore tries again already
        try:
            self._files.connect()
        except (BotoCoreError, ValueError) as error:
            raise DownloadError(f"{self.url()}: cannot be used ({error}); fix the endpoint or AWS_PROFILE") from error

    def url(self, key: str = "") -> str:
        """Return the name of an object, or of the whole, for messages."""
        return f"s3://{self.name}/{self.prefix}{key}"

    def find(self, wanted: Mapping[str, Sequence[str]]) -> list[RemoteObject]:
        """Return the objects of several folders, sorted by key.

        Parameters
        ----------
        wanted : for each folder below the prefix, patterns of file names, each of which has to match a file; no
            patterns means everything below the folder

        Raises
        ------
        DownloadError
            A folder lacks what is wanted of it, or cannot be listed.
        """
        objects: dict[str, RemoteObject] = {}
        with ThreadPoolExecutor(self.jobs) as pool:
            listings = pool.map(lambda folder: self.list_folder(folder, deep=not wanted[folder]), wanted)
            for folder, listing in zip(wanted, track(listings, "listing", len(wanted)), strict=True):
                named = {item.key.removeprefix(f"{folder}/"): item for item in listing}
                names = {pattern: matching(named, pattern) for pattern in wanted[folder] or ("*",)}
                if absent := [pattern for pattern in names if not names[pattern]]:
                    first = f"no {absent[0]}" if wanted[folder] else "nothing"
                    more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
                    raise DownloadError(
                        f"{self.url(folder)}: {first}{more} among {len(listing)} files there; "
                        "check the subjects and regions asked for, and the endpoint"
                    )
                objects |= {named[name].key: named[name] for name in chain(*names.values())}
        return [objects[key] for key in sorted(objects)]

    def list_folder(self, folder: str, *, deep: bool = False) -> list[RemoteObject]:
        """Return the objects of a folder, and of its subfolders if `deep`; raises as `find`."""
        request = {"Prefix": self.prefix + (f"{folder}/" if folder else ""), "Delimiter": "" if deep else "/"}
        entries: list[dict[str, Any]] = []
        while True:
            page = self._call("list_objects_v2", folder, **request)
            entries += [entry for entry in page.get("Contents", []) if not entry["Key"].endswith("/")]
            if not page.get("IsTruncated"):
                return [self._object(entry["Key"].removeprefix(self.prefix), entry["Size"], entry) for entry in entries]
            request["ContinuationToken"] = page["NextContinuationToken"]

    def stat(self, key: str) -> RemoteObject:
        """Return an object as it is now; raise `ObjectChanged` if it is gone."""
        head = self._call("head_object", key, Key=self.prefix + key)
        return self._object(key, head["ContentLength"], head)

    def read(self, item: RemoteObject, start: int = 0) -> Iterator[bytes]:
        """Yield an object's bytes from `start` on, in pieces of at most `CHUNK`.

        Raises `ObjectChanged` where it differs from the listed one or the service does not continue at `start`, and
        `Unreachable` where the connection broke; what was yielded before is sound.
        """
        place = {"Range": f"bytes={start}-"} if start else {}
        response = self._call("get_object", item.key, Key=self.prefix + item.key, IfMatch=f'"{item.etag}"', **place)
        body, loop = response["Body"], self._files.loop
        try:
            if start and not response.get("ContentRange", "").startswith(f"bytes {start}-"):
                raise ObjectChanged(f"{self.url(item.key)}: the service does not continue at byte {start}")
            with self._explained(item.key):
                while piece := sync(loop, body.read, CHUNK):
                    yield piece
        finally:
            loop.call_soon_threadsafe(body.close)

    def fault(self, path: Path, item: RemoteObject) -> str | None:
        """Return how a file differs from an object, or None; a digest of parts is checked if their size is known."""
        size, part = path.stat().st_size, 0
        if size != item.size:
            return f"has {size:,} bytes, expected {item.size:,}"
        if "-" in item.etag:
            try:
                head = self._call("head_object", item.key, Key=self.prefix + item.key, PartNumber=1)
            except DownloadError as error:  # not every service that speaks S3 knows parts
                if isinstance(error, Unreachable):
                    raise
                return None
            if not head.get("PartsCount"):
                return None
            part = int(head["ContentLength"])
        etag = etag_of(path, part)
        return None if etag == item.etag else f"has the digest {etag}, expected {item.etag}"

    def _object(self, key: str, size: int, facts: Mapping[str, Any]) -> RemoteObject:
        """Return an object whose key is a path inside whatever folder it is downloaded to."""
        if not key.isprintable() or "\\" in key or {"", ".", ".."} & {*key.split("/")}:
            raise DownloadError(
                f"{self.url()}: lists the key {key!r}, which is no path inside a folder; nothing was downloaded; "
                "check the endpoint and report it to those who run it"
            )
        return RemoteObject(key, size, facts["ETag"].strip('"'))

    def _call(self, method: str, key: str, **parameters: Any) -> dict[str, Any]:
        """Send one request about a key and return the answer."""
        with self._explained(key):
            return dict(self._files.call_s3(method, Bucket=self.name, **parameters))

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn the errors of s3fs into this module's; botocore's are the cause of those that the service sent."""
        try:
            yield
        except (BotoCoreError, OSError, *S3_RETRYABLE_ERRORS) as error:
            where = self.url(key)
            if isinstance(error.__cause__, ClientError):
                raise self._refusal(where, error.__cause__.response) from error
            words = " ".join(str(error).split()) or "time-out"
            reason = re.sub(r'\?[^\s"]*', "", words)  # without the query of a URL
            message = f"could not reach {where} ({reason}); check the network, a proxy and the endpoint"
            raise Unreachable(message) from error

    def _refusal(self, where: str, response: Mapping[str, Any]) -> DownloadError:
        code, status = response["Error"].get("Code", ""), response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchBucket":
            return DownloadError(f"{where}: no such bucket at {self._files.s3.meta.endpoint_url}; check the endpoint")
        if status in (401, 403):
            return DownloadError(f"{where}: access denied ({code}); the dataset is public, so check the endpoint")
        if status in (404, 412, 416):
            return ObjectChanged(f"{where}: is no longer what was listed ({code})")
        kind = Unreachable if status >= 500 or status == 429 else DownloadError
        return kind(f"{where}: the service answered {status} ({code}); try again later")


class Download:
    """Downloads objects of a bucket into a folder, as many at once as the bucket allows; writes nothing outside it."""

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self.bucket, self.folder = bucket, folder
        self._fetched = 0
        self._counting, self._stop = threading.Lock(), threading.Event()

    def plan(self, objects: Sequence[RemoteObject], *, check: bool = False) -> DownloadPlan:
        """Return what downloading these objects comes to; nothing is written. Files are hashed only if `check`."""
        with _disk_explained(self.folder):
            items = track(objects, "checking files") if check else objects
            missing = tuple(item for item in items if not self._is_complete(item, check=check))
            lacking = sum(item.size - _resumable(self.folder / item.key, item) for item in missing)
            existing = next(parent for parent in (self.folder, *self.folder.absolute().parents) if parent.exists())
            present = sum(item.size for item in objects) - lacking
            return DownloadPlan(tuple(objects), missing, present, shutil.disk_usage(existing).free)

    def _is_complete(self, item: RemoteObject, *, check: bool) -> bool:
        path = self.folder / item.key
        return path.is_file() and path.stat().st_size == item.size and not (check and self.bucket.fault(path, item))

    def fetch(self, plan: DownloadPlan, *, advice: str = "run again: it continues from what is there") -> None:
        """Download what is missing; partial files are continued, and those of older versions are removed.

        Raises
        ------
        NoSpace
            The disk has too little room; nothing was downloaded.
        DownloadError
            Files are still missing, or another download is writing into the folder; `advice` ends the message.
        """
        # Two downloads that append to one partial file would spoil it.
        busy = DownloadError(f"{self.folder}: another download is writing here; wait for it, or end it")
        with _disk_explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with exclusive(self.folder, busy):
                missing = set(plan.missing)
                for item in plan.objects:
                    _remove_partials(self.folder / item.key, item if item in missing else None)
                require_space(self.folder, plan.to_fetch)
                errors = self._fetch_missing(plan)
        if failures := [error for error in errors if not isinstance(error, CancelledError)]:
            failure = max(failures, key=lambda error: (not isinstance(error, Brain2VideoError), _ends_all(error)))
            if not isinstance(failure, Brain2VideoError):
                raise failure
            count = f"{len(errors)} of {len(plan.objects)} files are missing"
            raise DownloadError(f"{self.folder}: {count} ({failure}); {advice}") from failure

    def _fetch_missing(self, plan: DownloadPlan) -> list[BaseException]:
        """Return the errors of the files that are still missing; stop at one that other files would meet as well."""
        self._stop.clear()
        self._fetched, total = 0, max(1, -(-plan.to_fetch // MB))
        with ThreadPoolExecutor(self.bucket.jobs) as pool:
            futures = [pool.submit(self._fetch_file, item) for item in plan.missing]
            waiting, ended = {*futures}, False
            try:
                while waiting and not ended:
                    report("megabytes fetched", min(self._fetched // MB, total - 1), total)
                    done, waiting = wait(waiting, REPORT_S, FIRST_EXCEPTION)
                    ended = any(_ends_all(future.exception()) for future in done)
            finally:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
        results = [CancelledError() if future.cancelled() else future.exception() for future in futures]
        errors = [error for error in results if error is not None]
        if not errors:
            report("megabytes fetched" if futures else "every file is there", total, total)
        return errors

    def _fetch_file(self, item: RemoteObject) -> None:
        """Download one file: continue a broken stream, and begin a changed or damaged object afresh."""
        path, attempts = self.folder / item.key, ATTEMPTS
        with _disk_explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                before = _resumable(path, item)
                try:
                    return self._complete(path, item)
                except (Unreachable, ObjectChanged) as error:
                    changed = isinstance(error, ObjectChanged)
                    attempts = ATTEMPTS if not changed and _resumable(path, item) > before else attempts - 1
                    if not attempts:
                        raise
                if changed:
                    partial_of(path, item).unlink(missing_ok=True)
                    item = self.bucket.stat(item.key)
                if self._stop.wait(BACKOFF_S * 2 ** (ATTEMPTS - attempts)):
                    raise CancelledError

    def _complete(self, path: Path, item: RemoteObject) -> None:
        """Append what a partial file lacks, check it, and give it its name."""
        partial, start = partial_of(path, item), _resumable(path, item)
        pieces = self.bucket.read(item, start) if start < item.size else iter(())
        first = next(pieces, b"")  # a refused object leaves no empty file
        with partial.open("ab" if start else "wb") as file:
            for piece in chain([first], pieces):
                if self._stop.is_set():
                    raise CancelledError
                file.write(piece)
                with self._counting:
                    self._fetched += len(piece)
            file.flush()
            os.fsync(file.fileno())
        if fault := self.bucket.fault(partial, item):
            raise ObjectChanged(f"{self.bucket.url(item.key)}: what came {fault}")
        partial.replace(path)
        fsync_path(path.parent)


def etag_of(path: Path, part: int = 0) -> str:
    """Return the ETag that S3 gives a file that was uploaded in parts of so many bytes, or at once if `part` is 0.

    That is the MD5 of the file, or the MD5 of its parts' MD5s, a "-", and the number of parts.
    """
    size, digests = path.stat().st_size, []
    with path.open("rb") as file:
        for start in range(0, max(size, 1), part or max(size, 1)):
            digest, end = hashlib.md5(usedforsecurity=False), start + part if part else size
            while piece := file.read(min(CHUNK, end - file.tell())):
                digest.update(piece)
            digests.append(digest.digest())
    if not part:
        return digests[0].hex()
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def partial_of(path: Path, item: RemoteObject) -> Path:
    """Return the name of a file until it is complete; another version of the object has another name."""
    return path.with_name(f".{path.name}.{re.sub(r'[^0-9A-Za-z-]', '_', item.etag)}.partial")


def _resumable(path: Path, item: RemoteObject) -> int:
    """Return how many bytes a file's partial holds to continue from; none if it is longer than the object."""
    partial = partial_of(path, item)
    size = partial.stat().st_size if partial.is_file() else 0
    return size if size <= item.size else 0


def _remove_partials(path: Path, item: RemoteObject | None) -> None:
    """Remove the partial files of a path, except that of `item` if it can be continued."""
    kept = partial_of(path, item) if item and _resumable(path, item) else None
    own = re.compile(rf"\.{re.escape(path.name)}\.[0-9A-Za-z_-]+\.partial")
    for partial in path.parent.glob(f".{escape(path.name)}.*.partial"):
        if partial != kept and own.fullmatch(partial.name):
            partial.unlink()


def _ends_all(error: BaseException | None) -> bool:
    """Return whether other files would fail as well: no network, no room, or a fault of the program."""
    return error is not None and (isinstance(error, Unreachable) or not isinstance(error, DownloadError))


@contextmanager
def _disk_explained(path: Path) -> Iterator[None]:
    """Turn what the system reports of a file or a folder into one line."""
    try:
        yield
    except OSError as error:
        if isinstance(error, Brain2VideoError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{path}: the disk is full; make room") from error
        reason = f"{error.strerror}: {error.filename2 or error.filename}"
        raise DownloadError(f"{path}: cannot be written to ({reason}); fix it or choose another") from error
