"""The written dataset is what its source reads, the same bytes each time, and never replaces anything unasked."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from core.clips import ClipConfig
from core.errors import SourceError
from core.files import digest_folder, read_json
from core.progress import listening
from feature_store.sources.bold_moments.dataset import BoldMoments, BoldMomentsConfig
from feature_store.sources.bold_moments.layout import ROIS
from simulation.world import SimulationConfig, render
from simulation.write import counts_of, shown, simulate


@pytest.fixture(scope="module")
def source(tiny: SimulationConfig, dataset: Path) -> BoldMoments:
    return BoldMomentsConfig(path=dataset.name, counts=counts_of(tiny)).build(dataset.parent)


def test_same_config_same_bytes(tiny: SimulationConfig, dataset: Path, tmp_path: Path) -> None:
    assert digest_folder(simulate(tiny, tmp_path / "again")) == digest_folder(dataset)
    other = tiny.model_copy(update={"seed": 4})
    assert digest_folder(simulate(other, tmp_path / "other")) != digest_folder(dataset)


def test_the_source_reads_it(source: BoldMoments, tiny: SimulationConfig) -> None:
    assert source.subjects == ["sub-01", "sub-02"]
    stimuli = source.stimuli()
    assert list(stimuli["stimulus"]) == [f"{i:04d}" for i in range(1, 19)]
    assert list(stimuli["split"]) == ["train"] * 12 + ["test"] * 6
    assert stimuli["caption"].map(len).eq(5).all()
    sizes = set()
    for subject in source.subjects:
        recording = source.responses(subject)
        sizes.add(len(recording.voxels))
        assert recording.values["train"].shape == (36, len(recording.voxels))
        assert recording.values["test"].shape == (24, len(recording.voxels))
        assert list(recording.voxels["roi"].unique()) == list(ROIS)
    assert len(sizes) == 2


def test_clips_show_the_annotated_combinations(source: BoldMoments, tiny: SimulationConfig, dataset: Path) -> None:
    combinations, jitter = shown(tiny)
    drawn = render(combinations, jitter, tiny.clips.frames, tiny.clips.side, tiny.clips.side)
    stimuli = source.stimuli()
    notes = read_json(dataset / "derivatives/stimuli_metadata/annotations.json")
    config = ClipConfig(frames=tiny.clips.frames, height=32, width=32, window_s=tiny.clips.frames / tiny.clips.fps)
    for row in (0, 11, 12, 17):
        name = stimuli["stimulus"][row]
        assert stimuli["caption"][row] == combinations[row].captions()
        assert notes[name]["attributes"] == vars(combinations[row])
        clip = source.clip(name, config)
        assert clip is not None
        luminance = np.asarray([0.3, 0.59, 0.11])
        assert np.abs((clip - drawn[row].astype(float)) @ luminance).mean() < 6  # what H.264 loses
    assert {c.pool for c in combinations[:12]} == {"train"}
    assert {c.pool for c in combinations[12:]} == {"test"}


def test_second_call_returns_at_once(tiny: SimulationConfig, dataset: Path) -> None:
    reports: list[str] = []
    with listening(lambda what, done, total, note: reports.append(what)):
        assert simulate(tiny, dataset) == dataset
    assert not reports


def test_lost_file_is_written_again(tiny: SimulationConfig, dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    (copy / "stimuli/train/0003.mp4").unlink()
    simulate(tiny, copy)
    assert digest_folder(copy) == digest_folder(dataset)


def test_other_config_is_refused_unless_replaced(tiny: SimulationConfig, dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    other = tiny.model_copy(update={"seed": 4})
    with pytest.raises(SourceError, match=r"holds a simulation with seed = 3, expected 4; replace it"):
        simulate(other, copy)
    assert digest_folder(copy) == digest_folder(dataset)
    simulate(other, copy, replace=True)
    assert read_json(copy / "dataset_description.json")["SimulatedBy"]["Config"]["seed"] == 4


def test_foreign_folder_is_never_replaced(tiny: SimulationConfig, tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("years of work")
    with pytest.raises(SourceError, match="holds files that no simulation wrote"):
        simulate(tiny, tmp_path, replace=True)
    assert precious.read_text() == "years of work"


def test_interrupted_run_leaves_nothing(
    tiny: SimulationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simulation.write.write_clips", lambda *_: None)
    monkeypatch.setattr("simulation.write._write_betas", fail)
    with pytest.raises(KeyboardInterrupt):
        simulate(tiny, tmp_path / "dataset")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["{", "[]", '{"SimulatedBy": 3}', "null"])
def test_a_description_of_something_else_is_refused(tiny: SimulationConfig, tmp_path: Path, content: str) -> None:
    (tmp_path / "dataset_description.json").write_text(content)
    with pytest.raises(SourceError, match="holds files that no simulation wrote; choose another folder"):
        simulate(tiny, tmp_path)
