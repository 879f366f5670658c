"""A small published store, and a bucket that is served on this machine."""

import logging
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pandas as pd
import pytest
from moto.server import ThreadedMotoServer

from feature_store.schema import UNLABELLED
from feature_store.writer import GroupWriter

from . import dvc_checkout
from .bold_moments_disk import write_spaces, write_windows
from .faults.bids import write_bids

STIMULI = {"train": ["a", "b", "c", "d"], "test": ["x", "y", "z"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small BIDS dataset, as fMRIPrep leaves it."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    write_bids(folder)
    return folder


def write_responses(
    store: Path, betas: dict[str, np.ndarray], fingerprint: str = "f", unlabelled: np.ndarray | None = None
) -> None:
    written = {"encoding_type": "responses", "fingerprint": fingerprint, "subject": "sub-01"}
    with GroupWriter(store, "responses/sub-01", **written) as group:
        for split, names in STIMULI.items():
            repeats = len(betas[split]) // len(names)
            trials = pd.DataFrame({"stimulus": names * repeats, "repetition": np.repeat(range(repeats), len(names))})
            values = betas[split]
            group.array(f"{split}/betas", values.shape, "float32", lambda a, b, v=values: v[a:b], ("trial", "voxel"))
            group.table(f"{split}/trials", trials)
        if unlabelled is not None:
            shape = unlabelled.shape
            group.array(UNLABELLED, shape, "float32", lambda a, b, v=unlabelled: v[a:b], ("row", "voxel"))
        group.table("voxels", pd.DataFrame({"roi": ["V1"] * 3 + ["V2"] * 2, "x": [0.5, 1, 2, 3, 4]}))


def write_targets(store: Path, values: dict[str, np.ndarray]) -> None:
    with GroupWriter(store, "targets/latents", encoding_type="targets", fingerprint="t") as group:
        for split, names in STIMULI.items():
            v = values[split]
            axes = ("stimulus", "frame", "x")
            packed = "none" if split == "train" else "zstd"  # damage must be found in both forms
            group.array(f"{split}/values", v.shape, "float16", lambda a, b, v=v: v[a:b], axes, compression=packed)
            # other order than the responses', so that joining by position would be seen
            captions = [[f"a {name}", "ünïcode"] for name in reversed(names)]
            group.table(f"{split}/stimuli", pd.DataFrame({"stimulus": list(reversed(names)), "caption": captions}))


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of both versions of BOLD Moments, tiny; read only."""
    folder = tmp_path_factory.mktemp("published")
    write_spaces(folder)
    write_windows(folder)
    return folder


@pytest.fixture
def betas(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"train": rng.normal(size=(12, 5)).astype("f4"), "test": rng.normal(size=(6, 5)).astype("f4")}


@pytest.fixture
def latents(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"train": rng.normal(size=(4, 2, 3)).astype("f2"), "test": rng.normal(size=(3, 2, 3)).astype("f2")}


@pytest.fixture
def store(tmp_path: Path, betas: dict[str, np.ndarray], latents: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "data" / "features.zarr"
    write_responses(path, betas)
    write_targets(path, latents)
    return path


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of a server that speaks S3."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def owner(url: str) -> Any:
    """The client of whoever may write to the bucket."""
    secrets = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("s3", endpoint_url=url, region_name="us-east-1", **secrets)


def publish(url: str, objects: Mapping[str, bytes], *, public: bool = True) -> None:
    """Replace what the server holds by these objects of ds005165."""
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()
    client = owner(url)
    client.create_bucket(Bucket="openneuro.org", ACL="public-read")
    add(url, objects, public=public)


def add(url: str, objects: Mapping[str, bytes], *, public: bool = True) -> None:
    """Add objects to ds005165, or replace them."""
    for key, content in objects.items():
        acl = "public-read" if public else "private"
        owner(url).put_object(Bucket="openneuro.org", Key=f"ds005165/{key}", Body=content, ACL=acl)


def add_in_parts(url: str, key: str, content: bytes, part: int) -> None:
    """Add an object as large ones are: in parts, so that its ETag is no MD5 of its content."""
    client, at = owner(url), {"Bucket": "openneuro.org", "Key": f"ds005165/{key}"}
    upload = {**at, "UploadId": client.create_multipart_upload(**at, ACL="public-read")["UploadId"]}
    pieces = [content[start : start + part] for start in range(0, len(content), part)]
    parts = [
        {"PartNumber": i, "ETag": client.upload_part(**upload, PartNumber=i, Body=piece)["ETag"]}
        for i, piece in enumerate(pieces, start=1)
    ]
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with DVC and its stages, nothing committed yet."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.chdir(folder)
    dvc_checkout.run(folder, "git", "init", "-q")
    dvc_checkout.dvc(folder, "init", "-q")
    (folder / "dvc.yaml").write_text(dvc_checkout.STAGES)
    return folder
