"""Commands around videos: reconstruct them, say where one comes from, make it again."""

from pathlib import Path
from typing import Annotated

import typer

from brain2video.cli.options import DEMO, Config, Set

Video = Annotated[Path, typer.Argument(metavar="VIDEO", help="An mp4 that a reconstruction wrote.")]


def reconstruct(
    config: Config = DEMO,
    overrides: Set = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Whose brain; the first by default.")] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="A training run's versions, in place of those in production.")
    ] = None,
    responses: Annotated[
        Path | None,
        typer.Option("--responses", help="Responses that were never stored: .npy, NIfTI, or a folder.", metavar="FILE"),
    ] = None,
    voxels: Annotated[Path | None, typer.Option("--voxels", help="Their table of voxels.", metavar="CSV")] = None,
    trials: Annotated[Path | None, typer.Option("--trials", help="Their table of trials.", metavar="CSV")] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="Where a NIfTI's voxels lie.", metavar="NIFTI")] = None,
    any_scale: Annotated[
        bool, typer.Option("--any-scale", help="Take values of another scale than training's.")
    ] = False,
) -> None:
    """Reconstruct the test stimuli, or a file of responses, from the versions in production."""
    from brain2video.cli.launch import launch
    from brain2video.cli.tables.stores import show_new_videos, show_reconstruction
    from studies.study import load_study

    chosen = [*(overrides or []), *([f"reconstruction.subject={subject}"] if subject else [])]
    study = load_study(config, chosen)
    if responses is None:
        launch("reconstruction", config, chosen, run=run)
        show_reconstruction(study)
    else:
        tables = {name: str(path) for name, path in (("voxels", voxels), ("trials", trials), ("mask", mask)) if path}
        more = {"responses": str(responses), "tables": tables, "check_scale": not any_scale}
        launch("reconstruction", config, chosen, run=run, **more)
        show_new_videos(study)


def explain(video: Video) -> None:
    """Say where a video comes from: whose responses, which models, weights, seed and code."""
    from brain2video.cli.launch import working
    from brain2video.cli.tables.stores import show_facts
    from studies.reconstruction.explain import explain as facts_of

    with working():
        facts = facts_of(video)
    show_facts(str(video), facts)


def reproduce(
    video: Video,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The new file.", metavar="MP4")] = None,
    responses: Annotated[
        Path | None, typer.Option("--responses", help="The file it was made from, where it was never stored.")
    ] = None,
) -> None:
    """Render a video again from what it says of itself, and compare the bytes; exit with 2 where they differ."""
    from brain2video.cli.launch import working
    from brain2video.cli.tables.stores import show_reproduced
    from studies.reconstruction.reproduce import reproduce as again

    with working():
        made = again(video, output, responses=responses)
    show_reproduced(made)
