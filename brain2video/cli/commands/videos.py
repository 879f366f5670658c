"""Commands around videos: reconstruct them, show where one comes from, render it again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brain2video.cli.options import Full, StudyOptions

if TYPE_CHECKING:
    from studies.runs import ReconstructionRef

Video = Annotated[Path, typer.Argument(metavar="VIDEO", help="An mp4 that a reconstruction wrote.")]


def reconstruct(
    study: StudyOptions,
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
    full: Full = False,
) -> None:
    """Reconstruct the test stimuli, or a file of responses, from the versions in production."""
    from brain2video.cli.launch import launch

    chosen = [*(study.overrides or []), *([f"reconstruction.subject={subject}"] if subject else [])]
    StudyOptions(study.config, chosen).load()  # a mistake ends here, before ZenML starts
    if responses is None:
        show_reconstruction_run(launch("reconstruction", study.config, chosen, run=run).reconstruction, full=full)
        return
    tables = {name: str(path) for name, path in (("voxels", voxels), ("trials", trials), ("mask", mask)) if path}
    more = {"responses": str(responses), "tables": tables, "check_scale": not any_scale}
    _show_new_videos(launch("reconstruction", study.config, chosen, run=run, **more).reconstruction)


def show_reconstruction_run(reconstruction: "ReconstructionRef", *, full: bool = False) -> None:
    """Show a reconstruction's scores, every one where `full`, or why there is none."""
    from brain2video.cli.tables.scores import show_reconstruction
    from core.checkout import project_root
    from core.files import read_json
    from studies.runs import METRICS

    if not reconstruction.run:
        typer.echo(reconstruction.note)
        return
    folder = project_root() / reconstruction.folder
    show_reconstruction(reconstruction.study, folder, read_json(folder / METRICS), full=full)


def _show_new_videos(reconstruction: "ReconstructionRef") -> None:
    from brain2video.cli.tables.outcomes import show_new_videos
    from core.checkout import project_root
    from core.files import read_json
    from studies.runs import MANIFEST, VIDEOS

    folder = project_root() / reconstruction.folder
    notes = read_json(folder / MANIFEST)["notes"]
    show_new_videos(folder, len(list((folder / VIDEOS).glob("*.mp4"))), notes)


def explain(video: Video) -> None:
    """Show where a video comes from: whose responses, which models, weights, seed and code."""
    from brain2video.cli.progress import working
    from brain2video.cli.tables.drawing import show_facts
    from studies.reconstruction.reproduce import explain as facts_of

    with working():
        facts = facts_of(video)
    show_facts(str(video), facts)


def reproduce(
    video: Video,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The new file.", metavar="MP4")] = None,
    responses: Annotated[
        Path | None, typer.Option("--responses", help="The file of responses, where they were never stored.")
    ] = None,
) -> None:
    """Render a video again from its own metadata, and compare the bytes; exit with 2 where they differ."""
    from brain2video.cli.progress import working
    from brain2video.cli.tables.outcomes import show_reproduced
    from studies.reconstruction.reproduce import reproduce as render_again

    with working():
        reproduced = render_again(video, output, responses=responses)
    show_reproduced(reproduced)
    if not reproduced.identical:
        raise typer.Exit(2)
