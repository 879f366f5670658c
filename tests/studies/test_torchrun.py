"""Processes that train one study together: the curve of one process, one run, one line where one of them dies."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from pydantic import ValidationError
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ErrorHandler, ProcessFailure

from core.checkout import project_root as home_folder
from core.errors import ModelError, TrainingStopped
from core.files import read_json
from core.progress import listening
from models.training.distributed import drawn_for_the_batch, local_shard, workers
from models.training.settings import DistributedConfig
from studies.study import Study, load_study
from studies.training.distributed import TORCHRUN_LOG, fit_distributed, why_stopped
from studies.training.distributed_worker import main
from studies.training.fit import fit

from ..conftest import write_arrays
from .conftest import write_study
from .routes_source import MBM, MLP, make_stores

CHECKOUT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("together_worker.py")
TWO = DistributedConfig(processes=2, timeout_s=120)
STEPS = 30
PERCEPTRON: dict[str, Any] = {
    **{**MLP, "steps": STEPS, "batch": 16, "hidden": 16, "lr": 0.02, "validate_every": 3, "patience": 3},
    **{"checkpoint_every": 4, "dropout": 0.5, "input_dropout": 0.3},
}
PRETRAINING = {**MBM["pretraining"], "steps": STEPS, "validate_every": 6, "checkpoint_every": 4}
ALIGNMENT = {**MBM["alignment"], "steps": 12, "batch": 9, "losses": ["bi_mixco", "info_nce", "soft_clip"]}
ROUTES: dict[str, Any] = {
    "mbm": {"encoder": {**MBM, "pretraining": PRETRAINING, "alignment": ALIGNMENT}, "regressor": PERCEPTRON}
}


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout of these tests' own, where every process has one core."""
    folder = tmp_path_factory.mktemp("together") / "home"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BRAIN2VIDEO_HOME", str(folder))
        patched.setenv("OMP_NUM_THREADS", "1")
        patched.delenv("DVC_STAGE", raising=False)
        yield folder


@pytest.fixture(scope="module")
def config(place: Path) -> Path:
    """A study of 22 voxels, whose last patch of 4 is half full, with all that draws or contrasts the whole batch."""
    source = write_arrays(place.parent / "recordings", np.random.default_rng(20240607), train=24, voxels=22)
    made = write_study(place, source, roles={"z": "pixels", "align": "pixels"}, training={"routes": ROUTES})
    make_stores(load_study(made))
    return made


@pytest.fixture
def study(config: Path) -> Iterator[Study]:
    """The study, with nothing trained; nor are there logs of a training that another test has stopped."""
    made = load_study(config)
    yield made
    for folder in (made.outputs, home_folder() / ".state" / "together"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def whole(config: Path) -> SimpleNamespace:
    """What two nodes of one process make of the study undisturbed, and what each launcher reported of it."""
    study, node = load_study(config), _one_of_two_nodes()
    reported: dict[int, list[Any]] = {}
    with (
        listening(lambda *progress: reported.setdefault(threading.get_ident(), []).append(progress)),
        ThreadPoolExecutor(2) as launchers,
    ):
        references = list(launchers.map(lambda _: fit_distributed(study, node), range(2)))
    folder = home_folder() / references[0].folder
    runs = {path.name for path in folder.parent.iterdir()}
    logs = list((home_folder() / ".state" / "together").glob("*"))
    made = SimpleNamespace(references=references, reported=reported, runs=runs, logs=logs, **_contents(folder))
    shutil.rmtree(study.outputs)
    return made


def _contents(folder: Path) -> dict[str, Any]:
    """Return the digest of every file of a run but its scores, which hold its name, and the scores and curves."""
    record, scores = read_json(folder / "training.json"), read_json(folder / "scores.json")
    files = {name: digest for name, digest in record["files"].items() if name != "scores.json"}
    return {"files": files, "scores": {**scores, "run": ""}, "curves": read_json(folder / "curves.json")}


def _one_of_two_nodes() -> DistributedConfig:
    """A node of one process, which meets the other at a free port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return DistributedConfig(nodes=2, rendezvous=f"127.0.0.1:{taken.getsockname()[1]}", timeout_s=120)


def _ranks(of: int) -> dict[int, psutil.Process]:
    """Return the processes that a launcher has training, by rank."""
    found = {}
    for process in psutil.Process(of).children(recursive=True):
        if (
            "studies.training.distributed_worker" in process.cmdline()
            and "torch.distributed.run" not in process.cmdline()
        ):
            found[int(process.environ()["RANK"])] = process
    return found


@pytest.mark.servers
def test_two_processes_have_the_curves_of_one(whole: SimpleNamespace, study: Study) -> None:
    alone = _contents(home_folder() / fit(study).folder)
    named = ("encoder/mbm", "encoder/align", "z/perceptron")
    stages = {f"mbm/{part}{stage}" for part in ("", "selection/") for stage in named}
    assert set(whole.curves) == set(alone["curves"]) == stages
    for stage, history in alone["curves"].items():
        assert whole.curves[stage]["losses"] == pytest.approx(history["losses"], abs=1e-4), stage
        assert np.allclose(whole.curves[stage]["validation"], history["validation"], rtol=0, atol=1e-4), stage
        assert whole.curves[stage]["best"] == history["best"], stage
    lengths = {stage: len(history["losses"]) for stage, history in alone["curves"].items()}
    assert lengths["mbm/encoder/mbm"] == STEPS
    assert min(lengths.values()) < STEPS, "one stopped early, and both did alike"
    expected = alone["scores"]["targets"]["z"]["rows"]["mbm"]["pixels.correlation"]["value"]
    found = whole.scores["targets"]["z"]["rows"]["mbm"]["pixels.correlation"]["value"]
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.servers
def test_two_nodes_make_one_training_of_which_the_first_alone_reports(whole: SimpleNamespace) -> None:
    one, other = whole.references
    assert one == other
    assert (one.fresh, whole.runs) == (False, {one.run, "latest"})
    (reports,) = whole.reported.values()
    assert [what for what, *_ in reports if what.startswith("training by")] == ["training by 2 processes"]
    steps = [done for what, done, *_ in reports if what == "mbm encoder: masked brain modelling"]
    assert steps == list(range(STEPS + 1)), "every step, once"
    assert not whole.logs, "they are removed"


@pytest.mark.servers
def test_a_killed_process_ends_all_with_one_line_and_the_next_run_goes_on_to_the_same_bytes(
    whole: SimpleNamespace, study: Study
) -> None:
    ranks: dict[int, psutil.Process] = {}

    def strike(what: str, done: int, total: int, note: str) -> None:
        if what == "mbm encoder: masked brain modelling" and done == 9 and not ranks:
            ranks.update(_ranks(os.getpid()))
            ranks[1].send_signal(signal.SIGKILL)

    with pytest.raises(TrainingStopped) as stopped, listening(strike):
        fit_distributed(study, TWO)
    (unfinished,) = (study.outputs / "training").glob(".unfinished-*[0-9a-f]")
    (logs,) = (home_folder() / ".state" / "together").iterdir()
    assert str(stopped.value) == (
        f"training: rank 1 on {socket.gethostname()} was killed by SIGKILL, as the system does where memory runs out "
        f"(logs: .state/together/{logs.name}); checkpoints are in outputs/small/training/{unfinished.name}, and the "
        "same command goes on from there"
    )
    assert set(ranks) == {0, 1}
    assert not any(rank.is_running() for rank in ranks.values())
    stopped_at = len(torch.load(unfinished / "mbm/encoder/mbm.pt", weights_only=True)["losses"])
    assert stopped_at >= 8

    kept = study.outputs.with_name("kept")
    shutil.copytree(study.outputs, kept, symlinks=True)
    told: list[Any] = []
    with listening(lambda *one: told.append(one)):
        made = fit_distributed(study, TWO)
    again = _contents(home_folder() / made.folder)
    assert next(done for what, done, *_ in told if what == "mbm encoder: masked brain modelling") == stopped_at
    assert again["files"] == whole.files
    assert again["scores"] == whole.scores
    assert len(list((study.outputs / "training").glob("[0-9]*"))) == 1

    shutil.rmtree(study.outputs)
    kept.rename(study.outputs)
    alone = _contents(home_folder() / fit(study).folder)  # one process goes on from what two have kept
    for stage, history in whole.curves.items():
        assert alone["curves"][stage]["losses"] == pytest.approx(history["losses"], abs=1e-4), stage


@pytest.mark.full
def test_processes_end_when_their_launcher_is_killed(study: Study, config: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, str(WORKER), str(config), TWO.model_dump_json()]
    launcher = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    next(line for line in launcher.stdout if "masked brain modelling: 2/" in line)
    everything = psutil.Process(launcher.pid).children(recursive=True)
    assert set(_ranks(launcher.pid)) == {0, 1}
    launcher.kill()
    gone, left = psutil.wait_procs(everything, timeout=30)
    launcher.communicate()
    assert not left
    assert len(gone) >= 3, "torchrun and both processes"


def test_an_interrupted_launcher_waits_until_torchrun_has_ended(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchrun = tmp_path / "slow-to-end"
    report = """echo '@progress ["training", 0, 9, ""]'"""
    torchrun.write_text(f"#!/bin/sh\ntrap 'sleep 0.5; exit 1' TERM\n{report}\nwhile :; do sleep 0.1; done\n")
    torchrun.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(torchrun))
    started: list[psutil.Process] = []

    def interrupt(*_: object) -> None:
        started.extend(one for one in psutil.Process().children() if str(torchrun) in one.cmdline())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(interrupt):
        fit_distributed(study, TWO)
    assert len(started) == 1
    assert not started[0].is_running()


@pytest.mark.servers
def test_nodes_with_another_study_are_refused_in_the_words_of_the_process_that_saw_it(
    study: Study, config: Path
) -> None:
    node = _one_of_two_nodes()
    studies = study, load_study(config, ["seed=1"])
    with ThreadPoolExecutor(2) as launchers:
        launched = [launchers.submit(fit_distributed, one, node) for one in studies]
    expected = (
        r"rank 1 on \S+ has another training before it than rank 0 on \S+: settings.seed was [01], is [01]; run the"
    )
    for one in launched:
        with pytest.raises(ModelError, match=expected):
            one.result()
    assert not [path for path in (study.outputs / "training").glob("*") if path.name != "latest"], "nothing is kept"


def test_by_hand_another_number_of_processes_than_launched_is_refused(
    study: Study, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["fit_together", "-c", str(config)])
    monkeypatch.setattr("faulthandler.enable", lambda **_: None)  # pytest's own stays
    monkeypatch.setenv("WORLD_SIZE", "2")  # as `accelerate launch --cpu` says, which starts one process
    monkeypatch.setattr("models.training.distributed.Accelerator", lambda **_: SimpleNamespace(num_processes=1))
    workers.cache_clear()
    assert main() == 2
    assert capsys.readouterr().err.startswith("error: training: 2 processes were launched and 1 take part; launch with")


def test_each_process_takes_rows_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for index, rows in ((0, [0, 2, 4]), (1, [1, 3, 5])):
        _as_one_of_two(monkeypatch, index)
        assert local_shard(np.arange(6)).tolist() == rows
        assert local_shard(np.arange(5), evenly=False).tolist() == [row for row in rows if row < 5]
    with pytest.raises(ModelError, match="a batch of 5 rows over 2 processes; make it a multiple of them"):
        local_shard(np.arange(5))


def _as_one_of_two(monkeypatch: pytest.MonkeyPatch, index: int, count: int = 2) -> None:
    one = SimpleNamespace(num_processes=count, process_index=index)
    monkeypatch.setattr("models.training.distributed.workers", lambda: one)


def test_dropout_drops_the_same_units_of_every_row_whoever_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, layer = torch.randn(6, 7), torch.nn.Sequential(torch.nn.Dropout(0.3), torch.nn.Dropout(0.5))

    def dropped(part: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)
        with drawn_for_the_batch(layer):
            made: torch.Tensor = layer(part)
            return made

    torch.manual_seed(5)
    expected = layer(rows)
    assert torch.equal(dropped(rows), expected), "one process drops what torch's own layer drops"
    for index in range(2):
        _as_one_of_two(monkeypatch, index)
        assert torch.equal(dropped(rows[index::2]), expected[index::2])
    layer.eval()
    assert torch.equal(dropped(rows), rows)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"nodes": 2}, "2 nodes need a rendezvous; give host:port of one of them"),
        ({"rendezvous": "here:29400"}, "a rendezvous is for several nodes"),
        ({"nodes": 2, "rendezvous": "here"}, "expected host:port, such as 'node-1:29400'"),
        ({"nodes": 2, "rendezvous": "here:70000"}, "expected host:port"),
        ({"nodes": 2, "rendezvous": "here:1", "node_rank": 2}, "node_rank counts from 0, up to 1 of 2 nodes"),
    ],
)
def test_a_wrong_config_is_refused(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        DistributedConfig.model_validate(given)


def test_more_processes_than_gpus_are_refused(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ModelError, match=r"training: 2 processes on \S+, which has 1 GPU; each needs one of its own"):
        fit_distributed(study, TWO)


def _failed(folder: Path, rank: int, code: int, error: Exception | None = None, at: float = 0.0) -> ProcessFailure:
    """What torchrun knows of a process that failed; torch itself writes the error that it raised, if any."""
    file = folder / f"error-{rank}.json"
    if error is not None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("TORCHELASTIC_ERROR_FILE", str(file))
            ErrorHandler().record_exception(error)
        os.utime(file, (at, at))
    return ProcessFailure(local_rank=rank, pid=7, exitcode=code, error_file=str(file))


def test_the_first_cause_is_reported_and_not_what_followed_from_it(tmp_path: Path) -> None:
    nodes, here = DistributedConfig(nodes=2, rendezvous="here:1"), socket.gethostname()
    lost = _failed(tmp_path, 0, 1, RuntimeError("Connection closed by peer\nmore of it"), at=12.25)
    ended = _failed(tmp_path, 1, -signal.SIGTERM)

    def reported(log: str | dict[int, ProcessFailure], code: int = 1) -> str:
        text = log if isinstance(log, str) else str(ChildFailedError("studies.training.distributed_worker", log))
        (tmp_path / TORCHRUN_LOG).write_text(text)
        return str(why_stopped(tmp_path, tmp_path / "runs", nodes, code))

    unmet = "torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError\n"
    assert reported(unmet).startswith("training: 2 nodes have not met at here:1 within 1800 s, as seen from ")
    assert reported(unmet, -9).startswith(f"training: torchrun on {here} was killed by SIGKILL")
    assert f"torchrun on {here} failed with exit code 3: no such option (logs: " in reported(
        "usage\nno such option\n", 3
    )
    assert reported({0: lost, 1: ended}).startswith(
        f"training: rank 0 on {here} failed: RuntimeError: Connection closed by peer; if it only lost the others, the"
    )
    own = _failed(tmp_path, 2, 1, IndexError("list index out of range"), at=12.0)  # within the same second
    assert f"rank 2 on {here} failed: IndexError: list index out of range" in reported({0: lost, 1: ended, 2: own})
    silent = _failed(tmp_path, 4, 1)
    assert f"rank 4 on {here} failed with exit code 1 (logs: " in reported({0: lost, 1: ended, 4: silent})
    killed = _failed(tmp_path, 3, -signal.SIGSEGV)
    assert f"rank 3 on {here} was killed by SIGSEGV (logs: {tmp_path}); there was no checkpoint yet" in reported(
        {0: lost, 1: ended, 3: killed}
    )
    fixable = _failed(tmp_path, 5, 2, ModelError("lower\nlr"), at=11.0)
    assert reported({0: lost, 1: ended, 2: own, 5: fixable}) == "lower lr"
    assert isinstance(why_stopped(tmp_path, tmp_path, nodes, 1), ModelError)
