"""Chunks: our bytes are Zarr's own, compressed or not, the same every time, and read back as they were."""

from pathlib import Path

import numcodecs.blosc
import numpy as np
import pandas as pd
import pytest
import zarr

from core.errors import StoreCorrupted, StoreError
from core.files import digest_folder, read_json, write_json
from feature_store import Store, verify
from feature_store import rows as stored_rows
from feature_store import schema as layout
from feature_store.chunks import Compression, compressors
from feature_store.rows import ChunkedRows
from feature_store.writer import GroupWriter

COMPRESSIONS: list[Compression] = ["none", "lz4", "zstd"]


def windows(rng: np.random.Generator) -> np.ndarray:
    """Some BOLD windows (trial, time, voxel), whole numbers as scanners give them; seven rows in chunks of three."""
    values = np.round(1000 + rng.normal(0, 10, (7, 5, 40))).astype("f4")
    values[2, 1, 3] = np.nan
    return values


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "CHUNK_BYTES", 3 * 5 * 40 * 4)


def write(store: Path, values: np.ndarray, compression: Compression) -> Path:
    with GroupWriter(store, "responses/sub-01", encoding_type="responses", fingerprint="f") as group:
        axes = ("trial", "time", "voxel")
        group.array("train/betas", values.shape, "float32", lambda a, b: values[a:b], axes, compression=compression)
        group.table("train/trials", pd.DataFrame({"stimulus": list("abcabca"), "repetition": [0, 0, 0, 1, 1, 1, 2]}))
        group.table("voxels", pd.DataFrame({"roi": ["V1"] * 20 + ["V2"] * 20}))
    return store / "responses" / "sub-01"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_form_reads_back_here_and_in_zarr(
    tmp_path: Path, rng: np.random.Generator, compression: Compression
) -> None:
    values = windows(rng)
    group = write(tmp_path / "features.zarr", values, compression)
    read, _ = Store(tmp_path / "features.zarr").responses("sub-01").values("train")
    assert np.array_equal(read, values, equal_nan=True)
    assert np.array_equal(zarr.open_group(group, mode="r")["train/betas"][:], values, equal_nan=True)
    part, _ = Store(tmp_path / "features.zarr").responses("sub-01").values("train", rois=["V2"], repeats="mean")
    assert np.array_equal(part[1], values[[1, 4]][..., 20:].astype("f8").mean(axis=0).astype("f4"), equal_nan=True)
    assert list(verify(tmp_path / "features.zarr")) == []


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_our_chunks_are_byte_for_byte_what_zarr_writes(
    tmp_path: Path, rng: np.random.Generator, compression: Compression
) -> None:
    values = windows(rng)
    group = write(tmp_path / "features.zarr", values, compression)
    numcodecs.blosc.set_nthreads(1)
    theirs = zarr.create_array(
        tmp_path / "theirs.zarr",
        shape=values.shape,
        dtype="f4",
        chunks=tuple(read_json(group / "train/betas/zarr.json")["chunk_grid"]["configuration"]["chunk_shape"]),
        compressors=compressors(compression, 4),
        fill_value=np.nan,
        config={"write_empty_chunks": True},
    )
    theirs[:] = values
    assert digest_folder(group / "train" / "betas" / "c") == digest_folder(tmp_path / "theirs.zarr" / "c")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_bytes_do_not_depend_on_the_number_of_threads(
    tmp_path: Path, rng: np.random.Generator, compression: Compression
) -> None:
    values, digests = windows(rng), set()
    for threads in (1, 2, 8):
        numcodecs.blosc.set_nthreads(threads)
        digests.add(digest_folder(write(tmp_path / str(threads) / "features.zarr", values, compression)))
        assert numcodecs.blosc.set_nthreads(1) == threads, "the process's own setting is left as it was"
    assert len(digests) == 1


def test_compressed_windows_are_smaller(tmp_path: Path, rng: np.random.Generator) -> None:
    sizes = [
        sum(path.stat().st_size for path in write(tmp_path / c, windows(rng), c).rglob("c/*/*/*")) for c in COMPRESSIONS
    ]
    assert sizes[1] < sizes[0] / 1.3
    assert sizes[2] < sizes[0] / 1.3


def test_unpacked_chunks_are_kept_up_to_a_limit(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = windows(rng)
    write(tmp_path / "features.zarr", values, "lz4")
    monkeypatch.setattr(stored_rows.DECOMPRESSED, "max_bytes", 1)
    rows = Store(tmp_path / "features.zarr").responses("sub-01").rows("train/betas")
    for _ in range(2):
        assert np.array_equal(rows[:], values, equal_nan=True)
    assert sum(chunk.values is not None for chunk in rows._chunks.values()) == 1


@pytest.mark.parametrize("compression", COMPRESSIONS[1:])
def test_a_damaged_compressed_chunk_is_never_unpacked(
    tmp_path: Path, rng: np.random.Generator, compression: Compression
) -> None:
    group = write(tmp_path / "features.zarr", windows(rng), compression)
    chunk = group / "train/betas/c/1/0/0"
    sound = chunk.read_bytes()
    for damaged, message in (
        (bytes([sound[0] ^ 1]) + sound[1:], "fails its checksum"),
        (sound[:-9], "fails its checksum"),
        (sound[:3], "has 3 bytes"),
    ):
        chunk.write_bytes(damaged)
        with pytest.raises(StoreCorrupted, match=f"chunk c/1/0/0 {message}.*brain2video responses --subject sub-01"):
            Store(tmp_path / "features.zarr").responses("sub-01").values("train")


def test_other_layouts_are_refused_and_named(tmp_path: Path) -> None:
    for codecs, message in (([zarr.codecs.ZstdCodec()], "bytes with a CRC-32C"), (None, "bytes with a CRC-32C")):
        zarr.create_array(tmp_path / "a", shape=(4, 2), dtype="f4", compressors=codecs, overwrite=True)
        with pytest.raises(StoreError, match=f"{message}; read it with zarr, or fix it"):
            ChunkedRows(tmp_path / "a", "fix it")
    zstd = [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]
    zarr.create_array(tmp_path / "b", shape=(4, 2), dtype="f4", compressors=zstd)
    with pytest.raises(StoreError, match="its chunks are compressed by zstd; read it with zarr"):
        ChunkedRows(tmp_path / "b", "fix it")
    zarr.create_array(tmp_path / "c", shape=(4, 2), chunks=(4, 1), dtype="f4", compressors=[zarr.codecs.Crc32cCodec()])
    with pytest.raises(StoreError, match="not full rows"):
        ChunkedRows(tmp_path / "c", "fix it")


def test_metadata_that_says_otherwise_than_the_manifest_is_damage(tmp_path: Path, rng: np.random.Generator) -> None:
    group = write(tmp_path / "features.zarr", windows(rng), "none")
    meta = read_json(group / "train/betas/zarr.json")
    meta["data_type"] = "int32"
    write_json(group / "train/betas/zarr.json", meta)
    with pytest.raises(StoreCorrupted, match="train/betas/zarr.json: is missing or not as published"):
        Store(tmp_path / "features.zarr").responses("sub-01")
