"""DVC remotes, a folder and S3: a clone pulls one subject, then all, bit for bit; a damaged object is refused."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.files import digest_folder
from feature_store import Store, verify, versioning
from feature_store.writer import GroupWriter

Dvc = Callable[..., "subprocess.CompletedProcess[str]"]
SUBJECTS = ("sub-01", "sub-02", "sub-03")
DVC_YAML = """\
stages:
  responses:
    matrix: {subject: [1, 2]}
    cmd: brain2video responses -c configs/demo.yaml --subject sub-0${item.subject}
    outs:
      - data/features.zarr/responses/sub-0${item.subject}
"""


class Remote:
    """A place where objects lie: how DVC is told, and how a test looks at and damages what is there."""

    def __init__(self, url: str, objects: Callable[[], set[str]], damage: Callable[[str], None]) -> None:
        self.url, self.objects, self.damage = url, objects, damage
        self.settings: dict[str, str] = {}


@pytest.fixture
def folder_remote(tmp_path: Path) -> Remote:
    root = tmp_path / "remote"

    def objects() -> set[str]:
        return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}

    def damage(name: str) -> None:
        content = bytearray((root / name).read_bytes())
        content[len(content) // 2] ^= 1
        (root / name).chmod(0o644)
        (root / name).write_bytes(content)

    return Remote(str(root), objects, damage)


@pytest.fixture
def s3_remote(s3: str, monkeypatch: pytest.MonkeyPatch) -> Remote:
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    client = boto3.client("s3", endpoint_url=s3, region_name="us-east-1")
    client.create_bucket(Bucket="lab")

    def objects() -> set[str]:
        return {one["Key"] for one in client.list_objects_v2(Bucket="lab").get("Contents", [])}

    def damage(name: str) -> None:
        content = bytearray(client.get_object(Bucket="lab", Key=name)["Body"].read())
        content[len(content) // 2] ^= 1
        client.put_object(Bucket="lab", Key=name, Body=bytes(content))

    for name in objects():
        client.delete_object(Bucket="lab", Key=name)
    remote = Remote("s3://lab/dvc", objects, damage)
    remote.settings = {"endpointurl": s3, "region": "us-east-1"}
    return remote


@pytest.fixture(params=["folder", "s3"])
def remote(request: pytest.FixtureRequest) -> Remote:
    made: Remote = request.getfixturevalue(f"{request.param}_remote")
    return made


def run(folder: Path, *command: str, fails: bool = False) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done


def dvc(folder: Path, *arguments: str, fails: bool = False) -> "subprocess.CompletedProcess[str]":
    return run(folder, sys.executable, "-m", "dvc", *arguments, fails=fails)


def write_subject(checkout: Path, subject: str) -> None:
    """Publish a subject's group and commit its stage, as a pipeline run outside DVC does."""
    values = np.random.default_rng(SUBJECTS.index(subject)).normal(size=(40, 30)).astype("f4")
    store = checkout / "data" / "features.zarr"
    with GroupWriter(store, f"responses/{subject}", encoding_type="responses", fingerprint="f") as group:
        group.array("train/betas", values.shape, "float32", lambda a, b: values[a:b], ("trial", "voxel"))
    versioning.commit_outputs(checkout, [store / "responses" / subject], "configs/demo.yaml")


def save(checkout: Path) -> None:
    run(checkout, "git", "add", "-A")
    run(checkout, "git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "x")


@pytest.fixture
def checkout(tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    monkeypatch.delenv("DVC_STAGE", raising=False)
    run(folder, "git", "init", "-q")
    dvc(folder, "init", "-q")
    (folder / "dvc.yaml").write_text(DVC_YAML)
    dvc(folder, "remote", "add", "-d", "lab", remote.url)
    for name, value in {**remote.settings, "verify": "true"}.items():
        dvc(folder, "remote", "modify", "lab", name, value)
    for subject in SUBJECTS[:2]:
        write_subject(folder, subject)
    dvc(folder, "push", "-q")
    save(folder)
    return folder


def clone_of(checkout: Path, name: str = "clone") -> Path:
    run(checkout.parent, "git", "clone", "-q", str(checkout), name)
    return checkout.parent / name


def responses(folder: Path, subject: str = "") -> Path:
    return folder / "data" / "features.zarr" / "responses" / subject


def test_one_subject_is_pulled_then_all_bit_for_bit(checkout: Path) -> None:
    clone = clone_of(checkout)
    dvc(clone, "pull", "-q", "responses@1")
    assert Store(clone / "data" / "features.zarr").names("responses") == ["sub-01"]
    assert digest_folder(responses(clone, "sub-01")) == digest_folder(responses(checkout, "sub-01"))
    assert list(verify(responses(clone, "sub-01"))) == []
    other = clone_of(checkout, "by-path")
    dvc(other, "pull", "-q", "data/features.zarr/responses/sub-02")
    assert Store(other / "data" / "features.zarr").names("responses") == ["sub-02"]
    dvc(clone, "pull", "-q")
    for subject in SUBJECTS[:2]:
        assert digest_folder(responses(clone, subject)) == digest_folder(responses(checkout, subject))
    assert list(verify(clone / "data" / "features.zarr")) == []


def test_another_subject_uploads_that_subject_only(checkout: Path, remote: Remote) -> None:
    before = remote.objects()
    (checkout / "dvc.yaml").write_text(DVC_YAML.replace("[1, 2]", "[1, 2, 3]"))
    write_subject(checkout, "sub-03")
    dvc(checkout, "push", "-q")
    added = remote.objects() - before
    files = [path for path in responses(checkout, "sub-03").rglob("*") if path.is_file()]
    assert before <= remote.objects()
    assert 0 < len(added) <= len(files) + 1, "its files, and the list of them"


def test_a_remote_that_takes_what_comes_is_named(checkout: Path) -> None:
    assert versioning.unverified_remotes(checkout) == []
    dvc(checkout, "remote", "add", "careless", "/somewhere")
    assert versioning.unverified_remotes(checkout) == ["careless"]
    assert versioning.unverified_remotes(checkout.parent) == []


def test_a_damaged_object_is_refused(checkout: Path, remote: Remote) -> None:
    files = [name for name in remote.objects() if "/md5/" in name and not name.endswith(".dir")]
    for name in files:
        remote.damage(name)
    clone = clone_of(checkout)
    done = dvc(clone, "pull", fails=True)
    assert "failed to pull" in done.stderr.lower()
    pulled = [path for path in responses(clone).glob("sub-*/**/*") if path.is_file()]
    assert pulled == [], "nothing damaged is checked out"
