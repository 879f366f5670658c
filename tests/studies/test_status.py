"""Status: how fresh the stores are, what is remembered to tell it quickly, and what the last runs gave."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from core import digests
from core.checkout import project_root as home_folder
from core.files import read_json, write_json
from feature_store import versioning
from studies.runs import GroupRef
from studies.status import freshness
from studies.status.status import Line, runs_status, stores_status
from studies.stores.responses import ingest
from studies.stores.targets import extract
from studies.study import Study, load_study

from ..conftest import write_arrays
from .conftest import write_study

RESPONSES, PIXELS = "responses/sub-01", "targets/pixels"


@pytest.fixture
def made(study: Study) -> Study:
    """The study with its store."""
    ingest(study, "sub-01")
    extract(study, "pixels")
    return study


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file that a status hashes; files count as settled at once."""
    files: list[Path] = []
    digest = digests.digest_file
    monkeypatch.setattr(digests, "digest_file", lambda path: files.append(path) or digest(path))
    monkeypatch.setattr(digests, "SETTLED_NS", -1)
    return files


def lines_of(study: Study, *, full: bool = False) -> dict[str, Line]:
    vars(digests.INPUTS).update(vars(digests.DigestCache()))  # each look is by a process of its own
    return {line.what: line for line in stores_status(study, full=full)}


def states_of(study: Study) -> dict[str, str]:
    return {what: line.state for what, line in lines_of(study).items()}


def memory_of(study: Study) -> Path:
    return home_folder() / ".state" / "status" / f"{study.study}.json"


def overwrite(path: Path) -> None:
    """Change one byte of a file in place: its size stays."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def test_a_store_is_fresh_until_its_source_changes(made: Study, arrays_folder: Path) -> None:
    lines = lines_of(made)
    assert {what: (line.state, line.level) for what, line in lines.items()} == {
        RESPONSES: ("fresh", "good"),
        PIXELS: ("fresh", "good"),
    }
    reference = ingest(made, "sub-01")
    assert reference.fresh
    assert lines[RESPONSES].detail == f"not under version control, {reference.digest[:12]}"
    overwrite(arrays_folder / "sub-01" / "responses.npy")
    stale = lines_of(made)
    assert stale[PIXELS].state == "fresh", "it was not made from the responses"
    assert (stale[RESPONSES].state, stale[RESPONSES].level) == ("stale: source files changed", "note")
    assert "run 'brain2video responses --subject sub-01 -c configs/small.yaml'" in stale[RESPONSES].detail
    assert not ingest(made, "sub-01").fresh, "status and ingest agree"
    assert states_of(made)[RESPONSES] == "fresh"


def test_what_dvc_does_not_hold_is_no_alarm_where_the_store_is_up_to_date(
    made: Study, arrays_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_if(state: str) -> None:
        monkeypatch.setattr(versioning, "states", lambda root, groups: dict.fromkeys(groups, state))

    as_if(versioning.CHANGED)
    lines = lines_of(made)
    assert [lines[name].detail.split(", ")[0] for name in (RESPONSES, PIXELS)] == ["made here", "made here"]
    as_if(versioning.NO_STAGE)
    lines = lines_of(made)
    assert "dvc.yaml" not in lines[RESPONSES].detail + lines[PIXELS].detail
    assert lines["DVC"].detail.startswith("no stage of dvc.yaml makes these stores; to version and share them, add")
    assert {line.level for line in lines.values()} == {"good"}
    overwrite(arrays_folder / "sub-01" / "responses.npy")
    as_if(versioning.CHANGED)
    assert lines_of(made)[RESPONSES].detail.startswith("changed since dvc.lock, ")


def test_a_changed_setting_is_named(made: Study) -> None:
    states_of(made)
    other = made.model_copy(update={"clips": made.clips.model_copy(update={"window_s": 2.0})})
    line = lines_of(other)[PIXELS]
    assert line.state == "stale: settings changed"
    assert "clips.window_s was 1.0, is 2.0; run 'brain2video targets --target pixels" in line.detail
    assert states_of(other)[RESPONSES] == "fresh", "clips do not enter the responses"
    assert states_of(made)[PIXELS] == "fresh", "and the group itself is as it was"


def test_changed_code_is_told_from_the_rest(made: Study, arrays_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states_of(made)
    monkeypatch.setattr("studies.stores.responses.code_digest", lambda *parts: "other code")
    assert set(states_of(made).values()) == {"stale: code changed"}
    overwrite(arrays_folder / "sub-01" / "responses.npy")
    assert states_of(made)[RESPONSES] == "stale: source files and code changed"


def test_what_no_status_saw_fresh_is_stale_for_reasons_unknown(made: Study, arrays_folder: Path) -> None:
    overwrite(arrays_folder / "sub-01" / "responses.npy")
    line = lines_of(made)[RESPONSES]
    assert line.state == "stale"
    assert "made from other files, settings or code; run 'brain2video responses --subject sub-01" in line.detail


def test_without_the_recordings_nobody_can_tell(made: Study, arrays_folder: Path) -> None:
    """As after a bare `dvc pull`: that is no fault, and is said once."""
    shutil.rmtree(arrays_folder)
    lines = lines_of(made)
    assert {what: line.state for what, line in lines.items()} == {
        RESPONSES: "source not here",
        PIXELS: "source not here",
        "source": "not here",
    }
    assert {line.level for line in lines.values()} == {"note"}
    assert "whether the store is still made from it cannot be known" in lines["source"].detail
    assert "nobody" not in lines[RESPONSES].detail


def test_a_part_of_the_recordings_is_missing(made: Study, arrays_folder: Path) -> None:
    shutil.rmtree(arrays_folder / "sub-01")
    assert states_of(made)[RESPONSES] == "source not here"
    assert states_of(made)[PIXELS] == "fresh"


def test_without_recordings_and_without_a_store(study: Study, arrays_folder: Path) -> None:
    shutil.rmtree(arrays_folder)
    lines = lines_of(study)
    assert (lines["responses"].state, lines[PIXELS].state) == ("source not here", "not made")
    assert not lines[PIXELS].detail.startswith("not under")


def test_a_source_that_cannot_be_read(made: Study, arrays_folder: Path) -> None:
    (arrays_folder / "stimuli.csv").write_text("nothing,of,this\n1,2,3\n")
    line = lines_of(made)[PIXELS]
    assert (line.state, line.level) == ("source unreadable", "bad")
    assert "stimuli.csv" in line.detail


def test_a_group_that_is_gone(made: Study) -> None:
    shutil.rmtree(made.store / "responses" / "sub-01")
    line = lines_of(made)[RESPONSES]
    assert (line.state, line.level) == ("not made", "note")
    assert line.detail == "run 'dvc checkout' or 'brain2video responses --subject sub-01 -c configs/small.yaml'"


def test_a_group_that_the_study_no_longer_names(home: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    source = write_arrays(tmp_path / "two", rng, subjects=("sub-01", "sub-02"))
    both = load_study(write_study(home, source))
    digest = [ingest(both, subject) for subject in ("sub-01", "sub-02")][1].digest
    one = both.model_copy(update={"source": both.source.model_copy(update={"subjects": ["sub-01"]})})
    lines = lines_of(one)
    assert [(what, line.state) for what, line in lines.items()] == [
        (RESPONSES, "fresh"),
        (PIXELS, "not made"),
        ("responses/sub-02", "not in the study"),
    ]
    assert digest[:12] in lines["responses/sub-02"].detail


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": {}, "fingerprint": "0", "schema": 2, "sha256": "0"}'])
def test_a_damaged_manifest(made: Study, content: str) -> None:
    (made.store / RESPONSES / "MANIFEST.json").write_text(content)
    line = lines_of(made)[RESPONSES]
    assert (line.state, line.level) == ("damaged", "bad")
    assert "is not as this project wrote it; run 'dvc checkout' or" in line.detail
    assert states_of(made)[PIXELS] == "fresh"
    narrowed = made.model_copy(update={"source": made.source.model_copy(update={"subjects": ["sub-7"]})})
    assert states_of(narrowed)[RESPONSES] == "not in the study"


def test_a_damaged_root(made: Study) -> None:
    (made.store / "zarr.json").write_text("{}")
    first = stores_status(made)[0]
    assert (first.state, first.level) == ("damaged", "bad")
    assert states_of(made)[RESPONSES] == "fresh"


def test_a_second_look_hashes_nothing(made: Study, arrays_folder: Path, hashed: list[Path]) -> None:
    assert set(states_of(made).values()) == {"fresh"}
    assert set(hashed) >= {arrays_folder / "sub-01" / "responses.npy", arrays_folder / "stimuli" / "s000.png"}
    assert len(hashed) == len(set(hashed)), "what two groups share is hashed once"
    hashed.clear()
    assert set(states_of(made).values()) == {"fresh"}
    assert not hashed
    overwrite(arrays_folder / "sub-01" / "responses.npy")
    assert states_of(made)[RESPONSES] == "stale: source files changed", "the same size, and noticed"
    assert hashed == [arrays_folder / "sub-01" / "responses.npy"]


def test_a_copy_that_preserves_times_is_noticed(
    made: Study, arrays_folder: Path, tmp_path: Path, hashed: list[Path]
) -> None:
    states_of(made)
    file = arrays_folder / "sub-01" / "responses.npy"
    before = file.stat()
    overwrite(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert states_of(made)[RESPONSES] == "stale: source files changed"


def test_what_was_just_written_is_not_remembered(made: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another write within the same tick of the clock would leave no trace."""
    monkeypatch.setattr(digests, "SETTLED_NS", 3600 * 10**9)
    assert set(states_of(made).values()) == {"fresh"}
    assert read_json(memory_of(made))["files"] == {}


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "[" * 5000, '{"files": {}, "schema": 2, "sha256": "0"}'])
def test_a_damaged_memory_is_ignored(made: Study, damage: str, hashed: list[Path]) -> None:
    states_of(made)
    hashed.clear()
    memory_of(made).write_text(damage)
    assert set(states_of(made).values()) == {"fresh"}
    assert hashed
    hashed.clear()
    assert set(states_of(made).values()) == {"fresh"}
    assert not hashed


def test_an_edited_memory_is_ignored(made: Study, hashed: list[Path]) -> None:
    states_of(made)
    content = read_json(memory_of(made))
    content["files"] = {name: [*entry[:-1], "0" * 64] for name, entry in content["files"].items()}
    write_json(memory_of(made), content)
    assert set(states_of(made).values()) == {"fresh"}


def test_a_memory_that_cannot_be_written_costs_time_only(made: Study, hashed: list[Path]) -> None:
    (home_folder() / ".state").write_text("a file where the folder should be")
    assert set(states_of(made).values()) == {"fresh"}
    assert hashed


def test_whoever_writes_a_group_trusts_no_memory(made: Study, arrays_folder: Path, hashed: list[Path]) -> None:
    states_of(made)
    file = arrays_folder / "sub-01" / "responses.npy"
    content = read_json(memory_of(made))
    overwrite(file)
    entry = content["files"][str(file)]
    found = file.stat()
    content["files"][str(file)] = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, entry[-1]]
    del content["sha256"]
    write_json(memory_of(made), {**content, "sha256": digests.digest_json(content)})
    assert states_of(made)[RESPONSES] == "fresh", "the memory lies"
    assert not ingest(made, "sub-01").fresh


def test_what_is_large_is_hashed_when_asked_for(
    made: Study, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "LIMIT_BYTES", 1000)
    line = lines_of(made)[RESPONSES]
    assert (line.state, line.level) == ("not checked: 0.0 GB to hash", "note")
    assert "run 'brain2video status --full'" in line.detail
    assert not hashed
    assert {line.state for line in lines_of(made, full=True).values()} == {"fresh"}
    assert set(states_of(made).values()) == {"fresh"}, "once hashed, it is remembered"


def weighty(home: Path, source: Path, weights: Path) -> Study:
    clip = {"extractor": "clip", "weights": str(weights), "frames": 1}
    return load_study(write_study(home, source, targets={"clip": clip}, roles={"b": "clip"}))


@pytest.fixture
def with_weights(home: Path, arrays_folder: Path, small_models: Path, tmp_path: Path) -> tuple[Study, GroupRef, Path]:
    weights = Path(shutil.copytree(small_models / "clip", tmp_path / "clip"))
    study = weighty(home, arrays_folder, weights)
    return study, extract(study, "clip"), weights


def test_weights_are_remembered_too(
    with_weights: tuple[Study, GroupRef, Path], hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, _, weights = with_weights
    states = states_of(study)
    assert states["targets/clip"] == "fresh"
    hashed.clear()
    assert states_of(study)["targets/clip"] == "fresh"
    assert not hashed
    changed = next(weights.glob("*.safetensors"))
    overwrite(changed)
    assert states_of(study)["targets/clip"] == "stale: weights changed"
    assert hashed == [changed]


def test_weights_that_are_absent_are_never_fetched(
    with_weights: tuple[Study, GroupRef, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, made, _ = with_weights
    monkeypatch.setattr("models.weights.locate._from_hub", lambda *_: pytest.fail("a look at a store fetches nothing"))
    elsewhere = {"clip": study.targets["clip"].model_copy(update={"weights": "openai/clip-vit-base-patch32"})}
    line = lines_of(study.model_copy(update={"targets": elsewhere}))["targets/clip"]
    assert (line.state, line.level) == ("weights not here", "note")
    assert made.digest[:12] in line.detail
    assert "'openai/clip-vit-base-patch32': in no folder of this checkout; run 'brain2video download" in line.detail


TRAINING, RECONSTRUCTION = "20260314-092653-1a2b3c", "20260315-101500-4d5e6f"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def entry(value: float | None, *interval: float | None) -> dict[str, object]:
    return {"value": value, "ci95": list(interval or (None, None)), "chance": 0.5, "higher_is_better": True}


def write_runs(study: Study) -> tuple[Path, Path]:
    """Write the records of a training and a reconstruction, as far as status reads them."""
    training, reconstruction = study.outputs / "training" / TRAINING, study.outputs / RECONSTRUCTION
    routes = {"ridge": {"value": 0.5}, "pca": {"value": 0.625, "difference": entry(0.125, 0.1, 0.15)}}
    selection = {"chosen": "pca", "criterion": "two_way", "n": 60, "routes": routes}
    write_json(training / "training.json", {"git_commit": f"{COMMIT}+changes"})
    write_json(training / "scores.json", {"selection": selection})
    rows = {
        "reconstruction": {"frames.ssim": entry(0.4, 0.3, 0.5), "pixels.two_way": entry(0.93, 0.9, 0.96)},
        "shuffled_brain": {"pixels.two_way": entry(0.51, 0.42, 0.59)},
    }
    write_json(reconstruction / "metrics.json", {"rows": rows})
    versions = {"encoder": 3, "regressor-z": 3}
    write_json(reconstruction / "manifest.json", {"git_commit": COMMIT, "models": {"versions": versions}})
    for run in (training, reconstruction):
        (run.parent / "latest").symlink_to(run.name)
    return training, reconstruction


def test_the_last_runs_in_a_line_each(study: Study) -> None:
    write_runs(study)
    assert runs_status(study) == [
        Line(
            "training",
            TRAINING,
            "2026-03-14 09:26 UTC; registered route pca, two-way .62 on 60 held-out training stimuli; "
            "commit 0123456789ab+changes",
        ),
        Line(
            "reconstruction",
            RECONSTRUCTION,
            "2026-03-15 10:15 UTC; pixels two-way .93 [.90, .96] (reconstruction) beside .51 [.42, .59] "
            "(shuffled brain); encoder v3, regressor-z v3; commit 0123456789ab",
        ),
    ]


def test_the_score_of_a_choice_is_the_one_on_other_stimuli(study: Study) -> None:
    training, _ = write_runs(study)
    selection = read_json(training / "scores.json")["selection"]
    write_json(training / "scores.json", {"selection": {**selection, "reported": {"value": 0.58, "how": "apart"}}})
    assert "registered route pca, two-way .58 on 60 held-out training stimuli" in runs_status(study)[0].detail


def test_what_a_run_does_not_have_is_said(study: Study) -> None:
    training, reconstruction = write_runs(study)
    selection = {"chosen": "ridge", "criterion": "correlation", "n": 0, "routes": {}}
    write_json(training / "scores.json", {"selection": selection})
    write_json(reconstruction / "metrics.json", {"rows": {"reconstruction": {"pixels.two_way": entry(None)}}})
    first, second = runs_status(study)
    assert "registered route ridge, not compared with another; commit" in first.detail
    assert "pixels two-way missing (reconstruction); encoder v3" in second.detail
    write_json(reconstruction / "metrics.json", {"rows": {}})
    assert "UTC; nothing scored; encoder v3" in runs_status(study)[1].detail


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '"text"', "{}", '{"selection": 3, "rows": 3, "models": []}'])
@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_record_is_one_line(study: Study, damage: str, which: int) -> None:
    for name in (("training.json", "scores.json"), ("manifest.json", "metrics.json"))[which]:
        shutil.rmtree(study.outputs, ignore_errors=True)
        run = write_runs(study)[which]
        (run / name).write_text(damage)
        line = runs_status(study)[which]
        assert (line.state, line.level) == ("damaged", "bad")
        assert f"{run.name}: its record is not as this project wrote it (" in line.detail
        assert "\n" not in line.detail
        assert "; run 'brain2video " in line.detail


def test_a_run_that_was_removed_or_renamed(study: Study) -> None:
    training, reconstruction = write_runs(study)
    shutil.rmtree(training)
    renamed = reconstruction.rename(reconstruction.with_name("the-good-one"))
    (study.outputs / "latest").unlink()
    (study.outputs / "latest").symlink_to(renamed.name)
    assert [line.state for line in runs_status(study)] == ["damaged", "damaged"]


def test_a_study_that_renders_nothing_lacks_no_reconstruction(home: Path, arrays_folder: Path) -> None:
    targets = {"patches": {"extractor": "given"}}
    study = load_study(write_study(home, arrays_folder, targets=targets, roles={"b": "patches"}))
    line = runs_status(study)[1]
    assert line.state == "none"
    assert "nothing to render" in line.detail


def test_a_training_that_can_be_gone_on_with(study: Study) -> None:
    folder = study.outputs / "training" / ".unfinished-0123456789ab"
    (folder / "mbm" / "encoder").mkdir(parents=True)
    (folder / "mbm" / "encoder" / "mbm.pt").write_bytes(b"")
    os.utime(folder / "mbm" / "encoder" / "mbm.pt", (1_773_480_413, 1_773_480_413))
    (study.outputs / "training" / ".unfinished-0123456789ab.staging").mkdir()
    training, unfinished, _ = runs_status(study)
    assert (training.state, unfinished.what, unfinished.state) == ("none", "training", "unfinished")
    assert unfinished.detail.startswith("last written 2026-03-14 09:26 UTC, checkpoints of mbm; 'brain2video train -c")
    assert "else remove outputs/small/training/.unfinished-0123456789ab" in unfinished.detail


def test_a_memory_holds_no_more_than_the_store_is_made_from(made: Study, hashed: list[Path]) -> None:
    states_of(made)
    first = set(read_json(memory_of(made))["notes"])
    other = made.model_copy(update={"clips": made.clips.model_copy(update={"window_s": 2.0})})
    extract(other, "pixels")
    states_of(other)
    second = set(read_json(memory_of(made))["notes"])
    assert len(first) == len(second) == 2
    assert len(first & second) == 1, "the responses are as they were"
