"""The command line: every command reads a study and triggers the ZenML pipeline of its name.

Nothing heavy is imported here; a command imports what it needs, so that `--help` answers at once.
"""

import atexit
import gc
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import core.environment as environment
from brain2video.cli.commands import check, evaluate, plan, registry, study, videos
from brain2video.cli.commands.download import download
from brain2video.cli.options import flat
from core.checkout import CODE_ROOT, HOME, current_home, other_code
from core.errors import Brain2VideoError, ConfigError

app = typer.Typer(
    name="brain2video",
    help="Turn fMRI of people watching videos back into videos.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"brain2video {version('brain2video')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[  # noqa: ARG001 - see `main`
        bool, typer.Option("--debug", help="Show tracebacks and every library's log.")
    ] = False,
) -> None:
    """Turn fMRI of people watching videos back into videos."""
    _check_place()


def _check_place() -> None:
    """Raise where what runs, or works on, is not what the user means; note where another checkout's code runs.

    Raises
    ------
    ConfigError
        The command's packages lie in two checkouts, or `BRAIN2VIDEO_HOME` names no folder.
    NotAllowed
        The home was moved, and its databases cannot be corrected.
    """
    own = Path(__file__).resolve().parents[2]
    if own != CODE_ROOT:
        raise ConfigError(
            f"this command's code lies in {own}, and the environment {sys.prefix} takes other packages from "
            f"{CODE_ROOT}; run 'make setup' in {own}, and the command of its .venv"
        )
    home = current_home()
    if home is not None and not home.is_dir():
        raise ConfigError(f"{HOME} is {home}: no such folder; make it, or correct the variable")
    if environment.FAULT is not None:
        raise environment.FAULT
    if home is not None and other_code() is not None and "DVC_STAGE" not in os.environ:
        typer.secho(
            f"note: works on {home} with the code of {CODE_ROOT}; 'make setup' here gives this checkout its own",
            dim=True,
            err=True,
        )


for command in (
    study.demo,
    study.simulate,
    study.run,
    study.responses,
    study.targets,
    study.train,
    study.verify,
    registry.promote,
    videos.reconstruct,
    videos.explain,
    videos.reproduce,
    evaluate.evaluate,
    evaluate.compare,
    evaluate.metrics,
    study.regions,
    check.check,
    plan.plan,
    registry.status,
    registry.ui,
):
    app.command()(flat(command))
app.add_typer(download, name="download")

MOVED = {"train-zoo": "python -m zoo train", "score-zoo": "python -m zoo score"}
"""Commands of earlier versions, and how the same is done now."""


def _moved(context: typer.Context) -> None:
    """Report the new name of a command of earlier versions."""
    raise ConfigError(f"`brain2video {context.info_name}` is now `{MOVED[str(context.info_name)]}`")


for name in MOVED:
    ignored = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(name=name, hidden=True, context_settings=ignored)(_moved)


def main() -> None:
    """Run the command line: a user's mistake is one line, and exit code 2; `--debug` shows where it arose."""
    debug = "--debug" in sys.argv[1:]
    sys.argv = [sys.argv[0], *(["--debug"] if debug else []), *(a for a in sys.argv[1:] if a != "--debug")]
    environment.quiet(debug)
    # Libraries' objects stay as long as the process: to look through them for cycles took a third of an up-to-date run.
    gc.set_threshold(100_000, 20, 100)
    atexit.register(gc.freeze)
    try:
        app()
    except Brain2VideoError as error:
        if debug:
            raise
        faults = str(error).splitlines() if isinstance(error, ConfigError) else [str(error)]
        for fault in faults:
            typer.secho(f"error: {' '.join(fault.split())}", fg="red", err=True)
        sys.exit(2)
