"""`brain2video regions`: the table and the pictures, nothing to do in one line, mistakes in one line."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ..conftest import write_arrays
from .conftest import Here

STUDY = ["-c", "configs/small.yaml", "--set", "study=regional"]


@pytest.fixture
def stored(here: Here, cli_home: Path) -> Here:
    """Run the command line where the study's stores are there; the first test makes them."""
    if not (cli_home / "data" / "regional").is_dir():
        for command in ("responses", "targets"):
            assert here(command, *STUDY, "--no-commit").code == 0
    return here


def test_it_shows_every_region_and_where_the_pictures_are(stored: Here, cli_home: Path) -> None:
    done = stored("regions", *STUDY)
    assert done.code == 0, done.stderr
    assert "regional: z (pixels) from each ROI, 8 test stimuli" in done.stdout
    words = " ".join(done.stdout.replace("│", " ").split())
    for row in ("all voxels", "V1", "V2", "shuffled", "chance"):
        assert row in words
    assert "decoded by ridge" in done.stdout
    assert "no brain the store has no coordinates" in done.stdout
    assert "pictures outputs/regional/regions/latest/regions.png" in done.stdout
    assert (cli_home / "outputs" / "regional" / "regions" / "latest" / "regions.png").is_file()
    again = stored("regions", *STUDY)
    assert "is up to date" in again.stderr
    assert again.stdout == done.stdout


def test_a_study_without_regions_is_told_so_in_one_line(here: Here, cli_home: Path) -> None:
    source = write_arrays(cli_home / "whole", np.random.default_rng(2))
    pd.DataFrame({"roi": ["none"] * 60}).to_csv(source / "sub-01" / "voxels.csv", index=False)
    whole = [*STUDY[:2], "--set", "study=whole", "--set", f"source.path={source}"]
    for command in ("responses", "targets"):
        assert here(command, *whole, "--no-commit").code == 0
    done = here("regions", *whole)
    assert done.code == 0, done.stderr
    assert done.stdout.startswith("whole: no ROI that is a part of the brain")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("regions.fewest_voxels=500", "regions: no ROI is left to decode from (V1: fewer than 500 usable voxels"),
        ("regions.sides=both", "regions.sides: found 'both', expected 'joined' or 'apart'"),
        ("regions.least=5", "unknown key 'regions.least'"),
        ("study=empty", "no feature store; run 'dvc pull'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(stored: Here, changed: str, message: str) -> None:
    done = stored("regions", *STUDY, "--set", changed)
    assert done.code == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stdout + done.stderr
