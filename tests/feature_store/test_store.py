"""The store: what is written is what is read, by us and by zarr; joined by stimulus; never damaged in silence."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from core.errors import NoSpace, StoreCorrupted, StoreError, StoreMissing
from core.files import digest_folder
from feature_store import Store, verify
from feature_store import schema as layout
from feature_store.schema import chunk_rows, decode_column, encode_column
from feature_store.writer import GroupWriter, is_published

from .conftest import STIMULI, write_responses


def test_values_read_back_and_zarr_reads_the_same(store: Path, betas: dict[str, np.ndarray]) -> None:
    values, stimuli = Store(store).responses("sub-01").values("train")
    assert np.array_equal(values, betas["train"])
    assert stimuli == STIMULI["train"] * 3
    theirs = zarr.open_group(store, mode="r")["responses/sub-01/train/betas"][:]
    assert np.array_equal(theirs, betas["train"])


def test_repeats_are_averaged_by_stimulus(store: Path, betas: dict[str, np.ndarray]) -> None:
    values, stimuli = Store(store).responses("sub-01").values("train", repeats="mean")
    assert stimuli == STIMULI["train"]
    assert np.allclose(values, betas["train"].reshape(3, 4, 5).mean(0), atol=1e-6)


def test_rois_select_voxels_and_unknown_ones_are_named(store: Path, betas: dict[str, np.ndarray]) -> None:
    responses = Store(store).responses("sub-01")
    assert np.array_equal(responses.values("test", rois=["V2"])[0], betas["test"][:, 3:])
    with pytest.raises(StoreError, match="no ROI 'V3'; did you mean 'V[12]'"):
        responses.values("test", rois=["V3"])


def test_responses_to_no_stimulus_are_read_where_there_are_any(
    store: Path, betas: dict[str, np.ndarray], rng: np.random.Generator
) -> None:
    assert Store(store).responses("sub-01").unlabelled() is None
    before = digest_folder(store / "responses")
    rest = rng.normal(size=(7, 5)).astype("f4")
    write_responses(store, betas, "g", unlabelled=rest)
    responses = Store(store).responses("sub-01")
    assert np.array_equal(responses.unlabelled(), rest)
    assert np.array_equal(responses.unlabelled(["V2"]), rest[:, 3:])
    assert np.array_equal(responses.values("train")[0], betas["train"])
    with pytest.raises(StoreError, match="no ROI 'V3'"):
        responses.unlabelled(["V3"])
    chunk = store / "responses/sub-01/unlabelled/betas/c/0/0"
    assert list(verify(store)) == []
    content = bytearray(chunk.read_bytes())
    content[3] ^= 1
    chunk.write_bytes(content)
    assert [finding.path for finding in verify(store)] == [chunk]
    with pytest.raises(StoreCorrupted, match="unlabelled/betas: chunk c/0/0 fails its checksum"):
        Store(store).responses("sub-01").unlabelled()
    write_responses(store, betas)
    assert digest_folder(store / "responses") == before, "a group without such rows is as it always was"


def test_pairs_join_by_stimulus_never_by_position(
    store: Path, betas: dict[str, np.ndarray], latents: dict[str, np.ndarray]
) -> None:
    pairs = Store(store).pairs(["sub-01"], "latents", "train")["sub-01"]
    assert pairs.stimuli == STIMULI["train"]
    assert np.array_equal(pairs.targets, latents["train"][::-1])
    assert pairs.dropped == {"responses": 0, "targets": 0}
    single = Store(store).pairs(["sub-01"], "latents", "test", repeats="single")["sub-01"]
    assert single.stimuli == STIMULI["test"] * 2
    assert np.array_equal(single.targets, np.concatenate([latents["test"][::-1]] * 2))


def test_pairs_count_what_they_drop(tmp_path: Path, store: Path) -> None:
    with GroupWriter(store, "targets/few", encoding_type="targets", fingerprint="g") as group:
        for split, names in (("train", ["b", "q", "r"]), ("test", ["n"])):
            rows = np.zeros((len(names), 2), "f4")
            group.array(f"{split}/values", rows.shape, "float32", lambda a, b, v=rows: v[a:b], ("stimulus", "x"))
            group.table(f"{split}/stimuli", pd.DataFrame({"stimulus": names}))
    pairs = Store(store).pairs(["sub-01"], "few", "train", repeats="single")["sub-01"]
    assert pairs.stimuli == ["b"] * 3
    assert pairs.dropped == {"responses": 9, "targets": 2}
    with pytest.raises(StoreError, match="no test stimulus"):
        Store(store).pairs(["sub-01"], "few", "test")["sub-01"]


def test_tables_keep_text_numbers_and_lists(store: Path) -> None:
    stimuli = Store(store).target("latents").stimuli("test")
    assert stimuli["caption"][0] == ["a z", "ünïcode"]
    voxels = Store(store).responses("sub-01").voxels
    assert list(voxels.columns) == ["roi", "x"]
    assert voxels["x"].tolist() == [0.5, 1, 2, 3, 4]


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_any_text_survives_a_column(texts: list[str]) -> None:
    values, encoding = encode_column(pd.Series(texts, dtype=object))
    assert list(decode_column(values, encoding)) == texts


@given(st.lists(st.one_of(st.none(), st.lists(st.text()), st.dictionaries(st.text(), st.integers())), min_size=1))
def test_any_json_survives_a_column(cells: list[object]) -> None:
    values, encoding = encode_column(pd.Series(cells, dtype=object))
    assert list(decode_column(values, encoding)) == cells


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 23])
def test_any_number_of_chunks_reads_the_same(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(layout, "CHUNK_BYTES", 8 * 3 * 4)
    values = rng.normal(size=(rows, 3)).astype("f4")
    values[0, 0] = np.nan
    with GroupWriter(tmp_path / "s.zarr", "targets/t", encoding_type="targets", fingerprint="f") as group:
        group.array("train/values", values.shape, "float32", lambda a, b: values[a:b], ("stimulus", "x"))
    read = Store(tmp_path / "s.zarr").target("t").rows("train/values")
    assert np.array_equal(read[:], values, equal_nan=True)
    assert np.array_equal(read[1:rows:2], values[1:rows:2])
    chosen = rng.integers(0, rows, 30)
    assert np.array_equal(read[chosen], values[chosen], equal_nan=True)


@given(st.integers(1, 10_000), st.integers(1, 10**7))
def test_chunks_are_bounded_and_cover_all_rows(rows: int, row_bytes: int) -> None:
    step = chunk_rows(rows, row_bytes)
    assert 1 <= step <= rows
    assert step == 1 or step * row_bytes <= 1.5 * layout.CHUNK_BYTES + row_bytes


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, betas: dict[str, np.ndarray]) -> None:
    for name in ("one", "two"):
        write_responses(tmp_path / name / "features.zarr", betas)
    assert digest_folder(tmp_path / "one" / "features.zarr") == digest_folder(tmp_path / "two" / "features.zarr")


def test_an_interrupted_write_resumes_where_it_was(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "CHUNK_BYTES", 2 * 3 * 4)
    values, asked = rng.normal(size=(8, 3)).astype("f4"), []

    def write(store: Path, fail_at: int | None, fingerprint: str = "f") -> None:
        def rows(start: int, stop: int) -> np.ndarray:
            if start == fail_at:
                raise KeyboardInterrupt
            asked.append(start)
            return values[start:stop]

        with GroupWriter(store, "targets/t", encoding_type="targets", fingerprint=fingerprint) as group:
            group.array("train/values", values.shape, "float32", rows, ("stimulus", "x"))

    store = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt):
        write(store, fail_at=4)
    assert not (store / "targets").exists()
    write(store, fail_at=None)
    assert asked == [0, 2, 4, 6]
    write(tmp_path / "b.zarr", fail_at=None)
    assert digest_folder(store) == digest_folder(tmp_path / "b.zarr")
    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        write(store, fail_at=2, fingerprint="g")
    assert np.array_equal(Store(store).target("t").rows("train/values")[:], values), "the old group still stands"
    write(store, fail_at=None, fingerprint="h")
    assert asked == [0, 0, 2, 4, 6], "another fingerprint starts afresh"


def test_a_group_stands_only_if_made_from_the_same_and_undamaged(store: Path) -> None:
    group = store / "responses" / "sub-01"
    assert is_published(group, "f")
    assert not is_published(group, "g")
    assert not is_published(store / "responses" / "sub-02", "f")
    for name in ("train/betas/c/0/0", "zarr.json", "MANIFEST.json"):
        sound = (group / name).read_bytes()
        (group / name).write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
        assert not is_published(group, "f"), name
        (group / name).write_bytes(sound)


def test_the_digest_is_of_the_content_not_of_what_it_was_made_from(
    tmp_path: Path, store: Path, betas: dict[str, np.ndarray]
) -> None:
    before = Store(store).responses("sub-01").digest
    write_responses(store, betas, fingerprint="another code made the same")
    assert Store(store).responses("sub-01").digest == before
    write_responses(store, {split: values + 1 for split, values in betas.items()})
    assert Store(store).responses("sub-01").digest != before


def test_what_a_kill_leaves_behind_is_no_group(store: Path) -> None:
    shutil.copytree(store / "responses" / "sub-01", store / "responses" / ".sub-01.old")
    assert Store(store).names("responses") == ["sub-01"]
    assert list(verify(store)) == []


def test_absent_things_are_named(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match="no feature store; run 'dvc pull'"):
        Store(tmp_path / "nowhere")
    with pytest.raises(StoreMissing, match="latent: not in .*did you mean 'latents'"):
        Store(store).target("latent")
    with pytest.raises(StoreMissing, match=r"brain2video responses --subject sub-02 -c configs/data.yaml"):
        Store(store).responses("sub-02")


def test_a_sound_store_has_no_finding(store: Path) -> None:
    assert list(verify(store)) == []


@pytest.mark.parametrize("flips", [40, pytest.param(400, marks=pytest.mark.full)])
def test_every_single_bit_flip_is_found_and_never_returned(
    flips: int, store: Path, betas: dict[str, np.ndarray], latents: dict[str, np.ndarray], rng: np.random.Generator
) -> None:
    files = sorted(path for path in store.rglob("*") if path.is_file())
    for _ in range(flips):
        path = files[rng.integers(len(files))]
        sound = path.read_bytes()
        damaged = bytearray(sound)
        damaged[rng.integers(len(sound))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        assert list(verify(store)), f"verify misses a flip in {path.relative_to(store)}"
        try:
            read = Store(store)
            pairs = read.pairs(["sub-01"], "latents", "train", repeats="single")["sub-01"]
            assert np.array_equal(pairs.responses, betas["train"])
            assert np.array_equal(pairs.targets, np.concatenate([latents["train"][::-1]] * 3))
            assert np.array_equal(read.target("latents").values("test")[0][:], latents["test"])
            assert read.responses("sub-01").voxels["roi"].tolist() == ["V1"] * 3 + ["V2"] * 2
        except (StoreCorrupted, StoreMissing):
            pass
        path.write_bytes(sound)


def test_missing_truncated_and_extra_files_are_found(store: Path) -> None:
    group = store / "responses" / "sub-01"
    chunk = group / "train" / "betas" / "c" / "0" / "0"
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[:-8])
    (group / "extra").write_text("x")
    (group / "voxels" / "roi" / "zarr.json").unlink()
    faults = {finding.path.relative_to(group).as_posix(): finding.fault for finding in verify(store)}
    assert faults == {
        "train/betas/c/0/0": f"has {len(sound) - 8} bytes instead of {len(sound)}",
        "extra": "is not in the manifest",
        "voxels/roi/zarr.json": "is missing",
    }
    assert all("dvc checkout" in finding.remedy for finding in verify(store))


def test_an_empty_store_is_a_finding(store: Path) -> None:
    for kind in ("responses", "targets"):
        shutil.rmtree(store / kind)
    assert [finding.fault for finding in verify(store)][-1] == "holds no responses and no targets"


@pytest.mark.parametrize("name", ["", "responses", "responses/sub-01/train", "nowhere", "responses/sub-01/zarr.json"])
def test_what_is_no_store_is_said_to_be_none(store: Path, name: str) -> None:
    path = store / name if name else store.parent
    assert [finding.fault for finding in verify(path)] == [
        "is no feature store and no group of one; expected …/features.zarr"
    ]


def test_a_renamed_group_is_a_finding(store: Path) -> None:
    (store / "responses" / "sub-01").rename(store / "responses" / "sub-02")
    assert [finding.fault for finding in verify(store)] == [
        "was written as subject 'sub-01' and lies as 'sub-02': a folder that was renamed or copied"
    ]


def test_a_second_writer_of_the_same_group_is_refused(store: Path, betas: dict[str, np.ndarray]) -> None:
    before = digest_folder(store)
    with GroupWriter(store, "responses/sub-01", encoding_type="responses", fingerprint="slow", subject="sub-01"):
        for fingerprint in ("slow", "other"):
            with pytest.raises(StoreError, match="sub-01: another run is writing this group; wait for it, or end it"):
                write_responses(store, betas, fingerprint)
        assert digest_folder(store) == before
    write_responses(store, betas)
    assert digest_folder(store) == before
    assert not list((store.parent / ".staging").iterdir())


def test_a_store_on_another_disk_is_staged_there(tmp_path: Path, betas: dict[str, np.ndarray]) -> None:
    elsewhere = tmp_path / "disk" / "mine.zarr"
    elsewhere.mkdir(parents=True)
    (tmp_path / "data").mkdir()
    store = tmp_path / "data" / "features.zarr"
    store.symlink_to(elsewhere)
    for fingerprint in ("one", "two", "three"):
        write_responses(store, betas, fingerprint)
    assert (elsewhere / "responses" / "sub-01" / "MANIFEST.json").is_file()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["features.zarr"]
    (store / "responses" / "sub-01").rename(tmp_path / "disk" / "group")
    (store / "responses" / "sub-01").symlink_to(tmp_path / "disk" / "group")
    for fingerprint in ("four", "five"):
        write_responses(store, betas, fingerprint)
    assert np.array_equal(Store(store).responses("sub-01").values("train")[0], betas["train"])


def test_what_was_staged_outlasts_a_full_disk(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "CHUNK_BYTES", 2 * 3 * 4)
    values, asked = rng.normal(size=(8, 3)).astype("f4"), list[int]()

    def write(full_at: int | None) -> None:
        def rows(start: int, stop: int) -> np.ndarray:
            if start == full_at:
                raise NoSpace("the disk is full")
            asked.append(start)
            return values[start:stop]

        with GroupWriter(tmp_path / "s.zarr", "targets/t", encoding_type="targets", fingerprint="f") as group:
            group.array("train/values", values.shape, "float32", rows, ("stimulus", "x"))

    with pytest.raises(NoSpace):
        write(full_at=4)
    needed: list[int] = []
    monkeypatch.setattr("feature_store.writer.require_space", lambda folder, size: needed.append(size))
    write(full_at=None)
    assert asked == [0, 2, 4, 6]
    assert needed == [2 * 2 * 3 * 4], "room is needed for what is missing only"


def test_a_hard_linked_read_only_file_maps(store: Path, betas: dict[str, np.ndarray]) -> None:
    for path in store.rglob("*"):
        if path.is_file():
            path.chmod(0o444)
    assert np.array_equal(Store(store).responses("sub-01").values("train")[0], betas["train"])
