"""Subjects and targets are mapped: one that fails does not lose the others' work, and the run says which."""

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from zenml.client import Client

from pipelines.fan_out import gathered

from ..conftest import write_arrays
from ..studies.conftest import STUDY
from .conftest import Here, Outcome

SUBJECTS = tuple(f"sub-{number:02d}" for number in range(1, 6))
BROKEN = "sub-03"


@pytest.fixture
def five(cli_home: Path) -> Path:
    """A study of five subjects, the third of whom saw an unknown stimulus."""
    source = cli_home / "five-recordings"
    if not source.is_dir():
        write_arrays(source, np.random.default_rng(3), subjects=SUBJECTS)
        trials = pd.read_csv(source / BROKEN / "trials.csv")
        trials.loc[5, "stimulus_id"] = "unknown-stimulus"
        trials.to_csv(source / BROKEN / "trials.csv", index=False)
        content = {**STUDY, "study": "five", "source": {"kind": "arrays", "path": str(source)}}
        (cli_home / "configs" / "five.yaml").write_text(yaml.safe_dump(content))
    return source


def fixed(source: Path) -> None:
    trials = pd.read_csv(source / BROKEN / "trials.csv")
    known = pd.read_csv(source / "stimuli.csv")["stimulus_id"]
    trials.loc[~trials["stimulus_id"].isin(known), "stimulus_id"] = known[0]
    trials["repetition"] = trials.groupby("stimulus_id").cumcount()
    trials.to_csv(source / BROKEN / "trials.csv", index=False)


def worked() -> list[str]:
    """The subjects and targets that steps of the newest run wrote, not those that were up to date or failed."""
    run = Client().list_pipeline_runs(sort_by="desc:created", size=1, hydrate=True).items[0]
    states = {name: step.run_metadata.get("up_to_date") for name, step in run.steps.items()}
    return sorted(name.partition(":")[2] for name, state in states.items() if ":" in name and state is False)


def only_error(done: Outcome) -> str:
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "Traceback" not in done.stdout + done.stderr
    return error


def test_one_subject_of_five_fails_and_the_rerun_does_that_one_alone(here: Here, cli_home: Path, five: Path) -> None:
    groups = cli_home / "data" / "five" / "features.zarr" / "responses"
    done = here("responses", "-c", "configs/five.yaml")
    assert done.code == 2
    error = only_error(done)
    assert "1 of 5 failed: responses/sub-03: " in error
    assert "unknown-stimulus" in error
    assert "published all the same: responses/sub-01, responses/sub-02, responses/sub-04, responses/sub-05" in error
    others = [name for name in SUBJECTS if name != BROKEN]
    assert sorted(path.name for path in groups.iterdir() if path.is_dir()) == others
    assert worked() == others
    written = {path: path.stat().st_mtime_ns for path in groups.rglob("*") if path.is_file()}
    fixed(five)
    again = here("responses", "-c", "configs/five.yaml")
    assert again.code == 0, again.stderr
    assert worked() == [BROKEN]
    assert sorted(path.name for path in groups.iterdir() if path.is_dir()) == list(SUBJECTS)
    assert {path: path.stat().st_mtime_ns for path in written} == written, "no other subject's bytes were touched"


def test_a_whole_run_ends_before_training_and_names_who_failed(here: Here, cli_home: Path, five: Path) -> None:
    where = ["-c", "configs/five.yaml", "--set", "study=five-whole"]
    trials = pd.read_csv(five / BROKEN / "trials.csv")
    trials.loc[0, "stimulus_id"] = "unknown-stimulus"
    trials.to_csv(five / BROKEN / "trials.csv", index=False)
    done = here("run", *where)
    fixed(five)
    assert done.code == 2
    error = only_error(done)
    assert "1 of 6 failed: responses/sub-03" in error
    assert "targets/pixels" in error.split("published all the same")[1]
    assert not (cli_home / "outputs" / "five-whole" / "training").exists(), "four subjects are another study"


@pytest.mark.parametrize(
    "how",
    [
        pytest.param([], id="here", marks=pytest.mark.full),
        pytest.param(["--executor", "processes", "--workers", "1"], id="processes", marks=pytest.mark.servers),
    ],
)
def test_ctrl_c_ends_a_mapped_step_in_the_middle(how: list[str], cli_home: Path, environment: dict[str, str]) -> None:
    source = cli_home / "long-recordings"
    if not source.is_dir():
        write_arrays(source, np.random.default_rng(4), train=6000, repeats=1, voxels=4)
        content = {**STUDY, "study": "long", "source": {"kind": "arrays", "path": str(source)}}
        (cli_home / "configs" / "long.yaml").write_text(yaml.safe_dump(content))
    command = [
        sys.executable,
        "-c",
        "from brain2video.cli.app import main; main()",
        "targets",
        "-c",
        "configs/long.yaml",
        *how,
    ]
    with subprocess.Popen(command, cwd=cli_home, env=environment, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert any("pixels" in line and "train" in line for line in running.stderr), "it has begun"
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()
        assert running.wait(60) == 130, said
    assert "interrupted; nothing half-written is kept" in said
    assert not (cli_home / "data" / "long" / "features.zarr" / "targets" / "pixels").exists()


def test_a_bug_is_raised_as_it_is_and_says_whose_it_is() -> None:
    bug = KeyError("a bug")
    fanned = SimpleNamespace(
        kind="responses",
        names=["sub-01", "sub-02"],
        published=[SimpleNamespace(name="sub-01")],
        wait=lambda: {"sub-02": bug},
    )
    with pytest.raises(KeyError) as raised:
        gathered(fanned)  # type: ignore[arg-type]
    assert raised.value.__notes__ == ["raised by responses/sub-02; published all the same: responses/sub-01"]


def test_the_only_one_that_was_asked_for_fails_with_its_own_words(here: Here, five: Path) -> None:
    done = here("responses", "-c", "configs/five.yaml", "--subject", "sub-09")
    assert done.code == 2
    assert "no subject 'sub-09' in the source" in only_error(done)
