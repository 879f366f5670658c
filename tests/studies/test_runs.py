"""Where a run is placed, and the reason that is reported when one is made again."""

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from core.files import digest_json, write_json
from core.progress import listening
from studies.runs import changed_keys, find_run, place_run, placed_run, publish_latest, staged_run, why_again

INPUTS: dict[str, Any] = {"settings": {"routes": {"ridge": {"alphas": (1.0, 2.0)}}, "seed": 0}, "code": "abc"}


def made(runs: Path, inputs: dict[str, Any]) -> Path:
    fingerprint = digest_json(inputs)
    folder, _ = place_run(runs, "record.json", fingerprint, "training", inputs)
    with staged_run(folder, "record.json", {**inputs, "fingerprint": fingerprint}) as building:
        write_json(building / "scores.json", {})
    publish_latest(folder)
    return folder


def test_a_run_of_the_same_inputs_is_there(tmp_path: Path) -> None:
    folder = made(tmp_path, INPUTS)
    assert place_run(tmp_path, "record.json", digest_json(INPUTS), "training", INPUTS) == (folder, True)
    assert why_again(tmp_path / "absent.json", "f", INPUTS) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"code": "abd"}, "code changed"),
        ({"settings": {**INPUTS["settings"], "seed": 1}}, "settings.seed changed"),
        ({"settings": {"routes": {"mlp": {}}, "seed": 0}}, "settings.routes.mlp, settings.routes.ridge changed"),
    ],
)
def test_what_changed_since_the_latest_run_is_reported(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    made(tmp_path, INPUTS)
    heard: list[str] = []
    with listening(lambda what, done, total, note: heard.append(what)):
        inputs = {**INPUTS, **change}
        _, there = place_run(tmp_path, "record.json", digest_json(inputs), "training", inputs)
    assert not there
    assert heard == [f"training is made again: {words}"]


def test_a_changed_file_and_a_damaged_record_are_reasons_too(tmp_path: Path) -> None:
    folder = made(tmp_path, INPUTS)
    (folder / "scores.json").write_text("other")
    assert "is missing or was changed" in why_again(tmp_path / "latest/record.json", digest_json(INPUTS), INPUTS)
    (folder / "record.json").write_text("{")
    assert "is damaged" in why_again(tmp_path / "latest/record.json", digest_json(INPUTS), INPUTS)


def test_keys_that_differ_are_named_to_some_depth() -> None:
    old = {"a": {"b": {"c": {"d": 1}}}, "e": [1]}
    assert changed_keys(old, {"a": {"b": {"c": {"d": 2}}}, "e": [1]}) == ["a.b.c"]
    assert changed_keys(old, {"a": {"b": {"c": {"d": 1}}}, "f": [1]}) == ["e", "f"]
    assert changed_keys(old, old) == []


@pytest.mark.parametrize("damage", ["missing", "changed", "latest dangling", "latest a copy"])
def test_a_damaged_run_is_written_again_in_its_place(tmp_path: Path, damage: str) -> None:
    folder, latest = made(tmp_path, INPUTS), tmp_path / "latest"
    if damage == "missing":
        (folder / "scores.json").unlink()
    elif damage == "changed":
        (folder / "scores.json").write_text("other")
    elif damage == "latest dangling":
        shutil.rmtree(folder)
    else:  # as copying leaves it that follows links
        latest.unlink()
        shutil.copytree(folder, latest)
    again = made(tmp_path, INPUTS)
    assert find_run(tmp_path, "record.json", digest_json(INPUTS)) == again
    assert latest.is_symlink()
    assert latest.resolve() == again
    assert sorted(path.name for path in tmp_path.iterdir()) == [again.name, "latest"], "nothing damaged stays"
    assert damage == "latest dangling" or again == folder, "other records know the run by its name"


def test_runs_within_one_second_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.runs.run_name", lambda fingerprint: "20260102-030405-abcdef")
    folders = []
    for _ in range(3):
        folder, _ = place_run(tmp_path, "record.json", "abcdef", "training")
        folder.mkdir()  # as a process that was killed leaves it: without scores, without a record
        folders.append(folder.name)
    assert folders == [f"20260102-030405-abcdef{end}" for end in ("", "-2", "-3")]
    assert made(tmp_path, INPUTS).is_dir(), "what is half-written does not block"


def test_of_two_that_make_the_same_run_at_once_one_waits_and_finds_it(tmp_path: Path) -> None:
    fingerprint, states, waiting = digest_json(INPUTS), list[tuple[str, bool]](), list[str]()
    both = threading.Barrier(2)

    def make() -> None:
        both.wait()
        with placed_run(tmp_path, "record.json", fingerprint, "training") as (folder, fresh):
            if not fresh:
                time.sleep(0.3)
                with staged_run(folder, "record.json", {"fingerprint": fingerprint}) as building:
                    write_json(building / "scores.json", {})
            publish_latest(folder)
            states.append((folder.name, fresh))

    with listening(lambda what, done, total, note: waiting.append(what)):
        threads = [threading.Thread(target=make) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [fresh for _, fresh in states] == [False, True]
    assert len({name for name, _ in states}) == 1
    assert "training: waiting for another process that does the same" in waiting
    assert not list(tmp_path.glob(".*")), "no lock stays"
