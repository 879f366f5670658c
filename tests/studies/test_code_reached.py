"""Which code the results of a study depend on: what makes them, and not what asks for them or draws them."""

from pathlib import Path

import yaml

from core.code import modules_reached
from models.extractors.settings import PixelsConfig
from simulation.write import simulate
from studies.reconstruction.run import reconstruct
from studies.regions.run import decode_regions
from studies.stores.extraction import write_targets
from studies.stores.ingestion import write_responses
from studies.study import load_study
from studies.training.fit import fit

FOREIGN = ("brain2video", "core.executors", "evaluation", "models.registry", "pipelines", "simulation", "studies.study")


def test_a_stored_group_depends_on_neither_studies_nor_workers_nor_pictures() -> None:
    targets = modules_reached(write_targets, PixelsConfig(frames=1, height=6, width=6))
    reached = modules_reached(write_responses) | targets
    assert {"studies.stores.ingestion", "feature_store.writer", "models.extractors.base"} <= reached
    assert [name for name in reached if name.startswith(FOREIGN)] == []


def test_a_reconstruction_depends_on_what_renders_and_on_what_reads_captions() -> None:
    reached = modules_reached(reconstruct)
    assert {"studies.decoding.render", "simulation.world", "studies.reconstruction.score"} <= reached
    assert "studies.study" not in reached


def test_a_training_depends_on_what_renders_its_held_out_stimuli() -> None:
    assert "studies.decoding.render" in modules_reached(fit)


def test_regions_depend_on_the_ridge_and_not_on_training_runs() -> None:
    reached = modules_reached(decode_regions)
    assert "models.regressors.ridge" in reached
    assert "studies.training.fit" not in reached


def test_dvcs_stages_depend_on_all_code_of_their_fingerprints() -> None:
    checkout = Path(__file__).resolve().parents[2]
    stages = yaml.safe_load((checkout / "dvc.yaml").read_text())["stages"]
    study = load_study(checkout / "configs" / "demo.yaml")
    reached = {
        "world": modules_reached(simulate),
        "responses": modules_reached(write_responses, study.source),
        "targets": modules_reached(write_targets, study.source, *study.targets.values()),
    }
    for name, modules in reached.items():
        folders = tuple(f"{dep.replace('/', '.')}." for dep in stages[name]["deps"])
        packages = {"feature_store", "models", "simulation", "studies", "core"}
        assert [one for one in modules - packages if not one.startswith(folders) and one != "studies.stores"] == []
