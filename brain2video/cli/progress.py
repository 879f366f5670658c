"""Shows the progress of work as lines, and ends everything on Ctrl-C."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape

from core.checkout import current_home
from core.files import disk_explained
from core.progress import listening

EVERY_S = 5.0
"""Seconds between two lines about the same work."""
STEP_THREADS = "ThreadPoolExecutor"
"""How the names of the threads begin in which ZenML runs mapped steps."""


class ProgressLines:
    """Prints progress as lines, which read the same on a terminal and in a log: what, how far, how long."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.stopped = False
        """Set by Ctrl-C: a step's thread that reports afterwards ends there."""
        self._started: dict[str, float] = {}
        self._printed: dict[str, float] = {}

    def __call__(self, what: str, done: int, total: int, note: str) -> None:
        """Take one report: `done` of `total` units of the work `what`."""
        if self.stopped and threading.current_thread().name.startswith(STEP_THREADS):
            raise KeyboardInterrupt
        now, text, aside = time.monotonic(), escape(what), f"; {escape(note)}" if note else ""
        if what not in self._started:
            self._started[what] = self._printed[what] = now
            if done < total:
                self._console.print(f"  [dim]{text} …[/]", highlight=False)
        seconds = now - self._started[what]
        if done >= total:
            count = f" {total:,}" if total > 1 else ""
            rate = f", {total / seconds:,.1f} a second" if total > 1 and seconds > 0.1 else ""
            self._console.print(f"  [green]✓[/] {text}{count} [dim]({seconds:.1f} s{rate}{aside})[/]", highlight=False)
            del self._started[what]
        elif now - self._printed[what] >= EVERY_S:
            self._printed[what] = now
            left = f", {done / seconds:,.1f} a second, {seconds * (total - done) / done:.0f} s left" if done else ""
            self._console.print(f"  [dim]{text}: {done:,} of {total:,}{left}{aside}[/]", highlight=False)


@contextmanager
def working(interrupted: str = "interrupted; nothing half-written is kept") -> Iterator[Console]:
    """Show progress while a block works, and explain a full or protected disk.

    On Ctrl-C, print `interrupted` and exit with 130.
    """
    console = Console(stderr=True, soft_wrap=True)
    lines = ProgressLines(console)
    try:
        with _stopping(lines), listening(lines), disk_explained(current_home() or Path.cwd()):
            yield console
    except KeyboardInterrupt:
        console.print(f"[yellow]{escape(interrupted)}[/]", highlight=False)
        raise typer.Exit(130) from None


@contextmanager
def _stopping(lines: ProgressLines) -> Iterator[None]:
    """On Ctrl-C, which reaches the main thread only, also end steps in other threads and in worker processes."""
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
