"""A video says what it was made from, explains itself, and is made again to the same bytes or not at all."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from core.checkout import project_root as home_folder
from core.clips import read_metadata, write_clip
from core.errors import RegistryError, SourceError, SourceMissing
from core.files import digest_file
from studies.reconstruction.provenance import digest_frames, portable, read_provenance, write_video
from studies.reconstruction.reproduce import explain, reproduce
from studies.stores.responses import ingest
from studies.study import Study

from .conftest import Looped, loop


@pytest.fixture
def run(looped: Looped) -> Path:
    """A reconstruction's folder, which is only read."""
    return looped.folder


@pytest.fixture
def own(study: Study) -> Path:
    """Another, of the test's own."""
    return home_folder() / loop(study).folder


def test_a_video_carries_what_it_was_made_from(run: Path) -> None:
    video = run / "videos" / "s042.mp4"
    tags = read_metadata(video)
    assert tags["title"] == "small: stimulus s042 reconstructed from sub-01"
    said = read_provenance(video)
    assert (said.study, said.stimulus, said.role) == ("small", "s042", "reconstruction")
    assert said.made_from is not None
    assert said.made_from.models.versions == {"encoder": 1, "regressor-z": 1}
    assert said.made_from.input.name == "responses/sub-01"
    assert set(said.made_from.extractors) == {"pixels"}
    assert read_provenance(run / "seen" / "s042.mp4").made_from is None
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["made_from"]["models"]["digests"] == said.made_from.models.digests
    assert manifest["files"]["videos/s042.mp4"] == digest_file(video)


def test_nothing_of_the_time_or_the_place_travels_in_a_video(looped: Looped, run: Path) -> None:
    comment = read_metadata(run / "videos" / "s042.mp4")["comment"]
    for words in (str(home_folder()), str(home_folder().parent), run.name, "sqlite", "/tmp"):
        assert words not in comment, words
    assert portable(looped.study)["source"]["path"] == "recordings"


def test_the_same_clip_with_the_same_words_has_the_same_bytes(run: Path, tmp_path: Path) -> None:
    said = read_provenance(run / "videos" / "s042.mp4")
    clip = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3)).astype(np.uint8)
    for name in ("one", "two"):
        write_video(tmp_path / f"{name}.mp4", clip, said)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    other = said.model_copy(update={"frames": digest_frames(clip)})
    write_video(tmp_path / "three.mp4", clip, other)
    assert (tmp_path / "three.mp4").read_bytes() != (tmp_path / "one.mp4").read_bytes()
    assert read_provenance(tmp_path / "three.mp4") == other


def test_a_video_is_made_again_to_the_same_bytes(run: Path, tmp_path: Path) -> None:
    video = run / "videos" / "s044.mp4"
    made = reproduce(video)
    assert (made.identical, made.difference, made.notes) == (True, "", [])
    assert made.output.read_bytes() == video.read_bytes()
    assert made.output != video
    moved = tmp_path / "elsewhere.mp4"
    shutil.copyfile(video, moved)
    assert reproduce(moved, tmp_path / "again.mp4").identical
    manifest = run / "manifest.json"
    for output, said in (
        (video, "is a video of a run, which is never overwritten"),
        (run / "another.mp4", "is a video of a run, which is never overwritten"),
        (manifest, "is no name of an mp4"),
        (tmp_path, "is no name of an mp4"),
        (manifest / "again.mp4", "a file lies where its folder would be"),
    ):
        with pytest.raises(SourceError, match=said):
            reproduce(video, output)


def test_an_edited_video_is_told_from_the_one_that_was_written(own: Path) -> None:
    video = own / "videos" / "s044.mp4"
    content = bytearray(video.read_bytes())
    content[-40] ^= 1
    video.write_bytes(content)
    made = reproduce(video)
    assert not made.identical
    assert made.difference
    assert "the video's file: differs from its manifest" in made.notes
    assert ("file", "differs from its manifest") in explain(video)


def test_other_models_or_responses_are_refused(study: Study, own: Path, arrays_folder: Path, home: Path) -> None:
    video = own / "videos" / "s044.mp4"
    weights = next(path for path in (home / "mlflow").rglob("regressor-z/model.safetensors"))
    sound = weights.read_bytes()
    weights.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    with pytest.raises(RegistryError, match="small-regressor-z v1: its files are not those that were registered"):
        reproduce(video)
    weights.write_bytes(sound)
    responses = arrays_folder / "sub-01" / "responses.npy"
    np.save(responses, np.load(responses) + 1)
    ingest(study, "sub-01")
    with pytest.raises(SourceError, match=r"was made with responses/sub-01 \w{12}, here is \w{12}; run 'dvc"):
        reproduce(video)
    assert not (study.outputs / "reproduced").exists(), "what is refused leaves nothing"


def test_what_was_seen_is_no_reconstruction(run: Path) -> None:
    with pytest.raises(SourceError, match="shows stimulus s044 as it was seen; name a reconstruction"):
        reproduce(run / "seen" / "s044.mp4")
    assert ("shows", "what was seen") in explain(run / "seen" / "s044.mp4")


def test_a_video_explains_itself(run: Path, tmp_path: Path) -> None:
    told = dict(explain(run / "videos" / "s044.mp4"))
    assert told["encoder"].startswith("v1 (")
    assert told["encoder"].endswith("in production")
    assert told["generator"] == "none: z is decoded directly"
    assert told["file"] == "as written"
    moved = tmp_path / "moved.mp4"
    shutil.copyfile(run / "videos" / "s044.mp4", moved)
    assert dict(explain(moved))["file"] == "no manifest beside it"


def test_foreign_files_are_one_line(tmp_path: Path) -> None:
    write_clip(tmp_path / "foreign.mp4", np.zeros((4, 16, 16, 3), np.uint8), 3.0)
    (tmp_path / "notes.mp4").write_text("no video at all")
    with pytest.raises(SourceError, match="foreign.mp4: carries no provenance"):
        explain(tmp_path / "foreign.mp4")
    with pytest.raises(SourceError, match=r"notes.mp4"):
        explain(tmp_path / "notes.mp4")
    with pytest.raises(SourceMissing, match="none.mp4: no such video"):
        explain(tmp_path / "none.mp4")
