"""Safetensors files written and read one tensor at a time: the same bytes, the same values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load_file, save_file

from core.errors import ModelError
from models.decoders.build import fit_encoder, fit_regressors, load_encoder, load_regressor, save_part
from models.decoders.rows import BrainRows
from models.encoders.settings import MbmConfig, PcaConfig, StandardiseConfig
from models.regressors.settings import RidgeConfig
from models.weights import tensor_file
from models.weights.tensor_file import TYPES, LazyMapping, SpillingTensorStore, TensorFile, write_tensors

from .nonlinear import Problem, tiny_mlp, tiny_residual

NAMES = st.text('abc.é"\\ \n0', min_size=1, max_size=6)
ANY = st.sampled_from(list(TYPES)).flatmap(
    lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@settings(deadline=None)
@given(tensors=st.dictionaries(NAMES, ANY, max_size=6))
def test_files_are_those_of_safetensors(tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("tensors")
    write_tensors(folder / "ours", tensors)
    save_file(tensors, folder / "theirs")
    assert (folder / "ours").read_bytes() == (folder / "theirs").read_bytes()
    read = TensorFile(folder / "ours")
    assert set(read) == set(tensors)
    for name, values in tensors.items():
        assert (read[name].dtype, read[name].shape) == (values.dtype, values.shape)
        assert read[name].tobytes() == values.tobytes()


def test_what_is_not_in_order_is_written_in_order(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.normal(size=(6, 4)).astype("f4")
    write_tensors(tmp_path / "t", {"turned": values.T, "some": values[::2], "big": values.astype(">f4")})
    for read in (load_file(tmp_path / "t"), TensorFile(tmp_path / "t")):
        assert np.array_equal(read["turned"], values.T)
        assert np.array_equal(read["some"], values[::2])
        assert np.array_equal(read["big"], values)


def test_a_file_may_leave_its_folder_once_it_is_open(tmp_path: Path) -> None:
    write_tensors(tmp_path / "t", {"a": np.arange(5)})
    read = TensorFile(tmp_path / "t")
    (tmp_path / "t").unlink()
    assert np.array_equal(read["a"], np.arange(5))
    with pytest.raises(ValueError, match="read-only"):
        read["a"][0] = 1


@pytest.mark.parametrize("cut", [4, 30, -1])
def test_a_file_that_was_cut_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    monkeypatch.setattr(tensor_file, "LOADED_BYTES", 0)
    tensor_file.save_weights(tmp_path / "e", {}, {"a": np.arange(5)})
    file = tmp_path / "e" / tensor_file.TENSORS
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ModelError, match="e: not a model of this project"):
        tensor_file.load_weights(tmp_path / "e")


def test_a_store_keeps_the_first_ones_in_memory_and_the_others_on_disk(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_file, "MEMORY_BYTES", 100)
    tensors = {"a": rng.normal(size=10), "b": rng.normal(size=(3, 7)), "c": np.empty((0, 3)), "d": np.ones(40, bool)}
    kept = SpillingTensorStore(tmp_path / "scratch")
    for name, values in tensors.items():
        kept.put({name: values})
    assert list(tmp_path.rglob("*")) == [tmp_path / "scratch"], "the file has no name, and a kill leaves none"
    assert kept["a"] is tensors["a"]
    assert kept["b"] is not tensors["b"]
    assert sorted(kept) == sorted(tensors)
    assert len(kept) == 4
    for name, values in tensors.items():
        assert kept[name].dtype == values.dtype
        assert np.array_equal(kept[name], values)
    with pytest.raises(KeyError):
        kept["e"]


def test_what_is_made_by_subject_knows_its_subjects_alone() -> None:
    made = LazyMapping(["a", "b"], lambda subject: subject * 2)
    assert dict(made) == {"a": "aa", "b": "bb"}
    assert len(made) == 2
    assert "c" not in made


@pytest.mark.parametrize(
    "config",
    [
        StandardiseConfig(),
        PcaConfig(components=5),
        MbmConfig(patch=2, width=8, heads=2, decoder_width=8, pretraining=None, alignment=None),
    ],
    ids=lambda config: str(config.kind),
)
def test_encoders_are_the_same_in_memory_and_on_disk(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, config: Any
) -> None:
    rows = {name: BrainRows(rng.normal(size=(20, 12)).astype("f4"), [f"s{i}" for i in range(20)]) for name in "ab"}
    within = fit_encoder(config, rows)
    monkeypatch.setattr(tensor_file, "MEMORY_BYTES", 0)
    outside = fit_encoder(config, rows)
    digest = save_part(tmp_path / "within", within)
    assert save_part(tmp_path / "outside", outside) == digest
    monkeypatch.setattr(tensor_file, "LOADED_BYTES", 0)
    again = load_encoder(tmp_path / "outside")
    for name, one in rows.items():
        expected = within.encode(name, one.responses[:])
        for other in (outside, again):
            assert other.widths == within.widths
            assert np.array_equal(other.encode(name, one.responses[:]), expected)
    assert save_part(tmp_path / "again", again) == digest


@pytest.mark.parametrize(
    "config",
    [
        RidgeConfig(),
        RidgeConfig(components=4, repeats="single"),
        tiny_mlp(steps=5),
        tiny_residual(steps=5),
    ],
    ids=["ridge", "components", "mlp", "residual"],
)
def test_regressors_are_the_same_in_memory_and_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Any
) -> None:
    train = Problem(stimuli=40, voxels={"a": 12, "b": 9}).rows()
    within = fit_regressors(config, {"z": ("bent", train)})["z"]
    monkeypatch.setattr(tensor_file, "MEMORY_BYTES", 0)
    outside = fit_regressors(config, {"z": ("bent", train)})["z"]
    digest = save_part(tmp_path / "within", within)
    assert save_part(tmp_path / "outside", outside) == digest
    monkeypatch.setattr(tensor_file, "LOADED_BYTES", 0)
    again = load_regressor(tmp_path / "outside")
    for name, one in train.items():
        expected = within.predict(name, one.features)
        for other in (outside, again):
            assert np.array_equal(other.predict(name, one.features), expected)
    assert save_part(tmp_path / "again", again) == digest
