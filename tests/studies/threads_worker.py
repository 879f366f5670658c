"""A process of a test that makes targets, a training or videos, and prints the digests of what it made as JSON."""

import json
import sys
from pathlib import Path

from core.checkout import project_root
from core.files import digest_folder, digest_json, read_json
from studies.reconstruction.run import reconstruct
from studies.registry.production import resolve_production
from studies.registry.promote import promote_run
from studies.registry.register import register_training
from studies.stores.targets import extract
from studies.study import Study, load_study
from studies.training.fit import fit

from .routes_source import make_stores


def targets(study: Study) -> dict[str, str]:
    """Extract every target."""
    return {name: extract(study, name).digest for name in study.targets}


def training(study: Study) -> dict[str, str]:
    """Train on the stores."""
    make_stores(study)
    reference = fit(study)
    folder = project_root() / reference.folder
    files = {**read_json(folder / "training.json")["files"]}
    scores = {**read_json(folder / "scores.json"), "run": "its name has the time"}
    return {**reference.digests, **files, "scores.json": digest_json(scores)}


def videos(study: Study) -> dict[str, str]:
    """Train, promote, render and score."""
    make_stores(study)
    register_training(study, fit(study))
    promote_run(study)
    folder = project_root() / reconstruct(study, resolve_production(study)).folder
    values = read_json(folder / "values.json")["rows"]
    return {"videos": digest_folder(folder / "videos"), "seen": digest_folder(folder / "seen"), "values": repr(values)}


if __name__ == "__main__":
    work, config, *overrides = sys.argv[1:]
    made = {"targets": targets, "training": training, "videos": videos}[work](load_study(Path(config), overrides))
    sys.stdout.write(json.dumps(made, sort_keys=True))
