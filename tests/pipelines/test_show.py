"""What a person sees on the screen: scores beside their controls, how they were tested, and what limits them."""

from pathlib import Path
from typing import Any

import pytest

from brain2video.cli.commands.study import show_training_run
from brain2video.cli.tables.scores import FIRST, print_report, print_scores, show_reconstruction
from evaluation.report.wording import FOLDED, row_label
from studies.study import load_study
from studies.training.fit import fit

from ..studies.conftest import write_study
from ..studies.routes_source import make_stores


def test_routes_stand_beside_the_controls(home: Path, arrays_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = {"regressor": {"kind": "ridge", "components": 3}}
    study = load_study(write_study(home, arrays_folder, training={"routes": {"ridge": {}, "few": few}}))
    make_stores(study)
    show_training_run(fit(study), full=True)
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in ("few", "mean predictor", "shuffled brain", "noise ceiling", "chance", "minus ridge"):
        assert words in shown, words
    assert "registered route ridge, by correlation of 6 held-out training stimuli" in shown
    assert "pictures outputs/small/training/latest/pictures" in shown
    assert "centred pixels," in shown
    assert "mean removed" not in shown
    assert "Centred: less the training mean" in shown
    assert "its own R² is 0 by definition" in shown


def entry(value: float) -> dict[str, Any]:
    return {"value": value, "ci95": [value - 0.1, value + 0.1], "chance": 0.5, "higher_is_better": True}


def compared(value: float, low: float, high: float, p: float) -> dict[str, Any]:
    return {"value": value, "ci95": [low, high], "higher_is_better": True, "p": p / 5, "p_adjusted": p}


NAMES = ("pixels.two_way", "latents_centred.r2", "text_residual.two_way_within_class")
NEAR = "30 of 48 test trials are near"
TIME = {"count": 30, "of": 48, "within_s": 12.0, "dense": True, "allowed": True, "note": NEAR}


@pytest.fixture
def metrics() -> dict[str, Any]:
    """A report of every row, of which the reconstruction is above all but the oracle and one control."""
    rows = {row: {name: entry(0.9 if row == "reconstruction" else 0.5) for name in NAMES} for row in
            ("reconstruction", *FIRST, "noise_ceiling", "oracle", *FOLDED)}  # fmt: skip
    tests = {row: {name: compared(0.4, 0.3, 0.5, 0.013) for name in NAMES} for row in rows if row != "reconstruction"}
    tests["oracle"] = {name: compared(-0.1, -0.2, -0.05, 0.002) for name in NAMES}
    tests["time_only"] = {name: compared(0.01, -0.1, 0.1, 0.77) for name in NAMES}
    return {
        **{"study": "s", "run": "r", "n_test": 48, "subject": "sub-01", "rows": rows, "comparisons": tests},
        **{"diagnoses": {"time": TIME}, "intervals": "Intervals are of a jackknife.", "notes": ["A note."]},
    }


def test_a_report_has_adjusted_p_values_and_folds_secondary_controls(
    metrics: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    print_report("title", metrics, full=True)
    shown = capsys.readouterr().out
    first, found, more = shown.partition(f"the reconstruction beside {len(FOLDED)} more controls, with adjusted p")
    assert found
    assert "adj." in first
    assert "…" not in shown, "every column has room"
    assert ".013" in first
    assert ".003" not in shown, "an unadjusted p is nowhere"
    assert ".77" in more
    assert all(row_label(row).split()[0] in more for row in FOLDED)
    words = " ".join(shown.split())
    assert "tests 36 paired tests against 12 rows; p is adjusted over the metrics of each row." in words
    assert "intervals Intervals are of a jackknife." in words
    assert "dense in time 30 of 48 test trials are near" in words
    assert "mean predictor rendered from the mean of the training targets" in words
    assert "Centred: less the training mean" in words
    assert "note A note." in words


def test_a_report_written_before_still_reads(metrics: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    kept = ("reconstruction", "shuffled_brain", "mean_predictor", "oracle")
    old = {
        **{key: metrics[key] for key in ("study", "run", "n_test", "subject")},
        "rows": {row: metrics["rows"][row] for row in kept},
        "comparisons": {row: metrics["comparisons"][row] for row in ("shuffled_brain", "mean_predictor")},
    }
    show_reconstruction("s", Path("outputs/s/r"), old, full=True)
    words = " ".join(capsys.readouterr().out.split())
    assert "above the shuffled brain and the mean predictor (adjusted p = .013)" in words
    assert "more control" not in words
    assert "tests 6 paired tests against 2 rows" in words


def test_the_two_tables_agree_in_words(capsys: pytest.CaptureFixture[str], metrics: dict[str, Any]) -> None:
    """Both call a space, a metric and a row by one name."""
    print_report("title", metrics, full=True)
    reconstruction = " ".join(capsys.readouterr().out.split())
    print_scores("title", {"shuffled_brain": metrics["rows"]["shuffled_brain"]})
    training = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in ("centred latents, R²", "pixels, two-way identification"):
        assert words in reconstruction
    for words in ("centred", "latents,", "R²", "pixels,", "two-way", "shuffled", "brain"):
        assert words in training
