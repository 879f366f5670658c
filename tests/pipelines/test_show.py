"""What a person sees when training is over: every route beside the controls, and which is registered."""

from pathlib import Path

import pytest

from brain2video.cli.commands.study import show_training_run
from studies.study import load_study
from studies.training.fit import fit

from ..studies.conftest import write_study
from ..studies.routes_source import make_stores


def test_routes_stand_beside_the_controls(home: Path, arrays_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = {"regressor": {"kind": "ridge", "components": 3}}
    study = load_study(write_study(home, arrays_folder, training={"routes": {"ridge": {}, "few": few}}))
    make_stores(study)
    show_training_run(fit(study))
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in ("few", "mean predictor", "shuffled brain", "noise ceiling", "chance", "minus ridge"):
        assert words in shown, words
    assert "registered route ridge, by correlation of 6 held-out training stimuli" in shown
    assert "pictures outputs/small/training/latest/pictures" in shown
    assert "centred pixels," in shown
    assert "mean removed" not in shown
    assert "centred Centred: less the training mean" in shown
    assert "its own R² is 0 by definition" in shown
