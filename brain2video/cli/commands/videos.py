"""Commands around videos: reconstruct them, show where one comes from, render it again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brain2video.cli.options import Full, StudyOptions
from core.checkout import project_root
from core.errors import ConfigError

if TYPE_CHECKING:
    from studies.runs import ReconstructionRef

ALL = "all"
"""In place of a subject: every one whose models the set holds."""
Video = Annotated[Path, typer.Argument(metavar="VIDEO", help="An mp4 that a reconstruction wrote.")]


def reconstruct(
    study: StudyOptions,
    subject: Annotated[
        str | None, typer.Option("--subject", help="Whose brain, or 'all' in a row; the first by default.")
    ] = None,
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

    if subject == ALL:
        if responses is not None:
            raise ConfigError(f"--subject {ALL}: --responses are those of one subject; name it")
        _reconstruct_all(study, run, full=full)
        return
    chosen = _of_subject(study, subject)
    StudyOptions(study.config, chosen).load()  # a mistake ends here, before ZenML starts
    if responses is None:
        show_reconstruction_run(launch("reconstruction", study.config, chosen, run=run).reconstruction, full=full)
        return
    tables = {name: str(path) for name, path in (("voxels", voxels), ("trials", trials), ("mask", mask)) if path}
    more = {"responses": str(responses), "tables": tables, "check_scale": not any_scale}
    _show_new_videos(launch("reconstruction", study.config, chosen, run=run, **more).reconstruction)


def _of_subject(study: StudyOptions, subject: str | None) -> list[str]:
    """Return the overrides of a study that is reconstructed from one subject."""
    return [*(study.overrides or []), *([f"reconstruction.subject={subject}"] if subject else [])]


def _reconstruct_all(study: StudyOptions, run: str | None, *, full: bool) -> None:
    """Reconstruct from every subject whose models the set holds, a run each, and show where the galleries are."""
    from brain2video.cli.launch import launch
    from brain2video.cli.progress import working
    from brain2video.cli.tables.drawing import print_line
    from core.checkout import relative_to_root
    from studies.reconstruction.provenance import subjects_known
    from studies.registry.production import resolve_production
    from studies.runs import GALLERY

    with working():
        subjects = subjects_known(resolve_production(study.load(), run))
    galleries = []
    for subject in subjects:
        made = launch("reconstruction", study.config, _of_subject(study, subject), run=run).reconstruction
        show_reconstruction_run(made.model_copy(update={"others": []}), full=full)
        if not made.run:
            return  # the study has nothing to render
        galleries.append(relative_to_root(project_root() / made.folder / GALLERY))
    print_line(f"{len(subjects)} {'subject' if len(subjects) == 1 else 'subjects'}", ", ".join(galleries))


def show_reconstruction_run(reconstruction: "ReconstructionRef", *, full: bool = False) -> None:
    """Show a reconstruction's scores, every one where `full`, or why there is none."""
    from brain2video.cli.tables.drawing import print_line
    from brain2video.cli.tables.scores import show_reconstruction
    from core.files import read_json
    from studies.runs import METRICS

    if not reconstruction.run:
        typer.echo(reconstruction.note)
        return
    folder = project_root() / reconstruction.folder
    show_reconstruction(reconstruction.study, folder, read_json(folder / METRICS), full=full)
    if reconstruction.others:
        others = ", ".join(reconstruction.others)
        print_line("one subject of several", f"not {others}: --subject NAME, or --subject {ALL} for a run of each")


def _show_new_videos(reconstruction: "ReconstructionRef") -> None:
    from brain2video.cli.tables.outcomes import show_new_videos
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
