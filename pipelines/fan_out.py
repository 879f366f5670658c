"""A step run for several subjects or targets: all run that can, and one that fails does not lose what others did."""

from collections.abc import Sequence
from typing import Any

from zenml.models import ArtifactVersionResponse
from zenml.steps import BaseStep

from core.errors import Brain2VideoError, PartFailed
from core.executors import end_workers
from feature_store.schema import Kind
from studies.runs import GroupRef


class Fanned:
    """A step that runs for several groups of a store at once; see `gathered`.

    Parameters
    ----------
    step : a step that takes `study`, `name` and `executor` and returns a `GroupRef`
    config : the study as steps take it
    kind : "responses" or "targets"
    names : subjects or targets
    executor : how the work is spread; see `core.executors.ExecutorConfig`
    """

    def __init__(
        self,
        step: BaseStep,
        config: ArtifactVersionResponse,
        kind: Kind,
        names: Sequence[str],
        executor: dict[str, Any],
    ) -> None:
        self.kind, self.names = kind, list(names)
        self.published: list[GroupRef] = []
        self._futures = {
            name: step.submit(study=config, name=name, executor=executor, id=f"{kind}:{name}") for name in names
        }

    def wait(self) -> dict[str, BaseException]:
        """Wait for all, keep the references to what was published, and return what failed, with its reason."""
        failed: dict[str, BaseException] = {}
        for name in self.names:
            try:
                self.published.append(self._futures[name].load())
            except Exception as error:
                failed[name] = error
        return failed


def gathered(*several: Fanned) -> Sequence[Fanned]:
    """Wait for everything that was fanned out, and hand it on.

    Raises
    ------
    PartFailed
        Some of it failed on what a user can fix; the line names the parts and the reasons, and what was published.
    Exception
        What else failed, with a note that says the same.
    """
    failed = {f"{one.kind}/{name}": error for one in several for name, error in one.wait().items()}
    end_workers(unused=True)  # what comes next needs their memory
    if not failed:
        return several
    total = sum(len(one.names) for one in several)
    if total == 1:
        raise next(iter(failed.values()))
    published = [f"{one.kind}/{ref.name}" for one in several for ref in one.published]
    reasons = "; ".join(f"{name}: {' '.join(str(error).split())}" for name, error in failed.items())
    others = f"published all the same: {', '.join(published)}" if published else "nothing was published"
    for name, error in failed.items():
        if not isinstance(error, Brain2VideoError):
            error.add_note(f"raised by {name}; {others}")
            raise error
    raise PartFailed(
        f"{len(failed)} of {total} failed: {reasons}; {others}; fix it and run the same command again, which does "
        "only what failed"
    )
