"""Commands around the registry: promote, look at what is there, serve the UI."""

from typing import Annotated

import typer

from brain2video.cli.options import DEMO, Config, Set


def promote(
    config: Config = DEMO,
    overrides: Set = None,
    run: Annotated[str | None, typer.Option("--run", help="The training run; the newest by default.")] = None,
    version: Annotated[
        list[str] | None,
        typer.Option("--version", help="A part's version, which tells the training run; repeatable.", metavar="PART=N"),
    ] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Return to what was in production before.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Promote what mlflow/promotion.yaml would refuse.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the comparison, and change nothing.")] = False,
) -> None:
    """Compare a training run with what is in production, and set the alias `production` on its whole set."""
    from brain2video.cli.launch import launch, working
    from brain2video.cli.tables.stores import show_comparison, show_production
    from studies.registry.promote import compare_with_production, require_accepted, roll_back
    from studies.study import load_study

    study = load_study(config, overrides or [])
    if rollback:
        with working():
            roll_back(study)
    else:
        with working():
            made = compare_with_production(study, run, part_versions(version or []))
        show_comparison(study, made)
        if dry_run:
            return
        if not force:
            require_accepted(made)
        launch("promotion", config, overrides, run=made.candidate.run, force=force)
    show_production(study)


def part_versions(named: list[str]) -> dict[str, int]:
    """Read ``encoder=3``; `ConfigError` for anything else."""
    from core.errors import ConfigError

    found = {}
    for text in named:
        part, equals, number = text.partition("=")
        if not equals or not number.isdecimal():
            raise ConfigError(f"--version {text}: expected PART=N, such as encoder=3")
        found[part] = int(number)
    return found


def status(
    config: Config = DEMO,
    overrides: Set = None,
    full: Annotated[bool, typer.Option("--full", help="Hash the sources however large they are.")] = False,
) -> None:
    """Show how fresh a study's stores are, its runs, what is in production, what is newer, what does not fit."""
    from brain2video.cli.tables.stores import show_status
    from studies.study import load_study

    show_status(load_study(config, overrides or []), full=full)


def ui(
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="Where to listen, on this machine only.")
    ] = 5000,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not show it in a browser.")] = False,
) -> None:
    """Serve the MLflow UI, where versions are compared and promoted."""
    from brain2video.cli.mlflow_ui import serve

    serve(port, browser=not no_browser)
