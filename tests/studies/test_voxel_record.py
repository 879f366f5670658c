"""What training remembers of a subject's voxels: their number, order and scale."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import studies.decoding.voxel_record
from core.errors import SourceError
from core.files import read_json, write_json
from feature_store.schema import decode_column, encode_column
from feature_store.sources.base import read_csv
from models.decoders.rows import BrainRows
from models.encoders.linear import Pca, Standardise
from models.encoders.settings import PcaConfig, StandardiseConfig
from studies.decoding.voxel_record import VoxelOrder, VoxelRecord, VoxelScale, record_voxels

from .known_responses import Known, read, save, scale_of

# The record


@pytest.mark.parametrize("block", [1, 7 * 8 * 60, 2**26], ids=["one trial", "seven trials", "all at once"])
def test_statistics_by_blocks_are_numpys(known: Known, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(studies.decoding.voxel_record, "BLOCK_BYTES", block)
    record = record_voxels(known.store, "sub-01", None)
    rows = np.delete(known.train.astype(np.float64), [7, 40], axis=1)
    assert record.left_out == 2
    for spread, values in ((record.mean, rows.mean(axis=0)), (record.sd, rows.std(axis=0))):
        wanted = np.quantile(values, (0.05, 0.5, 0.95))
        np.testing.assert_allclose((spread.low, spread.median, spread.high), wanted, rtol=1e-8)
    np.testing.assert_allclose((record.centre, record.spread), (rows.mean(), rows.std()), rtol=1e-8)


def test_a_record_says_how_many_voxels_there_are_and_on_which_scale(known: Known) -> None:
    record = record_voxels(known.store, "sub-01", None)
    rows = np.delete(known.train.astype(np.float64), [7, 40], axis=1)
    assert (record.voxels, record.stored_voxels, record.time_points, record.left_out) == (60, 60, None, 2)
    assert (record.trials, record.affine, record.described) == (80, None, {"source": "arrays"})
    assert record.sd.median == pytest.approx(np.median(rows.std(axis=0)))
    assert record.mean.high == pytest.approx(np.quantile(rows.mean(axis=0), 0.95))
    assert (record.centre, record.spread) == (pytest.approx(rows.mean()), pytest.approx(rows.std()))
    assert (known.record.voxels, known.record.stored_voxels, known.record.left_out) == (30, 60, 1)


def test_a_record_counts_the_trials_that_training_takes(known: Known) -> None:
    stimuli = sorted(set(known.group.view("train")[1]))[:10]
    record = record_voxels(known.store, "sub-01", None, stimuli)
    taken = known.train[[name in stimuli for name in known.group.view("train")[1]]].astype(np.float64)
    assert record.trials == len(taken) == 20
    assert record.spread == pytest.approx(np.delete(taken, [7, 40], axis=1).std())


def test_a_record_comes_back_from_json(known: Known, tmp_path: Path) -> None:
    write_json(tmp_path / "record.json", {"sub-01": known.record.model_dump(mode="json")})
    assert (tmp_path / "record.json").stat().st_size < 3000
    again = VoxelRecord.model_validate(read_json(tmp_path / "record.json")["sub-01"])
    assert again == known.record
    known.table.iloc[known.v1][::-1].to_csv(tmp_path / "voxels.csv", index=False)
    with pytest.raises(SourceError, match="the same voxels in another order"):
        read(known, save(tmp_path, known.new), record=again)


NAME = st.text("abVX019 +-_,\"'é", min_size=1, max_size=6).filter(lambda text: text.strip() == text)
WHOLE, MM = st.integers(0, 2**31 - 1), st.floats(-500, 500, width=32)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_table_and_its_csv_have_one_digest(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))

    def column(of: st.SearchStrategy[Any]) -> list[Any]:
        return data.draw(st.lists(of, min_size=count, max_size=count))

    table = pd.DataFrame({"roi": column(NAME), "hemisphere": column(st.sampled_from(["l", "r", ""]))})
    table = table.assign(**{name: np.array(column(MM | st.just(np.nan)), np.float32) for name in "xyz"})
    if data.draw(st.booleans()):
        table = table.assign(**{name: np.array(column(WHOLE), np.int32) for name in "ijk"})
    file = tmp_path_factory.mktemp("csv") / "voxels.csv"
    table.assign(ncsnr_train=0.1).to_csv(file, index=False)
    order = VoxelOrder.of(table)
    stored = {name: decode_column(*encode_column(table[name])) for name in table}
    assert order == VoxelOrder.of(pd.DataFrame(stored))
    assert order == VoxelOrder.of(read_csv(file, []))
    assert order == VoxelOrder.of(
        pd.read_csv(file, dtype={"roi": str}, keep_default_na=False, na_values={"x": "", "y": "", "z": ""})
    )
    turned = VoxelOrder.of(table[::-1])
    assert turned.unordered == order.unordered
    assert (turned.digest == order.digest) == (
        table[::-1].reset_index(drop=True)[list(order.columns)].equals(table[list(order.columns)])
    )


@pytest.mark.parametrize("kind", ["standardise", "pca"])
def test_an_encoders_own_scale_is_that_of_the_store(known: Known, kind: str) -> None:
    rows = {"sub-01": BrainRows(known.train, known.group.view("train")[1])}
    fitted = Standardise.fit(StandardiseConfig(), rows) if kind == "standardise" else Pca.fit(PcaConfig(), rows)
    scale, expected = VoxelScale.of_encoder(fitted, "sub-01"), scale_of(known.group)
    assert scale is not None
    np.testing.assert_array_equal(scale.kept, expected.kept)
    np.testing.assert_allclose(scale.sd[scale.kept], expected.sd[scale.kept], rtol=1e-5)
    told, read_again = (
        record_voxels(known.store, "sub-01", None, scale=scale),
        record_voxels(known.store, "sub-01", None),
    )
    assert told.spread == pytest.approx(read_again.spread, rel=1e-6)
    assert (
        told.model_copy(update={name: getattr(read_again, name) for name in ("mean", "sd", "centre", "spread")})
        == read_again
    )
    assert VoxelScale.of_encoder(fitted, "sub-02") is None
    assert VoxelScale.of_encoder(object(), "sub-01") is None
