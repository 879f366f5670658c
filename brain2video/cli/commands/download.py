"""Commands that download what others published."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from brain2video.cli.options import StudyOptions, flat

download = typer.Typer(help="Download a published dataset or published weights.", no_args_is_help=True)


@download.callback()
def published() -> None:
    """Download a published dataset or published weights."""


def weights(
    study: StudyOptions,
    allow_pickled: Annotated[
        bool, typer.Option("--allow-pickled", help="Take pickled weights where there are no others, and convert them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the size, and download nothing.")] = False,
) -> None:
    """Download the published weights that a study names into data/weights; run again, it continues."""
    from brain2video.cli.progress import working
    from brain2video.cli.tables.outcomes import show_weights
    from studies.stores.download import download_weights, find_weights, published_weights

    with working():
        models = find_weights(published_weights(study.load()))
    show_weights(models)
    if not dry_run:
        with working():
            download_weights(models, allow_pickled=allow_pickled)


download.command(name="weights")(flat(weights))


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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the size, and download nothing.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Files downloaded at once.")] = 8,
    endpoint: Annotated[str | None, typer.Option("--endpoint-url", hidden=True)] = None,
) -> None:
    """Download BOLD Moments' responses from OpenNeuro (CC0), and check the clips; run again, it continues."""
    from brain2video.cli.progress import working
    from brain2video.cli.tables.drawing import show_findings
    from brain2video.cli.tables.outcomes import show_download_plan
    from feature_store.sources.bold_moments.layout import STIMULI
    from feature_store.sources.bold_moments.request import check_clips, how_to_get_clips, request
    from studies.stores.download import prepare

    again, clips = f"run again: {shlex.join(['brain2video', *sys.argv[1:]])}", destination / STIMULI
    if not clips_only:
        wanted = request(subject or [], roi or [], responses or [], coordinates=coordinates, everything=everything)
        with working(f"interrupted; what was downloaded is kept; {again}"):
            fetcher, plan = prepare(wanted, destination, jobs=jobs, check=check, endpoint=endpoint)
            show_download_plan(plan, destination)
            if dry_run:
                return
            fetcher.fetch(plan, advice=again)
    if not clips_only and not clips.is_dir():
        typer.echo(how_to_get_clips(clips), err=True)
        return
    with working():
        findings = check_clips(clips)
    show_findings(findings, f"{clips}: every clip is there, as long as published")
    if findings:
        raise typer.Exit(2)
