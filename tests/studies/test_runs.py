"""Where a run is placed, and the reason that is reported when one is made again."""

from pathlib import Path
from typing import Any

import pytest

from core.files import digest_json, write_json
from core.progress import listening
from studies.runs import changed_keys, place_run, publish_latest, staged_run, why_again

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
