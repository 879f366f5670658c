"""Trains and scores the small world's own models: `python -m zoo train`, `python -m zoo score`; run in the checkout."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import core.environment as environment
from brain2video.cli.progress import working
from core.errors import Brain2VideoError

app = typer.Typer(name="zoo", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Config = Annotated[Path, typer.Option("--config", "-c", help="The models' YAML.", metavar="YAML")]
CONFIG, TRAINED, SHIPPED = (
    Path("configs/zoo/small_world.yaml"),
    Path("outputs/small_world"),
    Path("models/small_world"),
)


@app.command()
def train(
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="Folder of the models.")] = TRAINED,
    config: Config = CONFIG,
) -> None:
    """Train the small world's own models anew, which takes hours; run again, it continues where it stopped."""
    from zoo.settings import load_small_world
    from zoo.train import train_zoo

    with working() as console:
        folder = train_zoo(load_small_world(config), destination)
        console.print(f"[green]trained[/] {folder}, see {folder}/README.md")


@app.command()
def score(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the models.")] = SHIPPED,
    config: Config = CONFIG,
    pictures: Annotated[Path | None, typer.Option("--pictures", help="Folder of the contact sheets.")] = None,
) -> None:
    """Score the models on fresh clips; scores and model card go into their folder, beside contact sheets."""
    from zoo.settings import load_small_world
    from zoo.train import score as score_models

    with working():
        scores = score_models(load_small_world(config), folder, pictures)
    _show(scores)


def _show(scores: dict[str, Any]) -> None:
    from zoo.card import rows_of

    table = Table(title=f"read by the judge, {scores['clips']} clips", title_justify="left")
    table.add_column("")
    names = list(scores["judge"])
    for name in names:
        table.add_column(name, justify="right")
    for row, values in rows_of(scores).items():
        table.add_row(row, *("" if name not in values else f"{values[name]:.3f}" for name in names))
    Console(width=None if sys.stdout.isatty() else 100).print(table)


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    environment.quiet(False)
    try:
        app(prog_name="python -m zoo")
    except Brain2VideoError as error:
        typer.secho(f"error: {' '.join(str(error).split())}", fg="red", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
