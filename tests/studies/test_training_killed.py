"""A training is killed at random moments: each time it goes on from its checkpoints, in the end to the same bytes."""

import shutil
import signal
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.files import read_json
from studies.study import load_study

from ..conftest import write_arrays
from ..forking import forking
from .conftest import write_study
from .fit_worker import main
from .routes_source import MBM, MLP, make_stores

SHORT: dict[str, Any] = {**MLP, "hidden": 16, "steps": 40, "batch": 16, "checkpoint_every": 3, "validate_every": 10}
ROUTES: dict[str, Any] = {"mlp": {"regressor": SHORT}, "mbm": {"encoder": MBM, "regressor": SHORT}}


def run(
    context: ForkServerContext, config: Path, lines: int | None = None, pause: float = 0.0
) -> tuple[int | None, list[str]]:
    """Run the training, until it has told so many lines if it gets that far; return its exit code and the lines."""
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=main, args=(config, sender))
    worker.start()
    sender.close()
    told: list[str] = []
    with suppress(EOFError):
        while True:
            told.append(receiver.recv())
            if len(told) == lines:
                worker.join(pause)
                worker.kill()
    worker.join(120)
    return worker.exitcode, told


def result_of(runs: Path) -> dict[str, Any]:
    """Return what the one run that is there made of the training: every file's digest, and the scores themselves."""
    (folder,) = runs.glob("[0-9]*")
    record, scores = read_json(folder / "training.json"), read_json(folder / "scores.json")
    assert {path.name for path in runs.iterdir()} == {folder.name, "latest"}, "nothing unfinished is left"
    files = {name: digest for name, digest in record["files"].items() if name != "scores.json"}
    return {"digests": record["digests"], "files": files, "scores": {**scores, "run": ""}}


@pytest.mark.parametrize(
    "kills", [pytest.param(2, marks=pytest.mark.servers), pytest.param(10, marks=pytest.mark.full)]
)
def test_a_killed_training_goes_on_to_the_same_bytes(
    home: Path, tmp_path: Path, rng: np.random.Generator, kills: int
) -> None:
    source = write_arrays(tmp_path / "recordings", rng, train=24, voxels=20)
    config = write_study(home, source, roles={"z": "pixels", "align": "pixels"}, training={"routes": ROUTES})
    study = load_study(config)
    make_stores(study)
    runs = study.outputs / "training"
    with forking("tests.studies.fit_worker") as context:
        code, whole = run(context, config)
        assert code == 0
        expected = result_of(runs)
        assert {name.partition("/")[0] for name in expected["files"]} >= {"encoder", "regressor-z", "pictures"}
        shutil.rmtree(study.outputs)

        moments = rng.uniform(0.05, 0.95, size=kills)
        struck = 0
        for one in range(0, kills, 2):  # each training is killed twice, the second time after it has gone on
            for moment in sorted(moments[one : one + 2]):
                lines = int(moment * len(whole) / (1 + struck % 2))
                code, _ = run(context, config, lines, float(rng.uniform(0, 0.02)))
                struck += code == -signal.SIGKILL
                assert not list(runs.glob("[0-9]*")), "there is a whole run or none"
                assert len(list(runs.glob(".unfinished-*[0-9a-f]"))) == 1, "what it goes on from is kept"
            code, told = run(context, config)
            assert code == 0
            assert len(told) < len(whole), "it went on, and did not begin anew"
            assert result_of(runs) == expected, f"killed at {moments[one : one + 2]} of its lines"
            shutil.rmtree(study.outputs)
        assert struck == kills
