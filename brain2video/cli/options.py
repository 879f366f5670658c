"""Options that several commands take."""

from typing import Annotated, Any

import typer

Config = Annotated[str, typer.Option("--config", "-c", help="The study's YAML.", metavar="YAML")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a key; repeatable.", metavar="KEY.PATH=VALUE")]
NoCommit = Annotated[bool, typer.Option("--no-commit", help="Leave dvc.lock as it is.")]
DEMO = "configs/demo.yaml"

Executor = Annotated[
    str | None,
    typer.Option(
        "--executor", help="Who ingests and extracts: this process (here), more of them (processes), or a dask cluster."
    ),
]
Workers = Annotated[int | None, typer.Option("--workers", help="How many processes; the cores by default.")]
Address = Annotated[str | None, typer.Option("--address", help="The dask scheduler's.", metavar="tcp://HOST:PORT")]
Processes = Annotated[int | None, typer.Option("--processes", help="How many train together here, one a GPU.")]
Nodes = Annotated[int | None, typer.Option("--nodes", help="How many machines train together.")]
NodeRank = Annotated[int | None, typer.Option("--node-rank", help="Which of them this is, from 0.")]
Join = Annotated[
    bool, typer.Option("--join", help="Take part in a training that another machine runs; that one registers it.")
]
Rendezvous = Annotated[str | None, typer.Option("--rendezvous", help="Where they meet.", metavar="HOST:PORT")]


def executor_of(kind: str | None, workers: int | None, address: str | None) -> dict[str, Any]:
    """Return who ingests and extracts, as pipelines take it; `ConfigError` where the options do not fit."""
    from core.executors import ExecutorConfig

    return _checked(ExecutorConfig, {"kind": kind, "workers": workers, "address": address}, "--executor")


def together_of(
    processes: int | None, nodes: int | None, node_rank: int | None, rendezvous: str | None
) -> dict[str, Any]:
    """Return how many train together, as pipelines take it; `ConfigError` where the options do not fit."""
    from models.training.settings import DistributedConfig

    named = {"processes": processes, "nodes": nodes, "node_rank": node_rank, "rendezvous": rendezvous}
    return _checked(DistributedConfig, named, "--processes")


def _checked(config: Any, named: dict[str, Any], option: str) -> dict[str, Any]:
    """Return what was given, having made sure that the config takes it."""
    from pydantic import ValidationError

    from core.config import explain
    from core.errors import ConfigError

    given = {name: value for name, value in named.items() if value is not None}
    try:
        config.model_validate(given)
    except ValidationError as error:
        raise ConfigError(explain(error, config, option)) from error
    return given
