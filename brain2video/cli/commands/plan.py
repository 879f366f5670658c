"""The command that says what a study will take, before anything of it is started."""

from pathlib import Path
from typing import Annotated

import typer

from brain2video.cli.options import DEMO, Config, Set


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
    gpu_hour: Annotated[float, typer.Option("--gpu-hour", min=0, help="Price of one GPU for an hour.")] = 2.0,
    gb_month: Annotated[float, typer.Option("--gb-month", min=0, help="Price of 1 GB kept for a month.")] = 0.02,
    gpu_tflops: Annotated[
        float, typer.Option("--gpu-tflops", min=0.1, help="Its stated peak in half precision, TFLOP/s.")
    ] = 312.0,
    gpu_float32: Annotated[
        float, typer.Option("--gpu-float32-tflops", min=0.1, help="Its stated peak in float32, TFLOP/s.")
    ] = 19.5,
    efficiency: Annotated[
        float, typer.Option("--efficiency", min=0.01, max=1, help="Part of the peak that is supposed to be reached.")
    ] = 0.3,
    rates: Annotated[
        Path | None,
        typer.Option("--rates", help="What benchmarks/scale.py wrote; .state/rates.json or its own by default."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show what a study will take: bytes, memory, hours and money, and what of it is done; nothing is started."""
    from brain2video.cli.launch import working
    from brain2video.cli.tables.plan import show_plan
    from studies.planning.plan import plan as make
    from studies.planning.rates import Gpu, find_rates
    from studies.study import load_study

    gpu = Gpu(
        name="A100" if (gpu_tflops, gpu_float32) == (312.0, 19.5) else "as given",
        half_flops=gpu_tflops * 1e12,
        single_flops=gpu_float32 * 1e12,
        efficiency=efficiency,
        hour_price=gpu_hour,
        gb_month_price=gb_month,
    )
    with working():
        study = load_study(config, overrides or [])
        made = make(study, found=find_rates(rates), gpu=gpu, subjects=counts(subjects), supposed=supposed(assume))
    if as_json:
        import json

        typer.echo(json.dumps(made.record(), indent=2, ensure_ascii=False))
    else:
        show_plan(made)


def counts(text: str) -> list[int]:
    """Read ``10,100,1000``; `ConfigError` for anything else."""
    from core.errors import ConfigError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        if not (part.isascii() and part.isdecimal() and 0 < int(part) <= 100_000):
            raise ConfigError(
                f"--subjects {text}: '{part}' is no number from 1 to 100000; expected such as 10,100,1000"
            )
    return [int(part) for part in parts]


def supposed(text: str) -> dict[str, str]:
    """Read ``voxels=20000,train=1000x3``; `ConfigError` for anything else."""
    from core.errors import ConfigError

    found = {}
    for part in (part.strip() for part in text.split(",") if part.strip()):
        key, equals, value = part.partition("=")
        if not equals or not key or not value:
            raise ConfigError(f"--assume {text}: '{part}' is not KEY=VALUE; expected such as voxels=20000")
        found[key.strip()] = value.strip()
    return found
