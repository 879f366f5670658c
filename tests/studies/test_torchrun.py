"""Processes that train one study together: the curve of one process, one run, one line where one of them dies."""

import json
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

from core.checkout import project_root as home_folder
from core.errors import ModelError, TrainingStopped
from core.files import read_json
from core.progress import listening
from models.training.distributed import mine
from models.training.dropout import drawn_for_the_batch
from models.training.settings import TogetherConfig
from studies.study import Study, load_study
from studies.training.distributed import AGENT_LOG, fit_by, why_stopped
from studies.training.distributed_worker import main
from studies.training.fit import fit

from ..conftest import write_arrays
from .conftest import write_study
from .routes_source import MBM, MLP, make_stores

CHECKOUT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("together_worker.py")
TWO = TogetherConfig(processes=2, timeout_s=120)
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
    """The study, with nothing trained."""
    made = load_study(config)
    yield made
    shutil.rmtree(made.outputs, ignore_errors=True)


@pytest.fixture(scope="module")
def whole(config: Path) -> SimpleNamespace:
    """What two processes make of the study undisturbed, and what they told of it."""
    study, told = load_study(config), []
    with listening(lambda *one: told.append(one)):
        made = fit_by(study, TWO)
    folder = home_folder() / made.folder
    runs = {path.name for path in folder.parent.iterdir()}
    found = SimpleNamespace(made=made, told=told, runs=runs, **_contents(folder))
    shutil.rmtree(study.outputs)
    return found


def _contents(folder: Path) -> dict[str, Any]:
    """Return the digest of every file of a run but its scores, which hold its name, and the scores and curves."""
    record, scores = read_json(folder / "training.json"), read_json(folder / "scores.json")
    files = {name: digest for name, digest in record["files"].items() if name != "scores.json"}
    return {"files": files, "scores": {**scores, "run": ""}, "curves": read_json(folder / "curves.json")}


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


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


def test_the_launcher_hears_the_first_process_alone_and_has_one_run(whole: SimpleNamespace) -> None:
    assert (whole.made.fresh, whole.runs) == (False, {whole.made.run, "latest"})
    assert [told[:3] for told in whole.told if told[0].startswith("training by")] == [("training by 2 processes", 1, 1)]
    steps = [done for what, done, *_ in whole.told if what == "mbm encoder: masked brain modelling"]
    assert steps == list(range(STEPS + 1)), "every step, once"
    assert not list((home_folder() / ".state" / "together").iterdir()), "messages and logs are gone"


def test_a_killed_process_ends_all_with_one_line_and_the_next_run_goes_on_to_the_same_bytes(
    whole: SimpleNamespace, study: Study
) -> None:
    ranks: dict[int, psutil.Process] = {}

    def strike(what: str, done: int, total: int, note: str) -> None:
        if what == "mbm encoder: masked brain modelling" and done == 9 and not ranks:
            ranks.update(_ranks(os.getpid()))
            ranks[1].send_signal(signal.SIGKILL)

    with pytest.raises(TrainingStopped) as stopped, listening(strike):
        fit_by(study, TWO)
    (unfinished,) = (study.outputs / "training").glob(".unfinished-*[0-9a-f]")
    assert str(stopped.value) == (
        f"training: rank 1 on {socket.gethostname()} was killed by SIGKILL, as the system does where memory runs out; "
        f"checkpoints are in outputs/small/training/{unfinished.name}, and the same command goes on from there"
    )
    assert set(ranks) == {0, 1}
    assert not any(rank.is_running() for rank in ranks.values())
    stopped_at = len(torch.load(unfinished / "mbm/encoder/mbm.pt", weights_only=True)["losses"])
    assert stopped_at >= 8

    kept = study.outputs.with_name("kept")
    shutil.copytree(study.outputs, kept, symlinks=True)
    told: list[Any] = []
    with listening(lambda *one: told.append(one)):
        made = fit_by(study, TWO)
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


def test_two_nodes_make_one_training_and_hand_on_the_same_reference(whole: SimpleNamespace, study: Study) -> None:
    node = TogetherConfig(nodes=2, rendezvous=f"127.0.0.1:{_free_port()}", timeout_s=120)
    told_by: set[tuple[int, bool]] = set()
    with (
        listening(lambda what, *_: told_by.add((threading.get_ident(), "masked" in what))),
        ThreadPoolExecutor(2) as launchers,
    ):
        one, other = launchers.map(lambda _: fit_by(study, node), range(2))
    (folder,) = (study.outputs / "training").glob("[0-9]*")
    assert one == other
    assert one.run == folder.name
    assert len({launcher for launcher, _ in told_by}) == 1, "the first node alone tells of progress"
    assert _contents(folder)["files"] == whole.files, "where two processes are does not matter"


def test_nodes_with_another_study_are_refused_in_the_words_of_the_process_that_saw_it(
    study: Study, config: Path
) -> None:
    node = TogetherConfig(nodes=2, rendezvous=f"127.0.0.1:{_free_port()}", timeout_s=120)
    studies = study, load_study(config, ["seed=1"])
    with ThreadPoolExecutor(2) as launchers:
        launched = [launchers.submit(fit_by, one, node) for one in studies]
    expected = (
        r"rank 1 on \S+ has another training before it than rank 0 on \S+: settings.seed was [01], is [01]; run the"
    )
    for one in launched:
        with pytest.raises(ModelError, match=expected):
            one.result()
    assert not [path for path in (study.outputs / "training").glob("*") if path.name != "latest"], "nothing is kept"


def test_by_hand_another_number_of_processes_than_wanted_is_refused(
    study: Study, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["fit_together", "-c", str(config), "--world", "2"])
    assert main() == 2
    assert capsys.readouterr().err.startswith("error: training: 2 processes were launched and 1 take part; launch with")


def test_each_process_takes_rows_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for index, rows in ((0, [0, 2, 4]), (1, [1, 3, 5])):
        _as_one_of_two(monkeypatch, index)
        assert mine(np.arange(6)).tolist() == rows
        assert mine(np.arange(5), evenly=False).tolist() == [row for row in rows if row < 5]
    with pytest.raises(ModelError, match="a batch of 5 rows over 2 processes; make it a multiple of them"):
        mine(np.arange(5))


def _as_one_of_two(monkeypatch: pytest.MonkeyPatch, index: int, count: int = 2) -> None:
    one = SimpleNamespace(num_processes=count, process_index=index)
    for module in ("workers", "dropout"):
        monkeypatch.setattr(f"models.training.{module}.workers", lambda: one)


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
        TogetherConfig.model_validate(given)


def test_more_processes_than_gpus_are_refused(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ModelError, match=r"training: 2 processes on \S+, which has 1 GPU; each needs one of its own"):
        fit_by(study, TWO)


def _end(rank: int, code: int) -> str:
    return f"  host      : localhost\n  rank      : {rank} (local_rank: {rank})\n  exitcode  : {code} (pid: 7)\n"


def _says(folder: Path, rank: int, kind: str, message: str, error: str = "RuntimeError") -> None:
    said = {"kind": kind, "error": error, "message": message, "rank": rank, "host": f"node-{rank}"}
    (folder / f"rank-{rank}.json").write_text(json.dumps(said))


def test_the_first_cause_is_told_and_not_what_followed_from_it(tmp_path: Path) -> None:
    def told(code: int = 1) -> str:
        return str(why_stopped(tmp_path, tmp_path / "runs", TogetherConfig(nodes=2, rendezvous="here:1"), code))

    (tmp_path / AGENT_LOG).write_text("torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError\n")
    assert told().startswith("training: 2 nodes have not met at here:1 within 1800 s, as seen from ")
    assert told(-9).startswith(f"training: torchrun on {socket.gethostname()} was killed by SIGKILL")
    _says(tmp_path, 0, "lost", "Connection closed by peer")
    (tmp_path / AGENT_LOG).write_text(_end(0, 1))
    assert "rank 0 on node-0 lost the others (Connection closed by peer); the other nodes say why" in told()
    (tmp_path / AGENT_LOG).write_text(_end(0, 1) + _end(2, -15) + _end(1, 1))
    (tmp_path / "logs" / "run" / "attempt_0" / "1").mkdir(parents=True)
    (tmp_path / "logs" / "run" / "attempt_0" / "1" / "stderr.log").write_text("Traceback\nImportError: no torch\n\n")
    assert f"rank 1 on {socket.gethostname()} failed: ImportError: no torch (all it said: " in told()
    _says(tmp_path, 2, "failed", "list index out of range", "IndexError")
    assert "rank 2 on node-2 failed: IndexError: list index out of range" in told()
    (tmp_path / AGENT_LOG).write_text(_end(0, 1) + _end(1, -11))
    assert f"rank 1 on {socket.gethostname()} was killed by SIGSEGV; there was no checkpoint yet" in told()
    _says(tmp_path, 3, "mendable", "mend this", "ModelError")
    assert told() == "mend this"
