"""The command line: quick where nothing is asked, one line and exit code 2 for a mistake, the loop through ZenML."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from brain2video.cli.mlflow_ui import serve
from core.environment import defaults
from core.errors import ServerError
from models.registry.production import aliased

from .conftest import CHECKOUT, Here, Run

COMMANDS = ["demo", "simulate", "run", "responses", "targets", "train", "promote", "reconstruct", "regions"]
COMMANDS += ["status", "verify", "check"]
OF_VIDEOS = ["explain", "reproduce", "evaluate", "compare", "metrics"]


def test_help_and_version_import_nothing_heavy(environment: dict[str, str]) -> None:
    code = (
        "import sys; sys.argv = ['brain2video', {argument!r}]\n"
        "from brain2video.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {{'torch', 'zenml', 'mlflow', 'dvc', 'numpy', 'pandas', 'pydantic', 'diffusers'}} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    for argument in ("--help", "--version"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(argument=argument)], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert all(
            name in done.stdout for name in ([*COMMANDS, *OF_VIDEOS] if argument == "--help" else ["brain2video 0."])
        )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_a_study_and_overrides(here: Here, command: str) -> None:
    done = here(command, "--help")
    assert done.code == 0
    said = done.stdout
    assert "--config" in said
    assert "--set" in said


MISTAKES = [
    (["responses", "-c", "configs/smal.yaml"], "configs/smal.yaml: no such study; did you mean 'configs/small.yaml'"),
    (["run", "-c", "configs/small.yaml", "--set", "sed=1"], "unknown key 'sed'; did you mean 'seed'"),
    (
        ["train", "-c", "configs/small.yaml", "--set", "seed"],
        "--set seed: found no key or no '=', expected",
    ),
    (
        ["responses", "-c", "configs/small.yaml", "--set", "source.path=nowhere"],
        "nowhere: no such folder; set source.path",
    ),
    (["responses", "-c", "configs/small.yaml", "--subject", "sub-09"], "no subject 'sub-09' in the source"),
    (["targets", "-c", "configs/small.yaml", "--target", "latents"], "no target 'latents'"),
    (["targets", "-c", "configs/small.yaml", "--executor", "dask"], "the scheduler's address is missing; give one"),
    (
        ["run", "-c", "configs/small.yaml", "--executor", "cluster"],
        "kind: found 'cluster', expected 'here', '",
    ),
    (["train", "-c", "configs/small.yaml", "--nodes", "2"], "2 nodes need a rendezvous; give host:port"),
    (["train", "-c", "configs/small.yaml", "--join"], "--join: takes part with other machines; give their number"),
    (["train", "-c", "configs/small.yaml", "--set", "study=empty"], "no feature store; run 'dvc pull'"),
    (
        ["reconstruct", "-c", "configs/small.yaml", "--set", "study=empty"],
        "has the alias 'production'; run 'brain2video",
    ),
    (["promote", "-c", "configs/small.yaml", "--set", "study=empty"], "no training run is registered"),
    (["promote", "-c", "configs/small.yaml", "--version", "my model"], "--version my model: expected PART=N"),
    (["promote", "-c", "configs/small.yaml", "--set", "study=empty", "--rollback"], "there is nothing to roll back to"),
    (["promote", "-c", "configs/small.yaml", "--set", "study=my study"], "study: found 'my study', expected a name of"),
    (["explain", "videos/none.mp4"], "videos/none.mp4: no such video"),
    (["reproduce", "configs/small.yaml"], "configs/small.yaml: not a video that can be decoded"),
    (["simulate", "world", "-c", "configs/small.yaml"], "has no 'simulation' section"),
    (["train-zoo", "outputs/zoo", "-c", "configs/small.yaml"], "`brain2video train-zoo` is now `python -m zoo train`"),
    (["score-zoo", "--pictures", "docs"], "`brain2video score-zoo` is now `python -m zoo score`"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(case[0][:4]) for case in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(here: Here, cli_home: Path, arguments: list[str], message: str) -> None:
    before = sorted(str(path) for path in cli_home.glob("data/**/*"))
    done = here(*arguments)
    assert done.code == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stdout + done.stderr
    assert sorted(str(path) for path in cli_home.glob("data/**/*")) == before, "nothing half-written is left"


def test_debug_shows_the_traceback(run: Run) -> None:
    done = run("brain2video", "status", "--debug", "-c", "configs/smal.yaml")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "no such study" in done.stderr


def test_a_port_in_use_is_one_line(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("brain2video", "ui", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "is in use" in done.stderr
    assert "choose another with --port" in done.stderr


def test_a_mistake_in_a_fresh_process_is_one_line_too(run: Run) -> None:
    done = run("brain2video", "train", "-c", "configs/small.yaml", "--set", "study=empty")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error:")
    assert "no feature store" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stdout + done.stderr


def test_a_server_that_is_configured_already_is_not_served_again(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://lab:5000")
    monkeypatch.setattr(sys, "argv", ["brain2video", "ui"])
    with pytest.raises(ServerError, match="names a server already, http://lab:5000"):
        serve(5000)


@pytest.fixture
def study_run(here: Here, cli_home: Path) -> None:
    """The small study, run at least once."""
    if not (cli_home / "outputs" / "small" / "latest").exists():
        assert here("run", "-c", "configs/small.yaml").code == 0


def test_a_study_runs_from_end_to_end_through_zenml(run: Run, cli_home: Path) -> None:
    done = run("brain2video", "run", "-c", "configs/small.yaml")
    assert done.returncode == 0, done.stderr
    for row in ("reconstruction", "mean predictor", "shuffled brain", "oracle"):
        assert row in done.stdout
    assert "gallery outputs/small/latest/gallery.html" in done.stdout
    assert re.search(r"small-main-\d{4}_\d\d_\d\d-\S+: \d+ of \d+ steps had work to do", done.stdout + done.stderr)
    assert (cli_home / "outputs" / "small" / "latest" / "gallery.html").is_file()
    assert (cli_home / ".state" / "zenml").is_dir()
    outside = {path.name for path in cli_home.parent.iterdir()} - {"home"}
    assert not outside, f"a run writes only inside its home, found {outside}"


@pytest.mark.usefixtures("study_run")
def test_zenmls_own_way_runs_the_same_pipeline(run: Run, here: Here, cli_home: Path) -> None:
    file = cli_home / "run.yaml"
    shipped = yaml.safe_load((CHECKOUT / "pipelines" / "run.yaml").read_text())
    shipped["parameters"] |= {"study": "configs/small.yaml", "overrides": ["seed=5"]}
    file.write_text(yaml.safe_dump(shipped))
    done = run("zenml", "pipeline", "run", "pipelines.training.training", "-c", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "{date}" in shipped["run_name"], "no two runs have one name"
    assert "{time}" in shipped["run_name"]
    assert in_production() == {"encoder": 1, "regressor-z": 1}, "training does not promote"
    assert here("promote", "-c", "configs/small.yaml", "--force").code == 0
    assert in_production() == {"encoder": 2, "regressor-z": 2}
    assert "regressor-z v2" in here("status", "-c", "configs/small.yaml").stdout


def in_production() -> dict[str, int]:
    found = aliased("small", ["encoder", "regressor-z"])
    return {part: int(version.version) for part, version in found.items() if version is not None}


@pytest.mark.usefixtures("study_run")
def test_a_candidate_is_looked_at_promoted_and_taken_back(here: Here, cli_home: Path) -> None:
    assert here("promote", "-c", "configs/small.yaml", "--version", "encoder=1", "--force").code == 0
    blind = ["--set", "training.routes={blind: {regressor: {kind: ridge, alphas: [1.0e+9]}}}"]
    done = here("train", "-c", "configs/small.yaml", *blind, "--promote")
    assert done.code == 0, done.stderr
    assert "worse" in done.stdout
    refused = here("promote", "-c", "configs/small.yaml")
    assert refused.code == 2
    assert "is not promoted: z.correlation differs by" in refused.stderr
    before = here("promote", "-c", "configs/small.yaml", "--dry-run").stdout
    assert "held-out training stimuli" in before
    assert here("promote", "-c", "configs/small.yaml", "--force").code == 0
    shown = here("status", "-c", "configs/small.yaml").stdout
    assert "previous" in shown
    back = here("promote", "-c", "configs/small.yaml", "--rollback")
    assert back.code == 0, back.stderr
    assert "rolled back" in " ".join(back.stdout.split())


@pytest.mark.usefixtures("study_run")
def test_a_file_of_responses_becomes_videos_that_explain_themselves(here: Here, cli_home: Path) -> None:
    np.save(cli_home / "new.npy", np.load(cli_home / "recordings" / "sub-01" / "responses.npy")[:3])
    done = here("reconstruct", "-c", "configs/small.yaml", "--responses", "new.npy", "--subject", "sub-01")
    assert done.code == 0, done.stderr
    assert "videos 3" in done.stdout
    video = cli_home / "outputs" / "small" / "new" / "latest" / "videos" / "trial-0002.mp4"
    told = here("explain", str(video))
    assert told.code == 0, told.stderr
    for words in ("new.npy (file", "trial-0002", "in production", "as written"):
        assert words in told.stdout
    again = here("reproduce", str(video))
    assert again.code == 0, again.stderr
    assert "identical outputs/small/reproduced/trial-0002.mp4" in again.stdout


@pytest.mark.usefixtures("study_run")
@pytest.mark.parametrize("command", ["responses", "targets", "train", "promote --force", "reconstruct"])
def test_each_pipeline_has_its_command(here: Here, command: str) -> None:
    done = here(*command.split(), "-c", "configs/small.yaml")
    assert done.code == 0, done.stderr
    assert "small" in done.stdout


def test_damage_is_found_named_and_ends_with_2(here: Here, cli_home: Path) -> None:
    assert here("responses", "-c", "configs/small.yaml").code == 0
    assert here("verify", "-c", "configs/small.yaml").code == 0
    chunk = cli_home / "data/small/features.zarr/responses/sub-01/test/betas/c/0/0"
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    done = here("verify", "-c", "configs/small.yaml")
    chunk.write_bytes(sound)
    assert done.code == 2
    assert "test/betas/c/0/0: differs from its published digest" in done.stderr
    assert "brain2video responses --subject sub-01" in done.stderr


def test_a_disk_without_room_is_one_line_and_leaves_nothing(
    here: Here, cli_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=1000))
    done = here("responses", "-c", "configs/small.yaml", "--set", "study=full")
    assert done.code == 2, done.stderr
    assert "are to be written and 0 MB are free; make room" in done.stderr
    assert not (cli_home / "data" / "full" / "features.zarr" / "responses").exists()


def test_defaults_stay_inside_the_checkout_and_give_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAIN2VIDEO_HOME", str(tmp_path))
    made = defaults()
    for name in ("ZENML_CONFIG_PATH", "MLFLOW_TRACKING_URI", "DVC_SITE_CACHE_DIR", "MPLCONFIGDIR"):
        assert str(tmp_path) in made[name]
    done = subprocess.run(
        [sys.executable, "-c", "import core.environment, os; print(os.environ['MLFLOW_TRACKING_URI'])"],
        env={**os.environ, "MLFLOW_TRACKING_URI": "http://lab:5000", "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "http://lab:5000"
    assert json.loads(json.dumps(made))["ZENML_ANALYTICS_OPT_IN"] == "false"


@pytest.mark.parametrize("wrong", ["0", "-2", "two", "1.5", ""])
@pytest.mark.parametrize("command", ["status", "train", "metrics", "verify", "plan"])
def test_a_number_of_threads_that_is_none_is_one_line(here: Here, command: str, wrong: str) -> None:
    done = here(command, f"--threads={wrong}")
    assert done.code == 2
    assert done.stderr == f"error: --threads {wrong}: expected a whole number of threads from 1 to 1024, such as 2\n"


def test_every_command_takes_the_number_of_threads(here: Here, monkeypatch: pytest.MonkeyPatch, cli_home: Path) -> None:
    names = ("BRAIN2VIDEO_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    for name in names:
        monkeypatch.setenv(name, "7")  # which is restored
    for command in COMMANDS + OF_VIDEOS + ["promote", "plan", "ui"]:
        assert "--threads" in here(command, "--help").stdout, command
    assert "--threads" in here("download", "weights", "--help").stdout
    assert here("metrics", "--threads", "3").code == 0
    assert {os.environ[name] for name in names} == {"3"}
    monkeypatch.setenv("BRAIN2VIDEO_THREADS", "many")
    done = here("metrics")
    assert done.code == 2
    assert done.stderr.startswith("error: BRAIN2VIDEO_THREADS many: expected a whole number of threads")
