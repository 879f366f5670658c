"""DVC remotes, a folder and S3: a clone pulls one subject, then all, bit for bit; a damaged object is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.files import digest_folder
from feature_store import Store, verify, versioning
from feature_store.writer import GroupWriter

from .dvc_checkout import STAGES, clone_of, dvc, save

SUBJECTS = ("sub-01", "sub-02", "sub-03")


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


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.servers)])
def remote(request: pytest.FixtureRequest) -> Remote:
    made: Remote = request.getfixturevalue(f"{request.param}_remote")
    return made


def write_subject(checkout: Path, subject: str) -> None:
    """Publish a subject's group and commit its stage, as a pipeline run outside DVC does."""
    values = np.random.default_rng(SUBJECTS.index(subject)).normal(size=(40, 30)).astype("f4")
    store = checkout / "data" / "features.zarr"
    with GroupWriter(store, f"responses/{subject}", encoding_type="responses", fingerprint="f") as group:
        group.array("train/betas", values.shape, "float32", lambda a, b: values[a:b], ("trial", "voxel"))
    versioning.commit_outputs(checkout, [store / "responses" / subject], "configs/demo.yaml")


@pytest.fixture
def shared(checkout: Path, remote: Remote) -> Path:
    """A checkout whose two subjects were pushed to the remote."""
    dvc(checkout, "remote", "add", "-d", "lab", remote.url)
    for name, value in {**remote.settings, "verify": "true"}.items():
        dvc(checkout, "remote", "modify", "lab", name, value)
    for subject in SUBJECTS[:2]:
        write_subject(checkout, subject)
    dvc(checkout, "push", "-q")
    save(checkout)
    return checkout


def responses(folder: Path, subject: str = "") -> Path:
    return folder / "data" / "features.zarr" / "responses" / subject


def test_one_subject_is_pulled_then_all_bit_for_bit(shared: Path) -> None:
    clone = clone_of(shared)
    dvc(clone, "pull", "-q", "responses@1")
    assert Store(clone / "data" / "features.zarr").names("responses") == ["sub-01"]
    assert digest_folder(responses(clone, "sub-01")) == digest_folder(responses(shared, "sub-01"))
    assert list(verify(responses(clone, "sub-01"))) == []
    other = clone_of(shared, "by-path")
    dvc(other, "pull", "-q", "data/features.zarr/responses/sub-02")
    assert Store(other / "data" / "features.zarr").names("responses") == ["sub-02"]
    dvc(clone, "pull", "-q")
    for subject in SUBJECTS[:2]:
        assert digest_folder(responses(clone, subject)) == digest_folder(responses(shared, subject))
    assert list(verify(clone / "data" / "features.zarr")) == []


def test_another_subject_uploads_that_subject_only(shared: Path, remote: Remote) -> None:
    before = remote.objects()
    (shared / "dvc.yaml").write_text(STAGES.replace("[1, 2]", "[1, 2, 3]"))
    write_subject(shared, "sub-03")
    dvc(shared, "push", "-q")
    added = remote.objects() - before
    files = [path for path in responses(shared, "sub-03").rglob("*") if path.is_file()]
    assert before <= remote.objects()
    assert 0 < len(added) <= len(files) + 1, "its files, and the list of them"


def test_a_remote_that_takes_what_comes_is_named(shared: Path) -> None:
    assert versioning.unverified_remotes(shared) == []
    dvc(shared, "remote", "add", "careless", "/somewhere")
    assert versioning.unverified_remotes(shared) == ["careless"]
    assert versioning.unverified_remotes(shared.parent) == []


def test_a_damaged_object_is_refused(shared: Path, remote: Remote) -> None:
    files = [name for name in remote.objects() if "/md5/" in name and not name.endswith(".dir")]
    for name in files:
        remote.damage(name)
    clone = clone_of(shared)
    done = dvc(clone, "pull", fails=True)
    assert "failed to pull" in done.stderr.lower()
    pulled = [path for path in responses(clone).glob("sub-*/**/*") if path.is_file()]
    assert pulled == [], "nothing damaged is checked out"
