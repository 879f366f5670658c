"""Commands that score: any folder of videos, two runs compared, the list of metrics."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brain2video.cli.options import Full

if TYPE_CHECKING:
    from models.classifiers.settings import JudgesConfig


def judges_named(
    *, judge: str | None = None, clip: str | None = None, frames: str | None = None, videos: str | None = None
) -> "JudgesConfig":
    """Return the models that look at clips, each named by a folder or by its name on the hub.

    A folder is looked for in the current directory, then in the checkout.

    Parameters
    ----------
    judge : the folder of a judge of the small world's clips
    clip : a CLIP model
    frames, videos : classifiers of images and of videos

    Raises
    ------
    ConfigError
        A name cannot be one.
    """
    from core.explain import validated
    from models.classifiers.settings import JudgesConfig

    named = {"clip": clip, "frames": frames, "videos": videos}
    content: dict[str, Any] = {key: {"weights": _placed(name)} for key, name in named.items() if name}
    if judge:
        content["small_world"] = _placed(judge)
    return validated(JudgesConfig, content, "judges")


def _placed(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).is_dir() else name


Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Of videos (mp4, gif, …), or one of our own runs.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A folder, or STUDY/RUN under outputs/, such as demo/latest.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Where it is written.", metavar="DIR")]
Seed = Annotated[int, typer.Option("--seed", help="Of intervals, permutations and the shuffled brain.")]
MODEL = "folder, or a model's name on the hub."


def evaluate(
    folder: Folder,
    truth: Annotated[
        Path | None,
        typer.Option("--truth", help="What was shown; 'seen/' of our own runs.", metavar="FOLDER"),
    ] = None,
    training: Annotated[
        Path | None,
        typer.Option("--training", help="Folder of the training clips: controls and leak checks.", metavar="FOLDER"),
    ] = None,
    captions: Annotated[
        Path | None, typer.Option("--captions", help="Columns stimulus, decoded and, optionally, seen.", metavar="CSV")
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", help="A judge of the small world's clips: its folder.", metavar="FOLDER")
    ] = None,
    clip: Annotated[str | None, typer.Option("--clip", help=f"A CLIP model: {MODEL}", metavar="MODEL")] = None,
    frame_classifier: Annotated[
        str | None, typer.Option("--frame-classifier", help=f"An image classifier: {MODEL}", metavar="MODEL")
    ] = None,
    video_classifier: Annotated[
        str | None, typer.Option("--video-classifier", help=f"A video classifier: {MODEL}", metavar="MODEL")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", help="Names, joined by commas; all but the slowest by default.", metavar="NAME,…"),
    ] = None,
    frames: Annotated[int | None, typer.Option("--frames", min=1, help="Frames of a clip; the truth's.")] = None,
    height: Annotated[int | None, typer.Option("--height", min=1, help="Pixels; the truth's.")] = None,
    width: Annotated[int | None, typer.Option("--width", min=1, help="Pixels; the truth's.")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Stretch every video over the truth's length.")] = False,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Score what is there.")] = False,
    seed: Seed = 0,
    name: Annotated[str | None, typer.Option("--name", help="What the evaluation is called.")] = None,
    output: Output = None,
    full: Full = False,
) -> None:
    """Score a folder of videos, ours or others', against what was shown."""
    from brain2video.cli.progress import working
    from brain2video.cli.tables.evaluation import show_evaluation
    from studies.comparison.evaluate import EvaluationRequest, evaluate_folder

    with working():
        judges = judges_named(judge=judge, clip=clip, frames=frame_classifier, videos=video_classifier)
        request = EvaluationRequest(
            folder=folder,
            truth=truth,
            training=training,
            captions=captions,
            judges=judges,
            metrics=tuple(name.strip() for name in (metrics or "").split(",") if name.strip()),
            frames=frames,
            height=height,
            width=width,
            whole=whole,
            allow_missing=allow_missing,
            seed=seed,
            name=name,
            output=output,
        )
        evaluation = evaluate_folder(request)
    show_evaluation(evaluation, full=full)


def compare(
    first: Run,
    second: Run,
    row: Annotated[str, typer.Option("--row", help="The row of both that is compared.")] = "reconstruction",
    seed: Seed = 0,
    output: Output = None,
) -> None:
    """Compare two runs, stimulus by stimulus: SECOND minus FIRST, metric by metric."""
    from brain2video.cli.progress import working
    from brain2video.cli.tables.evaluation import show_run_comparison
    from studies.comparison.compare import compare_runs

    with working():
        comparison = compare_runs(first, second, row=row, seed=seed, output=output)
    show_run_comparison(comparison)


def metrics() -> None:
    """List every metric: what it looks at, what guessing earns, its range and direction, whose protocol it follows."""
    from brain2video.cli.tables.scores import print_catalogue

    print_catalogue()
