"""Encodings: a reader for each, by type and version; what was written by version 1 is read by every later program."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from core.errors import StoreCorrupted, StoreError
from core.files import read_json, write_json
from feature_store import Responses, Store, schema, verify
from feature_store.manifest import write_manifest
from feature_store.reader import Group
from feature_store.schema import reader_of, reads

VERSION_1 = Path(__file__).parent / "written_by_version_1" / "features.zarr"
"""A store as this project wrote it in encoding version 1; it stays as it is for good."""


def relabel(group: Path, name: str, **attributes: str) -> None:
    """Give a group of a published group another encoding, and publish that."""
    node = read_json(group / name)
    node["attributes"] = {**node["attributes"], **{key.replace("_", "-"): value for key, value in attributes.items()}}
    write_json(group / name, node)
    write_manifest(group, "f", {})


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that a test registers are gone after it."""
    monkeypatch.setattr(schema, "_READERS", dict(schema._READERS))


def test_a_store_of_version_1_is_read_for_good() -> None:
    assert list(verify(VERSION_1)) == []
    store = Store(VERSION_1)
    responses = store.responses("sub-01")
    values, stimuli = responses.values("train")
    assert np.array_equal(values, np.arange(12, dtype="f4").reshape(4, 3))
    assert stimuli == ["a", "b", "a", "b"]
    windows, _ = store.responses("sub-02").values("test")
    assert np.array_equal(windows, np.arange(12, dtype="f4").reshape(2, 2, 3)), "compressed windows"
    assert list(responses.voxels["roi"]) == ["lV1v", "lV1v+lEBA", "none"]
    assert responses.attributes["source"] == "arrays"
    latents, names = store.target("latents").values("train")
    assert np.array_equal(latents[:], np.arange(8, dtype="f2").reshape(2, 2, 2))
    assert names == ["a", "b"]
    assert store.target("latents").stimuli("train")["caption"].tolist() == [["ein Käfer", "a beetle"], []]
    part = store.pairs(["sub-01"], "latents", "train")["sub-01"]
    assert np.array_equal(part.responses, [[3, 4, 5], [6, 7, 8]])


def test_a_later_version_is_read_by_its_own_reader(store: Path, registered: None) -> None:
    @reads("responses", "2")
    class Later(Responses):
        pass

    relabel(store / "responses" / "sub-01", "zarr.json", encoding_version="2")
    assert type(Store(store).responses("sub-01")) is Later
    assert isinstance(Store(store).target("latents"), Group)


def test_an_encoding_that_nobody_reads_is_named(store: Path) -> None:
    group = store / "responses" / "sub-01"
    relabel(group, "zarr.json", encoding_version="9")
    with pytest.raises(
        StoreError, match="written as 'responses' in encoding version 9; this program reads responses 1; "
    ):
        Store(store).responses("sub-01")
    relabel(group, "zarr.json", encoding_type="dreams")
    with pytest.raises(StoreError, match="written as 'dreams' .* this program knows no 'dreams'; upgrade brain2video"):
        Store(store).responses("sub-01")
    relabel(group, "zarr.json", encoding_type="targets", encoding_version="1")
    with pytest.raises(StoreError, match="holds targets, expected responses"):
        Store(store).responses("sub-01")


def test_tables_have_encodings_of_their_own(store: Path) -> None:
    group = store / "responses" / "sub-01"
    relabel(group, "voxels/zarr.json", encoding_version="9")
    with pytest.raises(StoreError, match="voxels: written as 'table' in encoding version 9"):
        _ = Store(store).responses("sub-01").voxels


def test_every_group_says_its_encoding(store: Path) -> None:
    for file in store.rglob("zarr.json"):
        node = read_json(file)
        if node["node_type"] == "group":
            assert node["attributes"]["encoding-version"] == "1", file
            assert node["attributes"]["encoding-type"], file


def test_an_edited_encoding_is_damage(store: Path) -> None:
    file = store / "responses" / "sub-01" / "zarr.json"
    file.write_text(file.read_text().replace('"1"', '"2"'))
    with pytest.raises(StoreCorrupted, match="zarr.json: is missing or not as published"):
        Store(store).responses("sub-01")
    shutil.rmtree(file.parent / "voxels")
    with pytest.raises(StoreCorrupted):
        Store(store).responses("sub-01")


def test_a_group_without_a_known_reader_has_none(tmp_path: Path) -> None:
    write_json(tmp_path / "zarr.json", {"attributes": {}})
    with pytest.raises(StoreError, match="written as 'None' in encoding version None; this program knows no 'None'"):
        reader_of(tmp_path)
