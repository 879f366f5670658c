"""The command line: every command reads a study and triggers the ZenML pipeline of its name.

Nothing heavy is imported here; a command imports what it needs, so that `--help` answers at once.
"""

import atexit
import gc
import sys
from pathlib import Path
from typing import Annotated

import typer

import core.environment as environment
from brain2video.cli.commands import evaluate, plan, regions, registry, videos
from brain2video.cli.commands.download import download
from brain2video.cli.options import (
    DEMO,
    Address,
    Config,
    Executor,
    Join,
    NoCommit,
    NodeRank,
    Nodes,
    Processes,
    Rendezvous,
    Set,
    Workers,
    executor_of,
    together_of,
)
from core.errors import Brain2VideoError, ConfigError

app = typer.Typer(
    name="brain2video",
    help="Turn fMRI of people watching videos back into videos.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ANY_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Of commands that were renamed: whatever they are called with, the answer is the new name."""


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
    from brain2video.cli.launch import commit, working
    from studies.stores.responses import simulate_source
    from studies.study import load_study

    with working() as console:
        folder, _ = simulate_source(load_study(config, overrides or []), destination, replace=replace)
        if not no_commit:
            commit(folder, config, overrides)
        console.print(f"[green]simulated[/] {folder}")


@app.command(name="train-zoo", hidden=True, context_settings=ANY_ARGUMENTS)
def train_zoo() -> None:
    """Refuse: the command was renamed."""
    raise ConfigError("train-zoo: is now 'python -m zoo train', with the same arguments")


@app.command(name="score-zoo", hidden=True, context_settings=ANY_ARGUMENTS)
def score_zoo() -> None:
    """Refuse: the command was renamed."""
    raise ConfigError("score-zoo: is now 'python -m zoo score', with the same arguments")


@app.command()
def run(
    config: Config = DEMO,
    overrides: Set = None,
    no_commit: NoCommit = False,
    executor: Executor = None,
    workers: Workers = None,
    address: Address = None,
    processes: Processes = None,
) -> None:
    """Run a whole study: responses, targets, training, promotion, reconstruction."""
    from brain2video.cli.launch import launch
    from brain2video.cli.tables.stores import show_training_and_reconstruction
    from studies.study import load_study

    study = load_study(config, overrides or [])
    spread = {"executor": executor_of(executor, workers, address), "together": together_of(processes, None, None, None)}
    launch("main", config, overrides, commit=not no_commit, **spread)
    show_training_and_reconstruction(study)


@app.command()
def responses(
    config: Config = DEMO,
    overrides: Set = None,
    subject: Annotated[list[str] | None, typer.Option("--subject", help="Only this subject; repeatable.")] = None,
    no_commit: NoCommit = False,
    executor: Executor = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Write subjects' responses to the feature store."""
    from brain2video.cli.launch import launch
    from brain2video.cli.tables.stores import show_stores
    from studies.study import load_study

    study = load_study(config, overrides or [])
    spread = executor_of(executor, workers, address)
    launch("responses", config, overrides, subjects=subject or [], commit=not no_commit, executor=spread)
    show_stores(study)


@app.command()
def targets(
    config: Config = DEMO,
    overrides: Set = None,
    target: Annotated[list[str] | None, typer.Option("--target", help="Only this target; repeatable.")] = None,
    no_commit: NoCommit = False,
    executor: Executor = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Write the targets that regressors learn to the feature store."""
    from brain2video.cli.launch import launch
    from brain2video.cli.tables.stores import show_stores
    from studies.study import load_study

    study = load_study(config, overrides or [])
    spread = executor_of(executor, workers, address)
    launch("targets", config, overrides, targets=target or [], commit=not no_commit, executor=spread)
    show_stores(study)


@app.command()
def train(
    config: Config = DEMO,
    overrides: Set = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Put it into production where mlflow/promotion.yaml lets it.")
    ] = False,
    processes: Processes = None,
    nodes: Nodes = None,
    node_rank: NodeRank = None,
    rendezvous: Rendezvous = None,
    join: Join = False,
) -> None:
    """Fit, score and register the encoder and the regressors."""
    from brain2video.cli.launch import launch, take_part
    from brain2video.cli.tables.stores import show_promotion, show_training
    from studies.study import load_study

    study = load_study(config, overrides or [])
    together = together_of(processes, nodes, node_rank, rendezvous)
    if join:
        take_part(study, together)
        return
    launch("training", config, overrides, promote=promote, together=together)
    show_training(study)
    if promote:
        show_promotion(study)


@app.command()
def verify(
    path: Annotated[Path | None, typer.Argument(help="A store or a group; the study's store by default.")] = None,
    config: Config = DEMO,
    overrides: Set = None,
) -> None:
    """Hold every byte of a feature store against its manifests; exit with 2 where one differs."""
    from brain2video.cli.tables.stores import verify_store
    from studies.study import load_study

    verify_store(path or load_study(config, overrides or []).store)


for command in (
    registry.promote,
    videos.reconstruct,
    videos.explain,
    videos.reproduce,
    evaluate.evaluate,
    evaluate.compare,
    evaluate.metrics,
    regions.regions,
    plan.plan,
    registry.status,
    registry.ui,
):
    app.command()(command)
app.add_typer(download, name="download")


def main() -> None:
    """Run the command line: a user's mistake is one line and exit code 2, `--debug` shows where it arose."""
    debug = "--debug" in sys.argv[1:]
    sys.argv = [sys.argv[0], *(["--debug"] if debug else []), *(a for a in sys.argv[1:] if a != "--debug")]
    environment.quiet(debug)
    # Libraries' objects stay as long as the process: to look through them for cycles took a third of a cached run.
    gc.set_threshold(100_000, 20, 100)
    atexit.register(gc.freeze)
    try:
        app()
    except Brain2VideoError as error:
        if debug:
            raise
        typer.secho(f"error: {' '.join(str(error).split())}", fg="red", err=True)
        sys.exit(2)
