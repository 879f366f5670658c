"""Commands around the registry: promote, look at what is there, serve the UI."""

from typing import Annotated

import typer

from pipelines.options import DEMO, Config, Set


def promote(
    config: Config = DEMO,
    overrides: Set = None,
    run: Annotated[str | None, typer.Option("--run", help="The training run; the newest by default.")] = None,
) -> None:
    """Set the alias `production` on a training run's whole set."""
    from pipelines.launch import launch
    from pipelines.show import show_production
    from studies.study import load_study

    study = load_study(config, overrides or [])
    launch("promotion", config, overrides, run=run)
    show_production(study)


def status(config: Config = DEMO, overrides: Set = None) -> None:
    """Show a study's stores, runs and production versions."""
    from pipelines.show import show_status
    from studies.study import load_study

    show_status(load_study(config, overrides or []))


def ui(
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="Where to listen, on this machine only.")
    ] = 5000,
) -> None:
    """Serve the MLflow UI, where versions are compared and promoted."""
    from pipelines.serve import serve

    serve(port)
