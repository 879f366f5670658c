"""Modules that were documented under another name: importing one reports, in one line, what to import now."""

import sys
from collections.abc import Sequence
from types import ModuleType

MOVED = {
    "evaluation.sheet": "evaluation.report.sheet",
    "models.parts": "models.decoders.build",
    "studies.evaluate_folder": "from brain2video import EvaluationRequest, evaluate_folder",
    "studies.production": "from brain2video import resolve_production",
    "studies.reconstruct_new": "from brain2video import NewFile, reconstruct_file",
}


class MovedModules:
    """A finder of modules that is asked last, when no other finds the module."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:  # noqa: ARG004
        """Return None for an unknown module; raise for one that has moved.

        Raises
        ------
        ModuleNotFoundError
            With the import that replaces it.
        """
        if name in MOVED:
            raise ModuleNotFoundError(f"{name} is now '{MOVED[name]}'; see docs/api.md", name=name)


def report_moved_modules() -> None:
    """Have imports of moved modules report the new name; called once a process, by `core.environment`."""
    if MovedModules not in sys.meta_path:
        sys.meta_path.append(MovedModules)
