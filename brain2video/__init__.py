"""Brain2Video: fMRI of people watching videos, turned back into videos.

The public API, documented in docs/api.md. Each name is imported from its module when it is first used, so that
``import brain2video`` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import core.environment  # noqa: F401 - MLflow and ZenML keep their state in the checkout

if TYPE_CHECKING:
    from evaluation import metrics
    from feature_store import Store, verify
    from studies.comparison.compare import compare_runs
    from studies.comparison.evaluate import EvaluationRequest, evaluate_folder
    from studies.reconstruction.new import NewFile, reconstruct_file
    from studies.reconstruction.run import reconstruct
    from studies.regions.run import decode_regions
    from studies.registry.production import resolve_production
    from studies.registry.promote import promote_run as promote
    from studies.registry.register import register_training as register
    from studies.stores.responses import ingest, subjects_of
    from studies.stores.responses import simulate_source as simulate
    from studies.stores.targets import extract
    from studies.study import Study, load_study
    from studies.training.fit import fit

PLACES = {
    "EvaluationRequest": "studies.comparison.evaluate:EvaluationRequest",
    "NewFile": "studies.reconstruction.new:NewFile",
    "Store": "feature_store:Store",
    "Study": "studies.study:Study",
    "compare_runs": "studies.comparison.compare:compare_runs",
    "decode_regions": "studies.regions.run:decode_regions",
    "evaluate_folder": "studies.comparison.evaluate:evaluate_folder",
    "extract": "studies.stores.targets:extract",
    "fit": "studies.training.fit:fit",
    "ingest": "studies.stores.responses:ingest",
    "load_study": "studies.study:load_study",
    "metrics": "evaluation.metrics:",
    "promote": "studies.registry.promote:promote_run",
    "reconstruct": "studies.reconstruction.run:reconstruct",
    "reconstruct_file": "studies.reconstruction.new:reconstruct_file",
    "register": "studies.registry.register:register_training",
    "resolve_production": "studies.registry.production:resolve_production",
    "simulate": "studies.stores.responses:simulate_source",
    "subjects_of": "studies.stores.responses:subjects_of",
    "verify": "feature_store:verify",
}
"""Public name to ``module:name``, or to ``module:`` for a module."""

__all__ = [
    "EvaluationRequest",
    "NewFile",
    "Store",
    "Study",
    "compare_runs",
    "decode_regions",
    "evaluate_folder",
    "extract",
    "fit",
    "ingest",
    "load_study",
    "metrics",
    "promote",
    "reconstruct",
    "reconstruct_file",
    "register",
    "resolve_production",
    "simulate",
    "subjects_of",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module 'brain2video' has no attribute {name!r}")
    module, _, attribute = PLACES[name].partition(":")
    imported = import_module(module)
    return getattr(imported, attribute) if attribute else imported


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
