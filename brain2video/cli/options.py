"""Options that several commands take, alone or in groups."""

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.checkout import project_root
from core.threads import VARIABLE, read_threads, threads, use_threads

if TYPE_CHECKING:
    from studies.study import Study

Config = Annotated[str, typer.Option("--config", "-c", help="The study's YAML.", metavar="YAML")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a key; repeatable.", metavar="KEY.PATH=VALUE")]
NoCommit = Annotated[bool, typer.Option("--no-commit", help="Leave dvc.lock unchanged.")]
Routes = Annotated[
    str | None,
    typer.Option("--routes", help="Train only these of the study's routes, in its order.", metavar="NAME,NAME"),
]
Processes = Annotated[int | None, typer.Option("--processes", help="How many train together here, one a GPU.")]
Threads = Annotated[
    str | None,
    typer.Option("--threads", help=f"How many threads may compute; {VARIABLE}, or the cores, by default.", metavar="N"),
]
Full = Annotated[bool, typer.Option("--full", help="Show every metric of every row, and what the rows are.")]
DEMO = "configs/demo.yaml"


@dataclass(frozen=True)
class StudyOptions:
    """Which study: its YAML and the keys that are overridden."""

    config: Config = DEMO
    overrides: Set = None

    def load(self) -> "Study":
        """Read the study; `ConfigError` for what is wrong with it."""
        from studies.study import load_study

        return load_study(self.config, self.overrides or [])

    def with_routes(self, routes: str | None) -> "StudyOptions":
        """Return the options of the study with these of its routes alone; `ConfigError` where it lacks one."""
        from studies.study import without_other_routes

        if routes is None:
            return self
        names = [name.strip() for name in routes.split(",") if name.strip()]
        return replace(self, overrides=[*(self.overrides or []), *without_other_routes(self.load(), names)])


@dataclass(frozen=True)
class SpreadOptions:
    """What processes ingest and extract."""

    executor: Annotated[
        str | None,
        typer.Option(
            "--executor",
            help="What ingests and extracts: this process (here), several (processes), or a dask cluster (dask).",
        ),
    ] = None
    workers: Annotated[int | None, typer.Option("--workers", help="How many processes; the cores by default.")] = None
    address: Annotated[
        str | None, typer.Option("--address", help="The dask scheduler's.", metavar="tcp://HOST:PORT")
    ] = None

    def executor_config(self) -> dict[str, Any]:
        """Return the options as pipelines take them; `ConfigError` where they do not fit."""
        from core.executors import ExecutorConfig

        return _checked(
            ExecutorConfig, {"kind": self.executor, "workers": self.workers, "address": self.address}, "--executor"
        )


@dataclass(frozen=True)
class TogetherOptions:
    """How many processes and machines train together."""

    processes: Processes = None
    nodes: Annotated[int | None, typer.Option("--nodes", help="How many machines train together.")] = None
    node_rank: Annotated[int | None, typer.Option("--node-rank", help="Which of them this is, from 0.")] = None
    rendezvous: Annotated[str | None, typer.Option("--rendezvous", help="Where they meet.", metavar="HOST:PORT")] = None

    def distributed_config(self) -> dict[str, Any]:
        """Return the options as pipelines take them; `ConfigError` where they do not fit."""
        from models.training.settings import DistributedConfig

        names = {field.name: getattr(self, field.name) for field in fields(self)}
        return _checked(DistributedConfig, names, "--processes")


def _checked(config: Any, options: dict[str, Any], option: str) -> dict[str, Any]:
    """Return the options that are set, checked by the config that they make."""
    from core.explain import validated

    values = {name: value for name, value in options.items() if value is not None}
    validated(config, values, option)
    return values


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose groups of options, parameters that are dataclasses above, are single options for typer.

    It also takes the option of every command, `--threads`.
    """
    groups: dict[str, Any] = {
        name: parameter.annotation
        for name, parameter in inspect.signature(command).parameters.items()
        if is_dataclass(parameter.annotation)
    }

    @functools.wraps(command)
    def with_groups(**options: Any) -> None:
        if (count := options.pop("threads")) is not None:
            use_threads(read_threads(count, "--threads"))
        elif os.environ.get(VARIABLE):
            use_threads(threads())
        if StudyOptions in groups.values() and options.get("path") is None:  # a store that is named needs no study
            project_root()  # refuses where there is no home, before the command imports what takes seconds
        for name, group in groups.items():
            options[name] = group(**{field.name: options.pop(field.name) for field in fields(group)})
        command(**options)

    everywhere = inspect.Parameter("threads", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Threads)
    parameters = [*_single_options(command), everywhere]
    with_groups.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_groups.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_groups


def _single_options(command: Callable[..., None]) -> Iterator[inspect.Parameter]:
    for parameter in inspect.signature(command).parameters.values():
        if is_dataclass(parameter.annotation):
            for field in fields(parameter.annotation):
                yield inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
                )
        else:
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
