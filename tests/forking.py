"""Processes to be killed that start at once: forked from one that has imported what they need."""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


@contextmanager
def forking(module: str) -> Iterator[ForkServerContext]:
    """Yield what starts processes that have imported a module, with the environment of now and one thread each."""
    server = forkserver._forkserver
    context = get_context("forkserver")
    server._stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(CHECKOUT))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.syspath_prepend(CHECKOUT)
        context.set_forkserver_preload([module])
        try:
            yield context
        finally:
            server._stop()
            context.set_forkserver_preload([])
