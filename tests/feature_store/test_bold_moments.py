"""BOLD Moments: a small dataset with known values reads as declared, and every fault on disk is one clear line."""

import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from core.clips import ClipConfig, write_clip
from core.errors import SourceError, SourceMissing
from core.files import read_json, write_json
from feature_store.sources.bold_moments import (
    ANNOTATIONS,
    BETAS,
    BETAS_KEYS,
    PUBLISHED_SUBJECTS,
    ROI_VOXELS,
    ROIS,
    BoldMoments,
    BoldMomentsConfig,
    Counts,
)
from feature_store.sources.unpickle import load_pickle

COUNTS = Counts(train=4, test=2, train_repeats=3, test_repeats=5)
VOXELS = {"lMT": 2, "rMT": 3}
SHARED = Path(__file__).parents[2].parent / "shared/data/bold-moments"


def betas_of(roi: str, split: str) -> np.ndarray:
    """Each value tells its own address: stimulus · 100 + repetition · 10 + voxel, negative in the right hemisphere."""
    shape = (4, 3, VOXELS[roi]) if split == "train" else (2, 5, VOXELS[roi])
    stimulus, repetition, voxel = np.indices(shape)
    return (stimulus * 100.0 + repetition * 10 + voxel) * (-1 if roi[0] == "r" else 1)


def betas_path(root: Path, roi: str = "lMT") -> Path:
    return root / BETAS.format(subject="sub-03", roi=roi)


def dump(path: Path, value: Any, protocol: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol))


def content(roi: str) -> dict[str, np.ndarray]:
    return {key: betas_of(roi, split) for split, key in BETAS_KEYS.items()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for roi in VOXELS:
        dump(betas_path(tmp_path, roi), content(roi))
    notes = {
        f"{i:04d}": {"set": "train" if i <= 4 else "test", "text_descriptions": [f"caption {i}"], "MiT_url": "…"}
        for i in range(1, 7)
    }
    write_json(tmp_path / ANNOTATIONS, notes)
    for stimulus, note in notes.items():
        clip = tmp_path / f"stimuli/{note['set']}/{stimulus}.mp4"
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.write_bytes(b"")
    return tmp_path


def source(root: Path, **settings: Any) -> BoldMoments:
    return BoldMomentsConfig(path=".", **{"rois": ["MT"], "counts": COUNTS, **settings}).build(root)


def test_declared_voxels() -> None:
    assert sum(map(sum, ROI_VOXELS.values())) == 8335
    assert len(ROIS) == 46
    assert len(PUBLISHED_SUBJECTS) == 10
    counts = Counts()
    assert counts.stimuli("train")[::999] == ["0001", "1000"]
    assert counts.stimuli("test")[::101] == ["1001", "1102"]


def test_responses(root: Path) -> None:
    recording = source(root).responses("sub-03")
    assert list(recording.voxels["roi"]) == ["lMT"] * 2 + ["rMT"] * 3
    assert list(recording.voxels["index"]) == [0, 1, 0, 1, 2]
    train, test = (np.asarray(recording.values[s][slice(None)]) for s in BETAS_KEYS)
    assert (train.shape, test.shape, train.dtype) == ((12, 5), (10, 5), np.float32)
    for row, trial in recording.trials["test"].iterrows():
        address = (int(trial["stimulus"]) - 5) * 100 + trial["repetition"] * 10
        np.testing.assert_array_equal(test[int(str(row))], [address, address + 1, *(-address - v for v in range(3))])
    assert list(recording.trials["train"]["stimulus"][:4]) == ["0001", "0001", "0001", "0002"]


def test_missing_values_are_kept(root: Path) -> None:
    betas = content("lMT")
    betas["train_data_allvoxel"][1, 2, 0] = np.nan
    dump(betas_path(root), betas)
    train = np.asarray(source(root).responses("sub-03").values["train"][slice(None)])
    assert np.argwhere(np.isnan(train)).tolist() == [[5, 0]]


def test_stimuli_and_files(root: Path) -> None:
    reader = source(root)
    stimuli = reader.stimuli()
    assert list(stimuli["stimulus"]) == ["0001", "0002", "0003", "0004", "0005", "0006"]
    assert list(stimuli["split"]) == ["train"] * 4 + ["test"] * 2
    assert stimuli["caption"][5] == ["caption 6"]
    assert len(reader.stimulus_files()) == 7
    assert [path.name[7:14] for path in reader.response_files("sub-03")] == ["roi-lMT", "roi-rMT"]
    assert reader.target("clip") is None


def test_clip(root: Path) -> None:
    shade = np.full((4, 64, 64, 3), 128, dtype=np.uint8)
    write_clip(root / "stimuli/test/0005.mp4", shade, 2, min_side=64)
    clip = source(root).clip("0005", ClipConfig(frames=2, height=8, width=8, window_s=2))
    assert clip is not None
    assert clip.shape == (2, 8, 8, 3)
    assert abs(int(clip.mean()) - 128) <= 3
    with pytest.raises(SourceError, match="stimulus '0007': not one of this dataset's"):
        source(root).clip("0007", ClipConfig())


def test_clips_elsewhere_or_nowhere(root: Path) -> None:
    (root / "stimuli").rename(root / "elsewhere")
    assert len(source(root, stimuli="elsewhere").stimulus_files()) == 7
    assert source(root).stimulus_files() == [root / ANNOTATIONS]
    with pytest.raises(SourceMissing, match=r"OpenNeuro does not hold the clips; .* set source.stimuli"):
        source(root).clip("0001", ClipConfig())


def test_rois() -> None:
    def chosen(*names: str) -> tuple[str, ...]:
        return BoldMomentsConfig(path=".", rois=list(names)).build(Path.cwd()).rois

    assert chosen("lEBA", "V1v", "rEBA", "EBA") == ("lEBA", "lV1v", "rV1v", "rEBA")
    assert BoldMomentsConfig(path=".").build(Path.cwd()).rois == ROIS
    with pytest.raises(SourceError, match="no ROI 'V1w' in BOLD Moments; did you mean 'V1v'"):
        chosen("V1w")


def rewrite_notes(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    notes = read_json(root / ANNOTATIONS)
    change(notes)
    write_json(root / ANNOTATIONS, notes)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def unlinked(path: Path) -> None:
    path.unlink()
    path.symlink_to("../.git/annex/objects/absent")


def read_all(root: Path) -> None:
    reader = source(root)
    reader.stimuli()
    reader.stimulus_files()
    for subject in reader.subjects:
        reader.responses(subject)


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut": (lambda r: cut(betas_path(r)), r"roi-lMT_betas_normalized.pkl: cut short or no pickle .* fetch the file"),
    "shape": (
        lambda r: dump(betas_path(r), {**content("lMT"), "test_data_allvoxel": np.zeros((3, 5, 2))}),
        r"test_data_allvoxel has shape \(3, 5, 2\) of float64, expected \(2, 5, 2\)",
    ),
    "voxels": (
        lambda r: dump(betas_path(r), {**content("lMT"), "test_data_allvoxel": np.zeros((2, 5, 9))}),
        r"has shape \(2, 5, 9\) of float64, expected \(2, 5, 2\)",
    ),
    "type": (
        lambda r: dump(betas_path(r), {**content("lMT"), "train_data_allvoxel": np.zeros((4, 3, 2), "U3")}),
        "of <U3, expected",
    ),
    "key": (lambda r: dump(betas_path(r), {"x": 1}), r"lacks train_data_allvoxel, test_data_allvoxel \(found: x\)"),
    "list": (lambda r: dump(betas_path(r), [1]), r"lacks train_data_allvoxel, test_data_allvoxel \(found: list\)"),
    "roi": (lambda r: betas_path(r, "rMT").unlink(), "roi-rMT.*: no such file; download it, or name the regions"),
    "annex": (lambda r: unlinked(betas_path(r)), r"a link without its content \(git-annex\); run 'datalad get "),
    "clip annex": (lambda r: unlinked(r / "stimuli/test/0005.mp4"), "run 'datalad get .*0005.mp4'"),
    "clip": (lambda r: (r / "stimuli/train/0002.mp4").unlink(), "train/0002.mp4: no such file; fetch the clips"),
    "both": (
        lambda r: (r / "stimuli/test/0002.mp4").write_bytes(b""),
        r"test/0002.mp4: clip 0002 is a train clip, expected in train/ only",
    ),
    "fewer notes": (
        lambda r: rewrite_notes(r, lambda notes: notes.pop("0004")),
        r"5 annotations, expected 6 as the responses have \(first that differs: 0004\)",
    ),
    "more notes": (
        lambda r: rewrite_notes(r, lambda notes: notes.update({"0007": {}})),
        r"7 annotations, expected 6 .*: 0007\)",
    ),
    "set": (
        lambda r: rewrite_notes(r, lambda notes: notes["0004"].update(set="test")),
        "'0004' has set 'test', expected 'train'",
    ),
    "json": (lambda r: (r / ANNOTATIONS).write_text("{"), "annotations.json: no JSON"),
    "no notes": (lambda r: (r / ANNOTATIONS).unlink(), "annotations.json: no such file; download derivatives"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_on_disk(root: Path, name: str) -> None:
    spoil, message = FAULTS[name]
    read_all(root)
    spoil(root)
    with pytest.raises(SourceError, match=message) as caught:
        read_all(root)
    assert "\n" not in str(caught.value)


def test_absent_folder_and_subjects(root: Path) -> None:
    with pytest.raises(SourceMissing, match="nowhere: no such folder; expected BOLD Moments"):
        source(root / "nowhere")
    with pytest.raises(SourceMissing, match="sub-04: no such subject; found sub-03"):
        _ = source(root, subjects=[3, 4]).subjects
    with pytest.raises(SourceMissing, match="sub-04: no such subject"):
        source(root).responses("sub-04")
    with pytest.raises(SourceMissing, match="prepared_allvoxel_pkl: no subject; expected folders sub-01"):
        _ = source(root / "stimuli").subjects
    assert source(root, subjects=[3]).subjects == ["sub-03"]


def test_published_counts_hold_the_voxels_too(root: Path) -> None:
    """With the published counts a file of another number of voxels is refused."""
    wrong = {"train_data_allvoxel": np.zeros((1000, 3, 1)), "test_data_allvoxel": np.zeros((102, 10, 1))}
    dump(betas_path(root), wrong)
    with pytest.raises(SourceError, match=r"has shape \(1000, 3, 1\) of float64, expected \(1000, 3, 38\)"):
        source(root, rois=["lMT"], counts=Counts()).responses("sub-03")


def test_published_annotations(tmp_path: Path) -> None:
    release = SHARED / "annotations-early-release.json"
    if not release.exists():
        pytest.skip(f"{release}: the published annotations are not here")
    notes = read_json(release)
    newer = {stimulus: {**note, "THINGS": {"label": ["dog"]}} for stimulus, note in notes.items()}
    for published in (notes, newer):
        write_json(tmp_path / ANNOTATIONS, published)
        stimuli = BoldMomentsConfig(path=".").build(tmp_path).stimuli()
        assert list(stimuli["split"]) == ["train"] * 1000 + ["test"] * 102
        assert stimuli["caption"].map(len).eq(5).all()
        assert stimuli["caption"][0][0] == "A duck is swimming in a lake searching for food"


class Hostile:
    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("call", [os.system, eval, exec, getattr, np.load], ids=lambda call: call.__name__)
def test_hostile_pickles_are_refused(tmp_path: Path, call: Callable[..., Any], protocol: int) -> None:
    path = tmp_path / "hostile.pkl"
    bait = tmp_path / "bait"
    nested = {"train_data_allvoxel": [np.zeros(3), Hostile(call, f"touch {bait}")]}
    dump(path, nested, protocol)
    with pytest.raises(SourceError, match=r"refused: the pickle asks for '.*', expected numpy arrays only") as caught:
        load_pickle(path)
    assert "\n" not in str(caught.value)
    assert not bait.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.asarray([None, 1], dtype=object), "arrays of type 'O8' are not read"),
        (Hostile(np.ndarray, (1,), "f8", b"12345678"), "not callable"),
        (Hostile(np.dtype, "V8"), "arrays of type 'V8' are not read"),
    ],
)
def test_arrays_that_could_reach_memory_are_refused(tmp_path: Path, value: Any, message: str) -> None:
    dump(tmp_path / "a.pkl", value)
    with pytest.raises(SourceError, match=message):
        load_pickle(tmp_path / "a.pkl")


@given(
    hnp.arrays(
        st.sampled_from(["<f8", ">f8", "<f4", "i2", "?", "c16", "<U3", "S4"]), hnp.array_shapes(min_dims=0, min_side=0)
    ),
    st.integers(0, 5),
    st.booleans(),
)
def test_arrays_round_trip(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, protocol: int, fortran: bool
) -> None:
    path = tmp_path_factory.mktemp("pickles") / "a.pkl"
    array = np.asfortranarray(array) if fortran and array.ndim else array
    dump(path, {"array": array, "more": (1, None, "text", b"\xff", True, [2.5])}, protocol)
    read = load_pickle(path)
    np.testing.assert_array_equal(np.asarray(read["array"]), array)
    assert read["array"].dtype == pickle.loads(pickle.dumps(array, protocol)).dtype
    assert read["more"] == (1, None, "text", b"\xff", True, [2.5])


@pytest.mark.parametrize("protocol", [2, 5])
def test_numpy_1_and_2_paths(tmp_path: Path, protocol: int) -> None:
    written = pickle.dumps([np.arange(3.0), np.float64(2.5)], protocol)
    assert b"numpy._core" in written
    if protocol == 2:  # later protocols frame names by their length
        written = written.replace(b"numpy._core", b"numpy.core")
    (tmp_path / "a.pkl").write_bytes(written)
    array, number = load_pickle(tmp_path / "a.pkl")
    assert (array.tolist(), number) == ([0.0, 1.0, 2.0], 2.5)


@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_source_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "a.pkl"
    path.write_bytes(data)
    with suppress(SourceError):  # and nothing else
        load_pickle(path)


def test_absent_pickle(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="no such file; expected a pickle"):
        load_pickle(tmp_path / "a.pkl")
