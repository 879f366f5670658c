"""Fetching from a bucket: byte for byte, checked, and resumed after whatever ended it; every failure is one line."""

import errno
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from moto.backends import get_backend

from core.errors import DownloadError, NoSpace
from core.progress import listening
from feature_store import remote
from feature_store.remote import Bucket, Download, DownloadPlan, RemoteObject, Unreachable, etag_of, partial_of

from .conftest import add, add_in_parts, publish

PART = 5 * 2**20
ALL: dict[str, tuple[str, ...]] = {"data": ()}


class Counting(Bucket):
    """Notes what is asked of it."""

    def __init__(self, url: str) -> None:
        super().__init__("openneuro.org", "ds005165/", region="us-east-1", endpoint=url, jobs=3)
        self.reads: list[tuple[str, int]] = []

    def read(self, item: RemoteObject, start: int = 0) -> Iterator[bytes]:
        self.reads.append((item.key, start))
        return super().read(item, start)


@pytest.fixture
def content(s3: str, rng: np.random.Generator) -> dict[str, bytes]:
    """What the server holds: some files of some size, an empty one, one deep down, one uploaded in parts."""
    sizes = {"empty.pkl": 0, "one.nii": 1, "a/b/deep.pkl": 100_000, "x.pkl": 2**20 + 7, "x.pkl.gz": 9}
    objects = {f"data/{name}": rng.bytes(size) for name, size in sizes.items()}
    publish(s3, objects)
    objects["data/large.pkl"] = rng.bytes(PART + 1000)
    add_in_parts(s3, "data/large.pkl", objects["data/large.pkl"], PART)
    return objects


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BACKOFF_S", 0.0)
    monkeypatch.setattr(remote, "TRIES", 1)


def bring(
    bucket: Bucket, folder: Path, wanted: Mapping[str, Sequence[str]] = ALL, *, check: bool = False
) -> DownloadPlan:
    download = Download(bucket, folder)
    plan = download.plan(bucket.find(wanted), check=check)
    download.fetch(plan)
    return plan


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_tree_is_the_source_and_a_second_run_fetches_nothing(
    s3: str, content: dict[str, bytes], tmp_path: Path
) -> None:
    said: list[tuple[str, int, int]] = []
    with listening(lambda what, done, total, note: said.append((what, done, total))):
        plan = bring(Counting(s3), tmp_path / "new" / "ds")
    assert tree(tmp_path / "new" / "ds") == content
    assert (plan.present, plan.to_fetch) == (0, sum(map(len, content.values())))
    assert [row for row in said if row[0] == "megabytes fetched"][-1][1:] == (7, 7)
    again = Counting(s3)
    plan = bring(again, tmp_path / "new" / "ds", check=True)
    assert (again.reads, plan.missing, plan.to_fetch) == ([], (), 0)
    assert etag_of(tmp_path / "new/ds/data/large.pkl", PART).endswith("-2")


def test_what_is_there_is_continued_and_other_versions_are_swept(
    s3: str, content: dict[str, bytes], tmp_path: Path
) -> None:
    bucket = Counting(s3)
    items = {item.key: item for item in bucket.find(ALL)}
    (tmp_path / "data").mkdir()
    begun = partial_of(tmp_path / "data/x.pkl", items["data/x.pkl"])
    begun.write_bytes(content["data/x.pkl"][:1000])
    complete = partial_of(tmp_path / "data/large.pkl", items["data/large.pkl"])
    complete.write_bytes(content["data/large.pkl"])
    too_long = partial_of(tmp_path / "data/one.nii", items["data/one.nii"])
    too_long.write_bytes(b"12")
    partial_of(tmp_path / "data/x.pkl", replace(items["data/x.pkl"], etag="0" * 32)).write_bytes(b"old")
    foreign = tmp_path / "data/.x.pkl.gz.other.partial"
    foreign.write_bytes(b"another file's")
    plan = bring(bucket, tmp_path)
    assert plan.present == 1000 + len(content["data/large.pkl"])
    assert tree(tmp_path) == content
    starts = dict(bucket.reads)
    assert starts["data/x.pkl"] == 1000
    assert starts["data/one.nii"] == 0
    assert not {"data/large.pkl", "data/empty.pkl"} & set(starts), "complete already"


def test_an_object_that_changes_is_begun_afresh(s3: str, content: dict[str, bytes], tmp_path: Path) -> None:
    bucket = Counting(s3)
    objects = bucket.find(ALL)
    (tmp_path / "data").mkdir()
    for item in objects:
        if item.key == "data/x.pkl":
            partial_of(tmp_path / item.key, item).write_bytes(content[item.key][:500])
    content["data/x.pkl"] = b"new" * 1000
    add(s3, {"data/x.pkl": content["data/x.pkl"]})
    download = Download(bucket, tmp_path)
    download.fetch(download.plan(objects))  # with the old listing
    assert tree(tmp_path) == content
    content["data/x.pkl"] = b"newer" * 1000
    add(s3, {"data/x.pkl": content["data/x.pkl"]})
    bring(bucket, tmp_path)
    assert tree(tmp_path) == content


@pytest.mark.parametrize("key", ["data/x.pkl", "data/large.pkl"])
def test_a_truncated_file_is_fetched_again_and_a_flipped_bit_is_found_by_checking(
    s3: str, content: dict[str, bytes], tmp_path: Path, key: str
) -> None:
    bring(Counting(s3), tmp_path)
    (tmp_path / key).write_bytes(content[key][:-1])
    assert [item.key for item in bring(Counting(s3), tmp_path).missing] == [key]
    (tmp_path / key).write_bytes(bytes([content[key][0] ^ 1]) + content[key][1:])
    assert not bring(Counting(s3), tmp_path).missing, "the size suffices"
    assert [item.key for item in bring(Counting(s3), tmp_path, check=True).missing] == [key]
    assert tree(tmp_path) == content


class Damaging(Counting):
    """Flips the first byte of `key`, some times."""

    def __init__(self, url: str, key: str, times: int) -> None:
        super().__init__(url)
        self.key, self.times = key, times

    def read(self, item: RemoteObject, start: int = 0) -> Iterator[bytes]:
        for piece in super().read(item, start):
            flip = item.key == self.key and self.times > 0
            self.times -= flip
            yield bytes([piece[0] ^ 1]) + piece[1:] if flip else piece


@pytest.mark.parametrize("key", ["data/x.pkl", "data/large.pkl"])
def test_damage_on_the_way_is_fetched_again_or_named(
    s3: str, content: dict[str, bytes], tmp_path: Path, key: str
) -> None:
    with pytest.raises(
        DownloadError, match=rf"1 of 6 files are missing \(.*{key}: what came has the digest .*expected"
    ):
        bring(Damaging(s3, key, 10**6), tmp_path)
    assert key not in tree(tmp_path)
    bring(Damaging(s3, key, 1), tmp_path)
    assert tree(tmp_path) == content


class Breaking(BaseHTTPRequestHandler):
    """Ends every answer once 1,000 bytes are received, whatever it promised, and once answers a range from the start.

    Bytes that arrive together with the end of a connection are not handed on by the client, hence the event.
    """

    body = bytes(range(250)) * 20
    ranges = 0
    received = Event()

    def do_GET(self) -> None:
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        type(self).ranges += start > 0
        self._promise(0 if self.ranges == 1 else start)
        self.wfile.write(self.body[start : start + 1000])
        if not (start and self.ranges == 1):  # that answer is refused unread
            self.received.wait(10)
        self.received.clear()

    def do_HEAD(self) -> None:
        self._promise(0)

    def _promise(self, start: int) -> None:
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.body) - start))
        self.send_header("ETag", hashlib.md5(self.body).hexdigest())
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Portal(Breaking):
    """Answers whatever is asked with a page, as the networks of hotels do."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>log in<br>")


class Silent(Breaking):
    """Promises a body and does not send it until it is released."""

    release = Event()

    def do_GET(self) -> None:
        self._promise(0)
        self.release.wait(30)


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Receiving(Counting):
    """Lets `Breaking` know what arrived."""

    def read(self, item: RemoteObject, start: int = 0) -> Iterator[bytes]:
        for piece in super().read(item, start):
            Breaking.received.set()
            yield piece


def test_a_connection_that_breaks_is_continued(tmp_path: Path) -> None:
    with served(Breaking) as url:
        bucket = Receiving(url)
        download = Download(bucket, tmp_path)
        download.fetch(download.plan([bucket.stat("data/x.pkl")]))
    assert tree(tmp_path) == {"data/x.pkl": Breaking.body}
    assert [start for _, start in bucket.reads] == [0, 1000, 0, 1000, 2000, 3000, 4000]


def test_denied_files_are_counted_and_the_rest_stays(s3: str, content: dict[str, bytes], tmp_path: Path) -> None:
    add(s3, {"data/secret.pkl": b"s"}, public=False)
    with pytest.raises(
        DownloadError, match=r"1 of 7 files are missing \(.*secret.pkl: access denied \(403\).*run again"
    ):
        bring(Counting(s3), tmp_path)
    add(s3, {"data/secret.pkl": b"s"})
    bring(Counting(s3), tmp_path)
    assert tree(tmp_path) == {**content, "data/secret.pkl": b"s"}


def test_no_answer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"could not reach s3://openneuro.org/ds005165/data .*check the network"):
        Counting("http://127.0.0.1:9").find(ALL)
    with served(Portal) as url, pytest.raises(Unreachable, match="the service answered 500 .*; try again later"):
        Counting(url).find(ALL)
    with pytest.raises(DownloadError, match="cannot be used .Invalid endpoint: nonsense.; fix the endpoint"):
        Counting("nonsense")


def test_a_silent_connection_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "READ_S", 0.2)
    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    with served(Silent) as url:
        bucket = Counting(url)
        download = Download(bucket, tmp_path)
        with pytest.raises(DownloadError, match=r"1 of 1 files are missing \(could not reach .*x.pkl \(time-out\)"):
            download.fetch(download.plan([bucket.stat("data/x.pkl")]))
        Silent.release.set()
    assert [start for _, start in bucket.reads] == [0, 0]
    assert tree(tmp_path) == {}


class Paged(Counting):
    """Lists two keys at a time."""

    def _call(self, method: str, key: str, **parameters: Any) -> dict[str, Any]:
        limit = {"MaxKeys": 2} if method == "list_objects_v2" else {}
        return super()._call(method, key, **parameters, **limit)


def test_a_long_listing_comes_in_pages(s3: str, content: dict[str, bytes]) -> None:
    assert {item.key: item.size for item in Paged(s3).find(ALL)} == {key: len(data) for key, data in content.items()}


def test_what_is_not_in_the_bucket_is_named(s3: str, content: dict[str, bytes]) -> None:
    bucket = Counting(s3)
    with pytest.raises(DownloadError, match="ds005165/data: no sub-02.pkl and 1 more among 5 files there; check the"):
        bucket.find({"data": ("x.pkl", "sub-02.pkl", "y*")})
    with pytest.raises(DownloadError, match="ds005165/nothing: nothing among 0 files"):
        bucket.find({"nothing": ()})
    with pytest.raises(DownloadError, match="s3://other/: no such bucket at http://127.0.0.1"):
        Bucket("other", "", region="us-east-1", endpoint=s3).find({"": ()})
    assert [item.key for item in bucket.find({"data": ("x.*", "x.pkl")})] == ["data/x.pkl", "data/x.pkl.gz"]


@pytest.mark.parametrize(
    "key", ["../evil", "data/../../evil", "data//evil", "/evil", "data/./x", "data\\..\\x", "da\nta"]
)
def test_a_key_that_leads_elsewhere_is_refused(s3: str, content: dict[str, bytes], tmp_path: Path, key: str) -> None:
    get_backend("s3")["123456789012"]["global"].put_object("openneuro.org", f"ds005165/{key}", b"evil")
    with pytest.raises(DownloadError, match="is no path inside a folder; nothing was downloaded"):
        bring(Counting(s3), tmp_path / "inside", {"": ()})
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written_are_one_line(s3: str, content: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DownloadError, match="cannot be written to .*; fix it or choose another"):
            bring(Counting(s3), folder)
    (tmp_path / "held").mkdir()
    (tmp_path / "held/data").touch()
    with pytest.raises(DownloadError, match=r"6 of 6 files are missing \(.*held/data"):
        bring(Counting(s3), tmp_path / "held")
    (tmp_path / "data/x.pkl/in").mkdir(parents=True)
    with pytest.raises(
        DownloadError, match=r"1 of 6 files are missing \(.*x.pkl: cannot be written to \(Is a directory: .*x.pkl\)"
    ):
        bring(Counting(s3), tmp_path)


def test_a_full_disk_is_refused_before_or_told_after(
    s3: str, content: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.disk_usage
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=1000))
        with pytest.raises(NoSpace, match="6 MB are to be written and 0 MB are free"):
            bring(Counting(s3), tmp_path)
    assert not list(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(remote.os, "fsync", failing(OSError(errno.ENOSPC, "full")))
        with pytest.raises(DownloadError, match=r"6 of 6 files are missing \(.*: the disk is full; make room\); run"):
            bring(Counting(s3), tmp_path)
    bring(Counting(s3), tmp_path)
    assert tree(tmp_path) == content


def failing(error: BaseException) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def test_an_interruption_keeps_what_came(
    s3: str, content: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(remote, "wait", failing(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            bring(Counting(s3), tmp_path)
    finished = {name for name in tree(tmp_path) if not name.endswith(".partial")}
    second = Counting(s3)
    bring(second, tmp_path)
    assert tree(tmp_path) == content
    assert not finished & {key for key, _ in second.reads}


def test_two_downloads_into_one_folder_do_not_meet(s3: str, content: dict[str, bytes], tmp_path: Path) -> None:
    bucket, objects = Counting(s3), Counting(s3).find(ALL)
    first, second = Download(bucket, tmp_path), Download(Counting(s3), tmp_path)
    plan = first.plan(objects)

    def meet(*_: Any) -> None:
        with pytest.raises(DownloadError, match="another download is writing here; wait for it"):
            second.fetch(plan)

    with listening(meet):
        first.fetch(plan)
    assert tree(tmp_path) == content
