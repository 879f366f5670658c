"""Responses that were never stored: from a file to videos, the same as the stored ones give, and made again."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigError, RegistryError, SourceError
from core.files import digest_file, read_json
from studies.reconstruction.new import NewFile, reconstruct_file
from studies.reconstruction.provenance import read_provenance
from studies.reconstruction.reproduce import reproduce
from studies.registry.production import resolve_production

from .conftest import Looped


@pytest.fixture
def test_trials(arrays_folder: Path, tmp_path: Path) -> Path:
    """The recorded trials of the test stimuli, as a file that somebody hands over."""
    trials = pd.read_csv(arrays_folder / "sub-01" / "trials.csv")
    rows = (trials["stimulus_id"] >= "s040").to_numpy()
    folder = tmp_path / "handed over"
    folder.mkdir()
    np.save(folder / "new.npy", np.load(arrays_folder / "sub-01" / "responses.npy")[rows])
    trials[rows].to_csv(folder / "trials.csv", index=False)
    return folder / "new.npy"


def test_a_file_gives_the_videos_that_the_store_gives(
    looped: Looped, test_trials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, stored = resolve_production(looped.study), looped.folder
    made = reconstruct_file(looped.study, NewFile(path=test_trials), chosen)
    assert sorted(made.names) == [f"s{index:03d}" for index in range(40, 48)]
    assert made.clips.shape == (8, 1, 6, 6, 3)
    for name in made.names:
        said = read_provenance(made.folder / "videos" / f"{name}.mp4")
        assert said.frames == read_provenance(stored / "videos" / f"{name}.mp4").frames
        assert said.made_from is not None
        assert said.made_from.input.model_dump() == {
            "kind": "file",
            "name": "new.npy",
            "digest": digest_file(test_trials),
        }
    manifest = read_json(made.folder / "manifest.json")
    assert set(manifest["files"]) >= {"captions.csv", "sheet.png", "responses.npy", "trials.csv", "videos/s040.mp4"}
    assert manifest["made_from"]["models"]["versions"] == chosen.versions
    again = reproduce(made.folder / "videos" / "s041.mp4")
    assert (again.identical, again.difference) == (True, "")
    with monkeypatch.context() as patched:
        patched.setattr("studies.reconstruction.new.renderer_of", None)  # what is up to date is not rendered again
        repeated = reconstruct_file(looped.study, NewFile(path=test_trials), chosen)
    assert (repeated.folder, repeated.reference.fresh) == (made.folder, True)
    assert repeated.captions == made.captions
    assert np.array_equal(repeated.clips, made.clips)


def test_trials_without_a_table_are_videos_of_their_own(looped: Looped, test_trials: Path) -> None:
    (test_trials.parent / "trials.csv").unlink()
    made = reconstruct_file(looped.study, NewFile(path=test_trials), resolve_production(looped.study))
    assert made.names[:2] == ["trial-0001", "trial-0002"]
    assert len(made.clips) == 16
    assert any("order of voxels cannot be checked" in note for note in made.notes)


def test_what_an_encoder_cannot_take_is_one_line_and_leaves_nothing(looped: Looped, test_trials: Path) -> None:
    chosen, values = resolve_production(looped.study), np.load(test_trials)
    wrong = [
        (values[:, :-1], r"has the shape \(16, 59\), expected \(trial, voxel\) of 60 voxels"),
        (np.where(np.arange(60) == 7, np.nan, values), "NaN"),
        (1000 * values, "--any-scale"),
    ]
    for content, words in wrong:
        np.save(test_trials, content)
        with pytest.raises(SourceError, match=words):
            reconstruct_file(looped.study, NewFile(path=test_trials), chosen)
    assert not (looped.study.outputs / "new").exists()
    scaled = reconstruct_file(looped.study, NewFile(path=test_trials, check_scale=False), chosen)
    assert "the scale was not checked, as asked" in scaled.notes


def test_sets_without_a_record_of_voxels_and_unknown_subjects_are_refused(looped: Looped, test_trials: Path) -> None:
    chosen = resolve_production(looped.study)
    bare = chosen.model_copy(update={"record": {**chosen.record, "voxels": {}}})
    with pytest.raises(RegistryError, match="no record of the voxels of sub-01; train again"):
        reconstruct_file(looped.study, NewFile(path=test_trials), bare)
    other = looped.study.model_copy(
        update={"reconstruction": looped.study.reconstruction.model_copy(update={"subject": "sub-02"})}
    )
    with pytest.raises(ConfigError, match="knows no 'sub-02'"):
        reconstruct_file(other, NewFile(path=test_trials), chosen)
