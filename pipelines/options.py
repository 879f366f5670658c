"""Options that several commands take."""

from typing import Annotated

import typer

Config = Annotated[str, typer.Option("--config", "-c", help="The study's YAML.", metavar="YAML")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a key; repeatable.", metavar="KEY.PATH=VALUE")]
NoCommit = Annotated[bool, typer.Option("--no-commit", help="Leave dvc.lock as it is.")]
DEMO = "configs/demo.yaml"
