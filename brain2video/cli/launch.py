"""Triggers a pipeline from the command line and returns the references that its steps returned."""

import importlib
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brain2video.cli.progress import working
from core.checkout import project_root
from core.errors import ConfigError
from core.files import disk_explained, one_at_a_time
from core.progress import WORK, report

if TYPE_CHECKING:
    from brain2video.cli.options import StudyOptions
    from models.registry.sets import ModelSet
    from studies.registry.decision import PromotionDecision
    from studies.runs import ReconstructionRef, RegionsRef, TrainingRef
    from studies.study import Study


class PipelineResult:
    """The references that the steps of a finished run returned, each loaded when it is asked for.

    Parameters
    ----------
    run : ZenML's record of the run
    """

    def __init__(self, run: Any) -> None:
        self._steps = run.steps

    @property
    def training(self) -> "TrainingRef":
        """The training run."""
        reference: TrainingRef = self._load("fit_models", "training")
        return reference

    @property
    def candidate(self) -> "ModelSet":
        """The model set that was compared with production."""
        models: ModelSet = self._load("promote_models", "candidate")
        return models

    @property
    def decision(self) -> "PromotionDecision":
        """The comparison of that set with what was in production before."""
        decision: PromotionDecision = self._load("promote_models", "decision")
        return decision

    @property
    def regions(self) -> "RegionsRef":
        """The decoding from each ROI."""
        reference: RegionsRef = self._load("decode_regions", "regions")
        return reference

    @property
    def reconstruction(self) -> "ReconstructionRef":
        """The reconstruction of the test stimuli or of a file of responses."""
        step = "reconstruct_videos" if "reconstruct_videos" in self._steps else "reconstruct_responses"
        reference: ReconstructionRef = self._load(step, "reconstruction")
        return reference

    def _load(self, step: str, output: str) -> Any:
        (artifact,) = self._steps[step].outputs[output]
        return artifact.load()


def launch(name: str, config: str, overrides: list[str] | None, **parameters: Any) -> PipelineResult:
    """Run a pipeline by its name and return what its steps returned; ZenML's run carries the study's name.

    Raises
    ------
    Exception
        What a step raised.
    """
    from studies.study import load_study

    with working() as console:
        console.print(f"[bold]{name}[/] [dim]{config}[/]", highlight=False)
        WORK.reset()
        started = time.monotonic()
        _set_up_zenml()
        pipeline = getattr(importlib.import_module(f"pipelines.{name}"), name)
        chosen = load_study(config, overrides or [])
        named = pipeline.with_options(run_name=f"{chosen.study}-{name}-{{date}}-{{time}}")
        run = named(study=config, overrides=list(overrides or []), **parameters)
        console.print(_account(run, time.monotonic() - started), highlight=False)
    return PipelineResult(run)


def take_part(study: "Study", together: dict[str, Any]) -> None:
    """Train with other machines, one of which runs the pipeline; all of them see the run that it writes."""
    from models.training.settings import DistributedConfig
    from studies.training.distributed import fit_distributed

    if together.get("nodes", 1) == 1:
        raise ConfigError("--join: takes part with other machines; give their number with --nodes, and --rendezvous")
    with working() as console:
        training = fit_distributed(study, DistributedConfig.model_validate(together))
        console.print(f"[green]took part in[/] {training.folder}", highlight=False)


def _account(run: Any, seconds: float) -> str:
    """Return a run's line: the steps that worked, and the share of orchestration, ZenML's own time and its imports."""
    steps, share = len(run.steps), max(0.0, seconds - WORK.seconds)
    counts = f"{steps - WORK.up_to_date} of {steps} steps had work to do, {WORK.up_to_date} results were up to date"
    return f"[dim]{run.name}: {counts}; {seconds:.1f} s, orchestration {share:.1f} s of it ({share / seconds:.0%})[/]"


@contextmanager
def versioned(folder: Path, study: "StudyOptions", *, commit: bool) -> Iterator[None]:
    """Commit the DVC stage that owns a folder, where there is one, once a block has written it; checked before.

    A run with overrides is not the stage's. Without `commit`, what agrees with `dvc.lock` is kept in DVC's cache.
    """
    from feature_store.versioning import commit_outputs, keep_outputs, require_committable

    if commit and not study.overrides:
        require_committable(project_root(), [folder], study.config)
    yield
    if not study.overrides:
        (commit_outputs if commit else keep_outputs)(project_root(), [folder.absolute()], study.config)


def _set_up_zenml() -> None:
    warnings.filterwarnings("ignore")
    ours = "ZENML_STORE_URL" not in os.environ
    state = Path(os.environ["ZENML_CONFIG_PATH"])
    first = ours and not any(state.glob("**/zenml.db"))
    what = "setting up ZenML's database (first time only, about 20 s)"
    if first:
        report(what, 0, 1)
    with disk_explained(state), one_at_a_time(state / ".set-up.lock") if ours else nullcontext():
        from zenml.client import Client

        Client().active_stack_model  # noqa: B018 - the first access creates the database
    if first:
        report(what, 1, 1)
