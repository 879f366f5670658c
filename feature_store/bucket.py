"""A public S3 bucket: what lies below a prefix, and an object's bytes from any place on; no account is used.

The only module that knows boto3. What the service or the network answers is raised as one of three errors, by what can
be done about it: try again (`Unreachable`), look again (`ObjectChanged`), or tell the user (`DownloadError`).
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from core.errors import DownloadError

CHUNK = 1 << 20
"""Bytes read at once: an interruption loses less than this."""
TRIES = 3
"""Of one request. Few, because whoever fetches goes on trying by itself, and a first request should fail soon."""
CONNECT_S, READ_S = 10, 30
"""Seconds that a connection, and a silence on it, may last."""
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


class Unreachable(DownloadError):
    """The service did not answer, or stopped in the middle: it may well answer later."""


class ObjectChanged(DownloadError):
    """The object is no longer the one that was listed, or cannot be continued from where it was left."""


@dataclass(frozen=True)
class RemoteObject:
    """An object of a bucket.

    Attributes
    ----------
    key : str
        Its name below the bucket's prefix, which is also its path below the folder it is brought to.
    size : int
        In bytes.
    etag : str
        The MD5 of its content, or, with a "-", the MD5 of the MD5s of its parts and their number.
    """

    key: str
    size: int
    etag: str


class Bucket:
    """The objects of a public bucket below a prefix.

    Parameters
    ----------
    name, prefix, region : str
        For example ``"openneuro.org"``, ``"ds005165/"`` and ``"us-east-1"``.
    endpoint : str, optional
        URL of another service that speaks S3; by default what `ENDPOINT_VARIABLES` name, else Amazon's.
    connections : int
        How many requests may run at once.
    """

    def __init__(
        self, name: str, prefix: str, *, region: str, endpoint: str | None = None, connections: int = 8
    ) -> None:
        self.name, self.prefix = name, prefix
        named = (os.environ.get(variable) for variable in ENDPOINT_VARIABLES)
        endpoint = endpoint or next((url for url in named if url), None)
        config = Config(
            signature_version=UNSIGNED,
            s3={"addressing_style": "path"},  # a bucket with a dot in its name has no certificate as a host
            retries={"mode": "standard", "total_max_attempts": TRIES},
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            max_pool_connections=connections,
        )
        try:
            self._client: Any = boto3.client("s3", region_name=region, endpoint_url=endpoint, config=config)
        except (BotoCoreError, ValueError) as error:
            raise DownloadError(f"{self.url()}: cannot be asked ({error}); mend the endpoint or AWS_PROFILE") from error

    def url(self, key: str = "") -> str:
        """Return how an object, or the whole, is named in messages."""
        return f"s3://{self.name}/{self.prefix}{key}"

    def list_folder(self, folder: str, *, deep: bool = False) -> list[RemoteObject]:
        """Return the objects of a folder, with those of its subfolders where `deep`; none where it does not exist.

        Raises
        ------
        DownloadError
            The service refuses, cannot be reached, or names an object that would lie outside the folder.
        """
        prefix = f"{self.prefix}{folder}/" if folder else self.prefix
        request = {"Bucket": self.name, "Prefix": prefix, **({} if deep else {"Delimiter": "/"})}
        with self._explained(folder):
            pages = list(self._client.get_paginator("list_objects_v2").paginate(**request))
        found = [entry for page in pages for entry in page.get("Contents", []) if not entry["Key"].endswith("/")]
        return [self._object(entry["Key"].removeprefix(self.prefix), entry["Size"], entry["ETag"]) for entry in found]

    def look(self, key: str) -> RemoteObject:
        """Return an object as it is now; `ObjectChanged` where it is gone."""
        with self._explained(key):
            answer = self._client.head_object(Bucket=self.name, Key=self.prefix + key)
        return self._object(key, answer["ContentLength"], answer["ETag"])

    def part_size(self, item: RemoteObject) -> int | None:
        """Return the size of the parts that an object was uploaded in, or None where the service does not say."""
        try:
            with self._explained(item.key):
                answer = self._client.head_object(Bucket=self.name, Key=self.prefix + item.key, PartNumber=1)
        except Unreachable:
            raise
        except DownloadError:  # not every service that speaks S3 knows parts
            return None
        return int(answer["ContentLength"]) if answer.get("PartsCount") else None

    def read(self, item: RemoteObject, start: int = 0) -> Iterator[bytes]:
        """Yield an object's bytes from `start` on, in pieces of at most `CHUNK`.

        Raises
        ------
        ObjectChanged
            The object differs from the listed one, or the service does not continue at `start`.
        Unreachable
            The connection broke; what was yielded until then is sound.
        """
        place = {"Range": f"bytes={start}-"} if start else {}
        with self._explained(item.key):
            answer = self._client.get_object(
                Bucket=self.name, Key=self.prefix + item.key, IfMatch=f'"{item.etag}"', **place
            )
            if start and not answer.get("ContentRange", "").startswith(f"bytes {start}-"):
                raise ObjectChanged(f"{self.url(item.key)}: the service does not continue at byte {start}")
            yield from answer["Body"].iter_chunks(CHUNK)

    def _object(self, key: str, size: int, etag: str) -> RemoteObject:
        """Return an object whose key is a path inside whatever folder it is brought to."""
        parts = key.split("/")
        if not key.isprintable() or "\\" in key or {"", ".", ".."} & set(parts):
            raise DownloadError(
                f"{self.url()}: lists the key {key!r}, which is no path inside a folder; nothing was fetched; "
                "check the endpoint and report it to whoever runs it"
            )
        return RemoteObject(key, size, etag.strip('"'))

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn what the service answers into this module's errors."""
        try:
            yield
        except ClientError as error:
            raise self._refusal(key, error) from error
        except (BotoCoreError, ResponseParserError, HTTPError, OSError) as error:
            if isinstance(error, DownloadError):
                raise
            reason = re.sub(r'\?[^\s"]*', "", " ".join(str(error).split()))  # without the query of a URL
            raise Unreachable(
                f"could not reach {self.url(key)} ({reason}); check the network, a proxy and the endpoint"
            ) from error

    def _refusal(self, key: str, error: ClientError) -> DownloadError:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        where = self.url(key)
        if code == "NoSuchBucket":
            return DownloadError(f"{where}: no such bucket at {self._client.meta.endpoint_url}; check the endpoint")
        if status in (401, 403):
            return DownloadError(f"{where}: access denied ({code}); the dataset is public, so check the endpoint")
        if status in (404, 412, 416):
            return ObjectChanged(f"{where}: is no longer what was listed ({code})")
        kind = Unreachable if status >= 500 or status == 429 else DownloadError
        return kind(f"{where}: the service answered {status} ({code}); try again later")


def etag_of(path: Path, part: int | None = None) -> str:
    """Return the ETag that S3 gives a file: its MD5, or that of its parts' MD5s, a "-", and the number of parts.

    Parameters
    ----------
    path : Path
    part : int, optional
        The size of the parts it was uploaded in, in bytes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if part is None:
            return _md5(file, size).hex()
        digests = [_md5(file, min(part, size - start)) for start in range(0, size, part)]
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def _md5(file: BinaryIO, length: int) -> bytes:
    state = hashlib.md5(usedforsecurity=False)
    while length and (piece := file.read(min(length, CHUNK))):
        state.update(piece)
        length -= len(piece)
    return state.digest()
