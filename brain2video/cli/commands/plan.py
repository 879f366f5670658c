"""The command that shows what a study will take, before anything of it is started."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from brain2video.cli.options import DEMO, Config, Set
from core.errors import ConfigError, SourceError

GONE = ("--gpu-hour", "--gb-month", "--gpu-tflops", "--gpu-float32-tflops", "--efficiency", "--rates")
"""Options of hours and money, which were estimates without a measurement."""


def _refuse(value: str | None) -> None:
    if value is not None:
        raise ConfigError(f"{', '.join(GONE)}: removed, with the hours and the money that they were for; omit them")


def plan(
    config: Config = DEMO,
    overrides: Set = None,
    subjects: Annotated[
        str, typer.Option("--subjects", help="Also for so many subjects, joined by commas.", metavar="N,N,…")
    ] = "10,100,1000",
    assume: Annotated[
        str,
        typer.Option(
            "--assume",
            help="What to go by where neither recordings nor a store are here: subjects=12,voxels=20000,"
            "train=1000x3,test=100x10.",
            metavar="KEY=VALUE,…",
        ),
    ] = "",
    gpu_memory: Annotated[
        str, typer.Option("--gpu-memory", help="Whether networks fit cards of so many GB.", metavar="GB,GB,…")
    ] = "8,16,24,48,80",
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    gone: Annotated[str | None, typer.Option(*GONE, hidden=True, callback=_refuse)] = None,
) -> None:
    """Show what a study will take: bytes, files, memory and whether it fits a GPU; nothing is started."""
    from brain2video.cli.progress import working
    from brain2video.cli.tables.plan import show_plan
    from studies.planning.plan import plan as make
    from studies.status.freshness import freshness
    from studies.study import load_study

    del gone
    cards, scaled = counts("--gpu-memory", gpu_memory, "8,16,24"), counts("--subjects", subjects, "10,100,1000")
    with working():
        study = load_study(config, overrides or [])
        try:
            states = {path.relative_to(study.store).as_posix(): one.state for path, one in freshness(study).items()}
        except SourceError:
            states = {}
        made = make(study, subjects=scaled, supposed=supposed(assume), states=states)
    if as_json:
        typer.echo(json.dumps(asdict(made), indent=2, ensure_ascii=False))
    else:
        show_plan(made, cards)


def counts(option: str, text: str, example: str) -> list[int]:
    """Read ``10,100,1000``; `ConfigError` for anything else."""
    parts = _parts(text)
    for part in parts:
        if not (part.isascii() and part.isdecimal() and 0 < int(part) <= 100_000):
            raise ConfigError(f"{option} {text}: '{part}' is no number from 1 to 100000; expected such as {example}")
    return [int(part) for part in parts]


def supposed(text: str) -> dict[str, str]:
    """Read ``voxels=20000,train=1000x3``; `ConfigError` for anything else."""
    pairs = {}
    for part in _parts(text):
        key, _, value = (word.strip() for word in part.partition("="))
        if not key or not value:
            raise ConfigError(f"--assume {text}: '{part}' is not KEY=VALUE; expected such as voxels=20000")
        pairs[key] = value
    return pairs


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
