"""`reconstruct` of one subject of several names the others, and `--subject all` makes a run of each."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from brain2video.cli.commands.videos import reconstruct
from brain2video.cli.options import StudyOptions
from core.errors import ConfigError
from core.files import write_json
from studies.runs import METRICS, ReconstructionRef

SUBJECTS = ["sub-01", "sub-02", "sub-03"]


@pytest.fixture
def launched(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], str | None]]:
    """What was launched: overrides and run; each launch leaves a run's folder with its scores."""
    calls: list[tuple[list[str], str | None]] = []

    def launch(name: str, config: str, overrides: list[str], *, run: str | None = None, **more: Any) -> SimpleNamespace:
        assert (name, config, more) == ("reconstruction", "configs/small.yaml", {})
        calls.append((overrides, run))
        named = [text.partition("=")[2] for text in overrides if text.startswith("reconstruction.subject=")]
        subject = named[0] if named else SUBJECTS[0]
        folder = home / "outputs" / "small" / f"2026-{subject}"
        folder.mkdir(parents=True, exist_ok=True)
        rows = {"reconstruction": {}}
        write_json(folder / METRICS, {"subject": subject, "n_test": 4, "rows": rows, "notes": []})
        reference = ReconstructionRef.to("small", folder, METRICS, fresh=False)
        others = [other for other in SUBJECTS if other != subject]
        return SimpleNamespace(reconstruction=reference.model_copy(update={"others": others}))

    models = SimpleNamespace(record={"subjects": SUBJECTS})
    monkeypatch.setattr("brain2video.cli.launch.launch", launch)
    monkeypatch.setattr("studies.registry.production.resolve_production", lambda study, run: models)
    monkeypatch.setattr(StudyOptions, "load", lambda self: None)
    return calls


def test_one_subject_of_several_names_the_others(launched: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    reconstruct(StudyOptions("configs/small.yaml"), subject="sub-02")
    assert launched == [(["reconstruction.subject=sub-02"], None)]
    said = " ".join(capsys.readouterr().out.split())
    assert "one subject of several not sub-01, sub-03: --subject NAME, or --subject all for a run of each" in said


def test_all_subjects_have_a_run_each_and_a_line_at_the_end(
    launched: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    reconstruct(StudyOptions("configs/small.yaml", ["seed=3"]), subject="all", run="20260101")
    assert launched == [(["seed=3", f"reconstruction.subject={subject}"], "20260101") for subject in SUBJECTS]
    said = capsys.readouterr().out
    assert "one subject of several" not in said
    galleries = [f"outputs/small/2026-{subject}/gallery.html" for subject in SUBJECTS]
    assert " ".join(said.split()).endswith(f"3 subjects {', '.join(galleries)}")


def test_a_file_of_responses_is_of_one_subject(launched: list[Any]) -> None:
    with pytest.raises(ConfigError, match="--responses are those of one subject; name it"):
        reconstruct(StudyOptions("configs/small.yaml"), subject="all", responses=Path("new.npy"))
    assert launched == []
