"""Triggers a pipeline from the command line and shows its progress, with rich."""

import importlib
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape

from core.checkout import project_root
from core.errors import ConfigError
from core.files import disk_explained
from core.progress import WORK, listening, report

if TYPE_CHECKING:
    from studies.study import Study

EVERY_S = 5.0
"""Seconds between two lines about the same work."""
STEP_THREADS = "ThreadPoolExecutor"
"""How the names of the threads begin in which ZenML runs mapped steps."""


class ProgressLines:
    """Shows progress as lines, which read the same on a terminal and in a log: what, how far, how long."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.stopped = False
        """Whether a person wants everything to end: who reports from a step's thread next then ends there."""
        self._started: dict[str, float] = {}
        self._said: dict[str, float] = {}

    def __call__(self, what: str, done: int, total: int, note: str) -> None:
        """Take one report."""
        if self.stopped and threading.current_thread().name.startswith(STEP_THREADS):
            raise KeyboardInterrupt
        now, text, aside = time.monotonic(), escape(what), f"; {escape(note)}" if note else ""
        if what not in self._started:
            self._started[what] = self._said[what] = now
            if done < total:
                self._console.print(f"  [dim]{text} …[/]", highlight=False)
        seconds = now - self._started[what]
        if done >= total:
            count = f" {total:,}" if total > 1 else ""
            rate = f", {total / seconds:,.1f} a second" if total > 1 and seconds > 0.1 else ""
            self._console.print(f"  [green]✓[/] {text}{count} [dim]({seconds:.1f} s{rate}{aside})[/]", highlight=False)
            del self._started[what]
        elif now - self._said[what] >= EVERY_S:
            self._said[what] = now
            left = f", {done / seconds:,.1f} a second, {seconds * (total - done) / done:.0f} s left" if done else ""
            self._console.print(f"  [dim]{text}: {done:,} of {total:,}{left}{aside}[/]", highlight=False)


@contextmanager
def working(interrupted: str = "interrupted; nothing half-written is kept") -> Iterator[Console]:
    """Show progress while a block works, and explain a full or protected disk; on Ctrl-C say so, and end with 130."""
    console = Console(stderr=True, soft_wrap=True)
    lines = ProgressLines(console)
    try:
        with _stopping(lines), listening(lines), disk_explained(project_root()):
            yield console
    except KeyboardInterrupt:
        console.print(f"[yellow]{escape(interrupted)}[/]", highlight=False)
        raise typer.Exit(130) from None


@contextmanager
def _stopping(lines: ProgressLines) -> Iterator[None]:
    """End what steps do in threads and in processes of their own on Ctrl-C too, which only reaches the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        lines.stopped = True
        if "core.executors" in sys.modules:
            sys.modules["core.executors"].end_workers()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def launch(name: str, config: str, overrides: list[str] | None, **parameters: Any) -> None:
    """Trigger a pipeline; what a step raised is raised here."""
    with working() as console:
        console.print(f"[bold]{name}[/] [dim]{config}[/]", highlight=False)
        WORK.reset()
        started = time.monotonic()
        _set_up_zenml()
        module = importlib.import_module(f"pipelines.{name}")
        run = getattr(module, name)(study=config, overrides=list(overrides or []), **parameters)
        console.print(_account(run, time.monotonic() - started), highlight=False)


def take_part(study: "Study", together: dict[str, Any]) -> None:
    """Train with other machines, of which one runs the pipeline; the run is where all of them see it."""
    from models.training.settings import DistributedConfig
    from studies.training.distributed import fit_distributed

    if together.get("nodes", 1) == 1:
        raise ConfigError("--join: takes part with other machines; say how many with --nodes, and --rendezvous")
    with working() as console:
        made = fit_distributed(study, DistributedConfig.model_validate(together))
        console.print(f"[green]took part in[/] {made.folder}", highlight=False)


def _account(run: Any, seconds: float) -> str:
    """Return what of a run was work and what orchestration: ZenML's own time, and the imports that it needs."""
    steps, share = len(run.steps), max(0.0, seconds - WORK.seconds)
    told = f"{steps - WORK.up_to_date} of {steps} steps had work to do, {WORK.up_to_date} results were up to date"
    return f"[dim]{run.name}: {told}; {seconds:.1f} s, orchestration {share:.1f} s of it ({share / seconds:.0%})[/]"


def commit(folder: Path, config: str, overrides: list[str] | None) -> None:
    """Commit the DVC stage that owns a folder, where there is one; a run with overrides is not the stage's."""
    if not overrides:
        from feature_store.versioning import commit_outputs

        commit_outputs(project_root(), [folder], config)


def _set_up_zenml() -> None:
    warnings.filterwarnings("ignore")
    ours = "ZENML_STORE_URL" not in os.environ
    first = ours and not any(Path(os.environ["ZENML_CONFIG_PATH"]).glob("**/zenml.db"))
    what = "setting up ZenML's database (first time only, about 20 s)"
    if first:
        report(what, 0, 1)
    from zenml.client import Client

    Client().active_stack_model  # noqa: B018 - the first access creates the database
    if first:
        report(what, 1, 1)
