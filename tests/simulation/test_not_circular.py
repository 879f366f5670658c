"""Brains know no model: what is later decoded never drives a voxel, and no voxel stands for one attribute."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from core.checkout import CODE_ROOT as ROOT
from core.files import digest_folder
from feature_store.sources.bold_moments.layout import ROIS
from simulation.brains import VENTRAL, Seen, simulate_subject
from simulation.world import ATTRIBUTES, SimulationConfig, render
from simulation.write import shown

KNOWN = {"core", "feature_store", "simulation"}
"""The rooms a simulation is made in."""
LEARNED = {"models", "evaluation", "studies", "torch", "diffusers", "transformers", "safetensors", "mlflow"}
"""Where weights are, and what reads them."""


def reached(*modules: str) -> set[str]:
    """Return the names of all that modules of this project import, through one another, functions' imports too."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = ROOT.joinpath(*name.split("."))
        file = next((f for f in (path / "__init__.py", path.with_suffix(".py")) if f.is_file()), None)
        if name in found or file is None:
            found.add(name)
            continue
        found.add(name)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def rooms(modules: set[str]) -> set[str]:
    return {name.split(".")[0] for name in modules}


def test_no_module_of_the_simulation_reaches_a_model() -> None:
    modules = {f"simulation.{file.stem}" for file in (ROOT / "simulation").glob("[!_]*.py")}
    assert {"simulation.brains", "simulation.write"} <= modules
    assert rooms(reached(*modules)).isdisjoint(LEARNED)
    assert {"models", "torch"} <= rooms(reached("studies.stores.targets")), (
        "the search finds models where they are used"
    )


WITHOUT_MODELS = """
import sys
from pathlib import Path

before = set(sys.modules)  # what Python itself loads in this environment
from simulation.world import SimulationConfig
from simulation.write import simulate

simulate(SimulationConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""


def test_brains_are_the_same_where_there_is_no_model(tiny: SimulationConfig, dataset: Path, tmp_path: Path) -> None:
    """The simulation is made by a copy of the project that has neither the models' code nor their weights."""
    for room in KNOWN:
        shutil.copytree(ROOT / room, tmp_path / "project" / room, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", WITHOUT_MODELS, tiny.model_dump_json(), str(tmp_path / "dataset")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "project")}
    made = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    loaded = set(made.stdout.split())
    assert loaded & LEARNED == set()
    assert loaded >= KNOWN
    assert digest_folder(tmp_path / "dataset") == digest_folder(dataset)


def test_brains_open_no_file(tiny: SimulationConfig, tmp_path: Path) -> None:
    opened: list[str] = []
    listening = True

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event == "open" and not str(arguments[0]).endswith((".py", ".pyc", ".so")):
            opened.append(str(arguments[0]))

    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    sys.addaudithook(hear)  # stays for good, hence `listening`
    weights.read_bytes()
    assert opened == [str(weights)], "what is opened is heard"
    combinations, jitter = shown(tiny)
    simulate_subject(Seen.of(render(combinations, jitter, 8, 32, 32), combinations, tiny.seed), tiny, 1)
    listening = False
    assert opened == [str(weights)]


def explained(responses: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return η² of each voxel: the part of its variance that lies between some stimuli and the rest."""
    z = (responses - responses.mean(axis=0)) / responses.std(axis=0)
    part = chosen.mean()
    return np.asarray(z[chosen].mean(axis=0) ** 2 * part / (1 - part))


@pytest.fixture(scope="module")
def ventral() -> tuple[SimulationConfig, np.ndarray, dict[str, np.ndarray]]:
    """Responses of ventral voxels nearly without noise, (stimulus, voxel), and each stimulus's attributes."""
    config = SimulationConfig(
        world="full", n_train=400, n_test=60, voxels=1000, ncsnr=(50, 50), silent=0, train_repeats=1
    )
    combinations, jitter = shown(config)
    seen = Seen.of(render(combinations, jitter, 8, 32, 32), combinations, config.seed)
    betas = simulate_subject(seen, config, 1).betas
    regions = [betas[roi] for roi in ROIS if roi[1:] in VENTRAL]
    means = [np.concatenate([part[split].mean(axis=1) for split in ("train", "test")]) for part in regions]
    words = {name: np.asarray([getattr(one, name) for one in combinations]) for name in ATTRIBUTES}
    return config, np.concatenate(means, axis=1), words


@pytest.mark.parametrize("attribute", list(ATTRIBUTES))
def test_an_attribute_is_read_from_a_population_and_no_single_voxel(
    ventral: tuple[SimulationConfig, np.ndarray, dict[str, np.ndarray]], attribute: str
) -> None:
    config, responses, words = ventral
    train, found = responses[: config.n_train], words[attribute]
    for value in ATTRIBUTES[attribute]:
        chosen = found[: config.n_train] == value
        assert explained(train, chosen).max() < 0.5, value
        assert explained(chosen[:, None].astype(float), chosen) == pytest.approx(1), "as a one-hot voxel would have it"
    decoder = RidgeClassifier(1000).fit(train, found[: config.n_train])
    assert decoder.score(responses[config.n_train :], found[config.n_train :]) > 0.9
