"""The command line: every command reads a study and triggers the ZenML pipeline of its name.

Nothing heavy is imported here; a command imports what it needs, so that `--help` answers at once.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

import pipelines.environment as environment
from core.errors import Brain2VideoError

app = typer.Typer(
    name="brain2video",
    help="Turn fMRI of people watching videos back into videos.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[str, typer.Option("--config", "-c", help="The study's YAML.", metavar="YAML")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a key; repeatable.", metavar="KEY.PATH=VALUE")]
NoCommit = Annotated[bool, typer.Option("--no-commit", help="Leave dvc.lock as it is.")]
DEMO = "configs/demo.yaml"
ZooConfig = Annotated[Path, typer.Option("--config", "-c", help="The models' YAML.", metavar="YAML")]
ZOO, ZOO_MADE, ZOO_SHIPPED = (
    Path("configs/zoo/small_world.yaml"),
    Path("outputs/small_world"),
    Path("models/small_world"),
)

download = typer.Typer(help="Bring a published dataset or published weights.", no_args_is_help=True)
app.add_typer(download, name="download")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"brain2video {version('brain2video')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and every library's log.")] = False,
) -> None:
    """Turn fMRI of people watching videos back into videos."""


@app.command()
def demo(config: Config = DEMO, overrides: Set = None) -> None:
    """Run the whole loop on the small simulated world, and show what came out; `dvc.lock` stays as it is."""
    run(config, overrides, no_commit=True)


@app.command()
def simulate(
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="Folder of the dataset.")],
    config: Config = DEMO,
    overrides: Set = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a simulated dataset made otherwise.")] = False,
    no_commit: NoCommit = False,
) -> None:
    """Write the study's simulated dataset, in BOLD Moments' layout."""
    from pipelines.launch import commit, working
    from studies.simulate import simulate_source
    from studies.study import load_study

    with working() as console:
        folder = simulate_source(load_study(config, overrides or []), destination, replace=replace)
        if not no_commit:
            commit(folder, config, overrides)
        console.print(f"[green]simulated[/] {folder}")


@app.command(name="train-zoo")
def train_zoo(
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="Folder of the models.")] = ZOO_MADE,
    config: ZooConfig = ZOO,
) -> None:
    """Train the small world's own models anew, which takes hours; run again, it goes on where it stopped."""
    from pipelines.launch import working
    from studies.train_zoo import train_zoo as train
    from studies.zoo import load_small_world

    with working() as console:
        folder = train(load_small_world(config), destination)
        console.print(f"[green]trained[/] {folder}, see {folder}/README.md")


@app.command(name="score-zoo")
def score_zoo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the models.")] = ZOO_SHIPPED,
    config: ZooConfig = ZOO,
    pictures: Annotated[Path | None, typer.Option("--pictures", help="Folder of the contact sheets.")] = None,
) -> None:
    """Judge the small world's models on fresh clips: scores and model card into their folder, and contact sheets."""
    from pipelines.launch import show_zoo, working
    from studies.train_zoo import score
    from studies.zoo import load_small_world

    with working():
        scores = score(load_small_world(config), folder, pictures)
    show_zoo(scores)


@app.command()
def run(config: Config = DEMO, overrides: Set = None, no_commit: NoCommit = False) -> None:
    """Run a whole study: responses, targets, training, promotion, reconstruction."""
    from pipelines.launch import launch, show_training_and_reconstruction
    from studies.study import load_study

    study = load_study(config, overrides or [])
    if study.simulation is not None:
        launch("world", config, overrides, commit=not no_commit)
    launch("main", config, overrides, commit=not no_commit)
    show_training_and_reconstruction(study)


@app.command()
def responses(
    config: Config = DEMO,
    overrides: Set = None,
    subject: Annotated[list[str] | None, typer.Option("--subject", help="Only this subject; repeatable.")] = None,
    no_commit: NoCommit = False,
) -> None:
    """Write subjects' responses to the feature store."""
    from pipelines.launch import launch, show_stores
    from studies.study import load_study

    study = load_study(config, overrides or [])
    launch("responses", config, overrides, subjects=subject or [], commit=not no_commit)
    show_stores(study)


@app.command()
def targets(
    config: Config = DEMO,
    overrides: Set = None,
    target: Annotated[list[str] | None, typer.Option("--target", help="Only this target; repeatable.")] = None,
    no_commit: NoCommit = False,
) -> None:
    """Write the targets that regressors learn to the feature store."""
    from pipelines.launch import launch, show_stores
    from studies.study import load_study

    study = load_study(config, overrides or [])
    launch("targets", config, overrides, targets=target or [], commit=not no_commit)
    show_stores(study)


@app.command()
def train(config: Config = DEMO, overrides: Set = None) -> None:
    """Fit, score and register the encoder and the regressors."""
    from pipelines.launch import launch, show_training
    from studies.study import load_study

    study = load_study(config, overrides or [])
    launch("training", config, overrides)
    show_training(study)


@app.command()
def promote(
    config: Config = DEMO,
    overrides: Set = None,
    run: Annotated[str | None, typer.Option("--run", help="The training run; the newest by default.")] = None,
) -> None:
    """Set the alias `production` on a training run's whole set."""
    from pipelines.launch import launch, show_production
    from studies.study import load_study

    study = load_study(config, overrides or [])
    launch("promotion", config, overrides, run=run)
    show_production(study)


@app.command()
def reconstruct(
    config: Config = DEMO,
    overrides: Set = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Whose brain; the first by default.")] = None,
) -> None:
    """Reconstruct the test stimuli from the versions in production."""
    from pipelines.launch import launch, show_reconstruction
    from studies.study import load_study

    chosen = [*(overrides or []), *([f"reconstruction.subject={subject}"] if subject else [])]
    study = load_study(config, chosen)
    launch("reconstruction", config, chosen)
    show_reconstruction(study)


@app.command()
def status(config: Config = DEMO, overrides: Set = None) -> None:
    """Show a study's stores, runs and production versions."""
    from pipelines.launch import show_status
    from studies.study import load_study

    show_status(load_study(config, overrides or []))


@app.command()
def verify(
    path: Annotated[Path | None, typer.Argument(help="A store or a group; the study's store by default.")] = None,
    config: Config = DEMO,
    overrides: Set = None,
) -> None:
    """Hold every byte of a feature store against its manifests; exit with 2 where one differs."""
    from pipelines.launch import verify_store
    from studies.study import load_study

    verify_store(path or load_study(config, overrides or []).store)


@download.callback()
def published() -> None:
    """Bring a published dataset or published weights from where they are public."""


@download.command(name="weights")
def weights(
    config: Config = DEMO,
    overrides: Set = None,
    allow_pickled: Annotated[
        bool, typer.Option("--allow-pickled", help="Take pickled weights where there are no others, and convert them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it comes to, and fetch nothing.")] = False,
) -> None:
    """Bring the published weights that a study names from the hub into data/weights; run again, it goes on."""
    from pipelines.launch import show_weights, working
    from studies.download import bring_weights, find_weights
    from studies.study import load_study

    with working():
        models = find_weights(load_study(config, overrides or []))
    show_weights(models)
    if not dry_run:
        with working():
            bring_weights(models, allow_pickled=allow_pickled)


@download.command(name="bold-moments")
def bold_moments(
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="The dataset's folder, a study's source.path.")],
    subject: Annotated[list[str] | None, typer.Option("--subject", help="1 to 10; repeatable.")] = None,
    roi: Annotated[
        list[str] | None, typer.Option("--roi", help="Only this region: EBA, lV1v, BMDgeneral, WB, …; repeatable.")
    ] = None,
    responses: Annotated[
        list[str] | None,
        typer.Option("--responses", help="rois, MNI152, fsLR32k, fsaverage, windows; repeatable.", metavar="KIND"),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All responses; of all subjects unless named.")] = False,
    coordinates: Annotated[
        bool, typer.Option("--coordinates", help="With regions, also their voxel indices, noise ceilings and masks.")
    ] = False,
    clips_only: Annotated[bool, typer.Option("--clips-only", help="Only check the clips in DEST/stimuli.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Also hash the files that are there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it comes to, and fetch nothing.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Files fetched at once.")] = 8,
    endpoint: Annotated[str | None, typer.Option("--endpoint-url", hidden=True)] = None,
) -> None:
    """Bring BOLD Moments' responses from OpenNeuro (CC0), and check the clips; run again, it goes on."""
    from feature_store.sources.bold_moments import STIMULI
    from feature_store.sources.download import how_to_get_clips, request
    from pipelines.launch import show_bill, show_clips, working
    from studies.download import prepare

    again, clips = f"run again: {shlex.join(['brain2video', *sys.argv[1:]])}", destination / STIMULI
    if not clips_only:
        wanted = request(subject or [], roi or [], responses or [], coordinates=coordinates, everything=everything)
        try:
            with working():
                fetcher, bill = prepare(wanted, destination, jobs=jobs, check=check, endpoint=endpoint)
                show_bill(bill, destination)
                if dry_run:
                    return
                fetcher.fetch(bill, again=again)
        except KeyboardInterrupt:
            typer.secho(f"interrupted; what has come stays; {again}", fg="yellow", err=True)
            raise typer.Exit(130) from None
    if clips_only or clips.is_dir():
        show_clips(clips)
    else:
        typer.echo(how_to_get_clips(clips), err=True)


@app.command()
def ui(
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="Where to listen, on this machine only.")
    ] = 5000,
) -> None:
    """Serve the MLflow UI, where versions are compared and promoted."""
    from pipelines.serve import serve

    serve(port)


def main() -> None:
    """Run the command line: a user's mistake is one line and exit code 2, `--debug` shows where it arose."""
    debug = "--debug" in sys.argv[1:]
    sys.argv = [sys.argv[0], *(["--debug"] if debug else []), *(a for a in sys.argv[1:] if a != "--debug")]
    environment.quiet(debug)
    try:
        app()
    except Brain2VideoError as error:
        if debug:
            raise
        typer.secho(f"error: {' '.join(str(error).split())}", fg="red", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.secho("interrupted; nothing half-written is kept", fg="yellow", err=True)
        sys.exit(130)
