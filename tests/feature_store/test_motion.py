"""The head's motion during trials: means over the volumes of each, from fMRIPrep's tables; missing where one is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from feature_store.sources.bids.confounds import AFTER_S, motion_of_trials
from feature_store.sources.timeseries import Timing

from .faults.bids import CONFOUNDS, GLM, PREPROCESSED, TR_S, WINDOW, source, write_table


def test_trials_hold_the_mean_motion_of_their_volumes(root: Path) -> None:
    trials = source(root, **GLM).responses("sub-01").trials["test"]
    measured = pd.read_csv(root / (PREPROCESSED.format(run=2) + "_desc-confounds_timeseries.tsv"), sep="\t")
    # In the second run x is shown at 4.5 s for 2 s: volumes at 6, 8, 10, 12 and 14 s lie between 4.5 and 14.5 s.
    assert (TR_S, AFTER_S) == (2.0, 8.0)
    second = trials[trials["run"] == 2].iloc[0]
    for name in ("trans_x", "trans_y"):
        assert second[name] == pytest.approx(measured[name].iloc[3:8].mean())
    assert "csf" not in trials, "it is no motion"


def test_no_motion_is_known_where_a_run_has_no_table_of_its_volumes(root: Path) -> None:
    assert "trans_x" not in source(root, **WINDOW).responses("sub-01").trials["test"], "raw runs have none"
    window = {"derivatives": "derivatives/fmriprep", **WINDOW}
    assert "trans_x" in source(root, **window).responses("sub-01").trials["train"]
    assert root / CONFOUNDS in source(root, **window).response_files("sub-01"), "a store depends on what it holds"
    write_table(root / CONFOUNDS, {"trans_x": [0.1, 0.2]})
    assert "trans_x" not in source(root, **window).responses("sub-01").trials["train"]


def test_real_confounds_have_all_measures(shared_data: Path) -> None:
    folder = shared_data / "bold-moments/ds005165/derivatives/versionB/fmriprep/sub-01/ses-02/func"
    table = folder / "sub-01_ses-02_task-test_run-3_desc-confounds_timeseries.tsv"
    if not table.is_file():
        pytest.skip("the real confounds are not here")
    trials = pd.DataFrame({"onset_s": [0.0, 20.0, 1e6], "duration_s": [3.0, np.nan, 3.0]})
    found = motion_of_trials([(table, Timing(268, 1.75))], np.zeros(3, np.int64), trials)
    displaced = pd.read_csv(table, sep="\t")["framewise_displacement"]
    assert {"framewise_displacement", "dvars", "trans_z", "rot_x"} <= set(found)
    # The first volume has no displacement: of volumes 0 to 6, at 0 to 10.5 s, those from the second on count.
    assert found["framewise_displacement"][0] == pytest.approx(displaced[1:7].mean())
    assert found["framewise_displacement"][1] == pytest.approx(displaced[12:17].mean())
    assert found.iloc[2].isna().all(), "after the run"
