"""Commands that take a study from recordings to trained models, by region too, and check its stores."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brain2video.cli.options import (
    DEMO,
    Full,
    NoCommit,
    Processes,
    Routes,
    SpreadOptions,
    StudyOptions,
    TogetherOptions,
)
from core.errors import ConfigError

if TYPE_CHECKING:
    from studies.runs import TrainingRef


def demo(study: StudyOptions, full: Full = False) -> None:
    """Run the whole loop on the small simulated world, and show the results; `dvc.lock` stays as it is."""
    run(study, SpreadOptions(), no_commit=True, full=full)


def simulate(
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="Folder of the dataset.")],
    study: StudyOptions,
    form: Annotated[
        str | None,
        typer.Option(
            "--form",
            help="Instead of the study's dataset, small recordings as your own may be: arrays, or bids.",
            metavar="FORM",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="With --form: of all that is drawn; 0 by default.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a dataset that was simulated with other settings.")
    ] = False,
    no_commit: NoCommit = False,
) -> None:
    """Write the study's simulated dataset, in BOLD Moments' layout; or small recordings in another form."""
    from brain2video.cli.launch import versioned
    from brain2video.cli.progress import working
    from studies.stores.responses import simulate_recordings, simulate_source

    if form is None:
        if seed is not None:
            raise ConfigError("--seed: goes with --form; a study's own seed is --set simulation.seed=N")
        with working() as console:
            with versioned(destination, study, commit=not no_commit):
                folder, _ = simulate_source(study.load(), destination, replace=replace)
            console.print(f"[green]simulated[/] {folder}")
        return
    if study.config != DEMO or study.overrides or replace:
        raise ConfigError("--form: writes recordings of no study, and replaces none; leave out -c, --set and --replace")
    with working() as console:
        folder, config = simulate_recordings(form, destination, seed or 0)
        console.print(f"[green]simulated[/] {folder}; next: brain2video run -c {config}", highlight=False)


def run(
    study: StudyOptions,
    spread: SpreadOptions,
    routes: Routes = None,
    no_commit: NoCommit = False,
    processes: Processes = None,
    full: Full = False,
) -> None:
    """Run a whole study: responses, targets, training, promotion, reconstruction."""
    from brain2video.cli.commands.registry import show_promotion
    from brain2video.cli.commands.videos import show_reconstruction_run
    from brain2video.cli.launch import launch

    study = study.with_routes(routes)
    chosen = study.load()
    parameters = {
        "executor": spread.executor_config(),
        "together": TogetherOptions(processes).distributed_config(),
        "commit": not no_commit,
    }
    result = launch("main", study.config, study.overrides, **parameters)
    show_training_run(result.training, full=full)
    show_promotion(chosen.study, result.decision)
    show_reconstruction_run(result.reconstruction, full=full)


def responses(
    study: StudyOptions,
    spread: SpreadOptions,
    subject: Annotated[list[str] | None, typer.Option("--subject", help="Only this subject; repeatable.")] = None,
    no_commit: NoCommit = False,
) -> None:
    """Write subjects' responses to the feature store."""
    _write_groups("responses", study, spread, no_commit, subjects=subject or [])


def targets(
    study: StudyOptions,
    spread: SpreadOptions,
    target: Annotated[list[str] | None, typer.Option("--target", help="Only this target; repeatable.")] = None,
    no_commit: NoCommit = False,
) -> None:
    """Write the targets that regressors learn to the feature store."""
    _write_groups("targets", study, spread, no_commit, targets=target or [])


def _write_groups(
    pipeline: str, study: StudyOptions, spread: SpreadOptions, no_commit: bool, **names: list[str]
) -> None:
    from brain2video.cli.launch import launch
    from brain2video.cli.tables.drawing import show_lines
    from studies.status.status import stores_status

    chosen, executor = study.load(), spread.executor_config()
    launch(pipeline, study.config, study.overrides, commit=not no_commit, executor=executor, **names)
    show_lines(f"{chosen.study}: feature store", stores_status(chosen))


def train(
    study: StudyOptions,
    together: TogetherOptions,
    routes: Routes = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Put it into production where mlflow/promotion.yaml lets it.")
    ] = False,
    join: Annotated[
        bool, typer.Option("--join", help="Take part in a training that another machine runs; that one registers it.")
    ] = False,
    full: Full = False,
) -> None:
    """Fit, score and register the encoder and the regressors."""
    from brain2video.cli.commands.registry import show_promotion
    from brain2video.cli.launch import launch, take_part

    study = study.with_routes(routes)
    chosen, processes = study.load(), together.distributed_config()
    if join:
        take_part(chosen, processes)
        return
    result = launch("training", study.config, study.overrides, promote=promote, together=processes)
    show_training_run(result.training, full=full)
    if promote:
        show_promotion(chosen.study, result.decision)


def show_training_run(training: "TrainingRef", *, full: bool = False) -> None:
    """Show a training run's scores, every one where `full`."""
    from brain2video.cli.tables.scores import show_training
    from core.checkout import project_root
    from core.files import read_json
    from studies.runs import SCORES

    folder = project_root() / training.folder
    show_training(training.study, folder, read_json(folder / SCORES), full=full)


def regions(study: StudyOptions) -> None:
    """Decode the targets from each ROI alone and without it, and draw from where in the brain they come."""
    from brain2video.cli.launch import launch
    from brain2video.cli.tables.regions import show_regions
    from core.checkout import project_root
    from core.files import read_json
    from studies.runs import BRAIN, REGIONS_CHART, REGIONS_RECORD

    study.load()
    decoded = launch("regions", study.config, study.overrides).regions
    if not decoded.run:
        typer.echo(decoded.note)
        return
    folder = project_root() / decoded.folder
    pictures = [path for path in (folder / REGIONS_CHART, folder / BRAIN) if path.is_file()]
    show_regions(decoded.study, read_json(folder / REGIONS_RECORD), pictures)


def verify(
    study: StudyOptions,
    path: Annotated[Path | None, typer.Argument(help="A store or a group; the study's store by default.")] = None,
) -> None:
    """Compare every byte of a feature store with its manifests; exit with 2 where one differs."""
    from brain2video.cli.progress import working
    from brain2video.cli.tables.drawing import show_findings
    from feature_store import verify as findings_of

    store = path or study.load().store
    with working():
        findings = [str(finding) for finding in findings_of(store)]
    show_findings(findings, f"{store}: every byte is as published")
    if findings:
        raise typer.Exit(2)
