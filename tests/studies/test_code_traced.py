"""What each stage runs, followed while it works on the demo's study, is all in the fingerprint of its result."""

import inspect
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from core import code
from core.checkout import CODE_ROOT
from core.config import Config
from feature_store.sources.bold_moments.dataset import BoldMoments
from studies.reconstruction.run import reconstruct
from studies.regions.run import decode_regions
from studies.registry.production import resolve_production
from studies.registry.promote import promote_run
from studies.registry.register import register_training
from studies.stores.extraction import write_targets
from studies.stores.ingestion import write_responses
from studies.stores.responses import ingest, simulate_source
from studies.stores.targets import extract
from studies.study import Study, load_study
from studies.training.fit import fit

from .test_simulated import CONFIG, TINY

NO_WORK = {"studies.study", "core.environment"}
"""Settings are in every fingerprint by their values; any import asks what answers the old import paths."""
OURS = f"{CODE_ROOT}/"
IMPORTED = 12
"""Fewer modules than any stage runs: a trace of fewer would have missed its stage."""


class Trace:
    """Follows the modules of this project whose code runs while one of some functions is under way, in any thread."""

    def __init__(self, *roots: Callable[..., Any]) -> None:
        self._roots, self._under_way = {inspect.unwrap(root).__code__ for root in roots}, 0
        self._seen: set[CodeType] = set()
        self._elsewhere: set[CodeType] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        """Take note of a call; only of the roots is the return reported, too."""
        del event, argument
        running = frame.f_code
        if running in self._elsewhere:
            return None
        if not running.co_filename.startswith(OURS):
            self._elsewhere.add(running)
            return None
        root = running in self._roots
        self._under_way += root
        if self._under_way and running not in self._seen and not _is_setting(frame):
            self._seen.add(running)
        frame.f_trace_lines = False
        return self._ended if root else None

    def _ended(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        del frame, argument
        self._under_way -= event == "return"
        return self._ended

    @property
    def modules(self) -> dict[str, set[str]]:
        """Every module of this project, with the functions of it that ran."""
        functions: dict[str, set[str]] = {}
        for seen in self._seen:
            file = Path(seen.co_filename)
            if file.suffix == ".py" and file.is_relative_to(CODE_ROOT):
                parts = file.relative_to(CODE_ROOT).with_suffix("").parts
                name = ".".join(parts).removesuffix(".__init__")
                functions.setdefault(name, set()).add(seen.co_qualname)
        return {name: ran for name, ran in functions.items() if not name.startswith(("tests", ".venv"))}


def _is_setting(frame: FrameType) -> bool:
    """Say whether a property of a config is read: a fingerprint holds a config's values."""
    while frame.f_code.co_name.startswith("<") and frame.f_back is not None:  # a comprehension is its function's
        frame = frame.f_back
    owner = frame.f_locals.get("self")
    return isinstance(owner, Config) and isinstance(getattr(type(owner), frame.f_code.co_name, None), property)


@contextmanager
def followed(root: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, *beside: Callable[..., Any]) -> Iterator[None]:
    """Check, after a block, that every module that `root` ran, or functions beside it, is in the digest of its code."""
    digested: list[frozenset[str]] = []
    reach = code.modules_reached

    def record(*parts: object) -> frozenset[str]:
        reached = reach(*parts)
        if root in parts:
            digested.append(reached)
        return reached

    monkeypatch.setattr(code, "modules_reached", record)
    trace = Trace(root, *beside)
    threading.settrace(trace)
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        monkeypatch.setattr(code, "modules_reached", reach)
    assert digested, "the stage took no digest of its code"
    assert len(trace.modules) > IMPORTED
    missing = trace.modules.keys() - frozenset.intersection(*digested) - NO_WORK
    assert {name: trace.modules[name] for name in missing} == {}


@pytest.fixture
def tiny(home: Path, small_models: Path) -> Study:
    shutil.copytree(small_models, home / "models" / "small_world")
    study = load_study(CONFIG, [*TINY, "training.routes.mlp={encoder: {kind: pca}, regressor: {kind: mlp, steps: 4}}"])
    simulate_source(study)
    return study


def test_every_module_that_a_stage_runs_is_in_its_fingerprint(tiny: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    for subject in ("sub-01", "sub-02"):
        with followed(write_responses, monkeypatch, BoldMoments.responses):
            ingest(tiny, subject)
    for target in tiny.targets:
        with followed(write_targets, monkeypatch):
            extract(tiny, target)
    with followed(fit, monkeypatch):
        training = fit(tiny)
    register_training(tiny, training)
    promote_run(tiny)
    with followed(decode_regions, monkeypatch):
        decode_regions(tiny)
    with followed(reconstruct, monkeypatch):
        reconstruct(tiny, resolve_production(tiny))
