"""Commands around videos: reconstruct them, and say where one comes from."""

from typing import Annotated

import typer

from pipelines.options import DEMO, Config, Set


def reconstruct(
    config: Config = DEMO,
    overrides: Set = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Whose brain; the first by default.")] = None,
) -> None:
    """Reconstruct the test stimuli from the versions in production."""
    from pipelines.launch import launch
    from pipelines.show import show_reconstruction
    from studies.study import load_study

    chosen = [*(overrides or []), *([f"reconstruction.subject={subject}"] if subject else [])]
    study = load_study(config, chosen)
    launch("reconstruction", config, chosen)
    show_reconstruction(study)
