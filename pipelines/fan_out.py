"""A step mapped over subjects or targets: all run that can, and one that fails does not lose what the others did."""

from collections.abc import Sequence
from typing import Any

from zenml import unmapped
from zenml.execution.pipeline.dynamic.outputs import StepFuture
from zenml.models import ArtifactVersionResponse
from zenml.steps import BaseStep

from core.errors import Brain2VideoError, PartFailed
from core.executors import end_workers
from feature_store.schema import Kind
from steps.name_group import name_group
from studies.references import GroupRef
from studies.status.standing import group_standing
from studies.study import Study


class Fanned:
    """A step that runs for several groups of a store at once; see `gathered`.

    Parameters
    ----------
    step : a step that takes `study`, `wanted` and `executor` and returns a `GroupRef`
    config : the study as steps take it
    study : the same
    kind : "responses" or "targets"
    names : subjects or targets
    executor : how the work is spread; see `core.executors.ExecutorConfig`
    """

    def __init__(
        self,
        step: BaseStep,
        config: ArtifactVersionResponse,
        study: Study,
        kind: Kind,
        names: Sequence[str],
        executor: dict[str, Any],
    ) -> None:
        self.kind, self.names = kind, list(names)
        self.published: list[GroupRef] = []
        standing = {name: group_standing(study, kind, name) for name in names}
        waiting = {
            name: name_group.submit(name=name, made_from=one.made_from, id=f"{kind}:{name}")
            for name, one in standing.items()
        }
        wanted = {name: future.result() for name, future in waiting.items()}
        self._futures: dict[str, StepFuture] = {}
        for stands in (True, False):
            chosen = [name for name in names if standing[name].stands == stands]
            if chosen:
                mapped = step.with_options(enable_cache=stands).map(
                    study=unmapped(config), wanted=[wanted[name] for name in chosen], executor=unmapped(executor)
                )
                self._futures |= dict(zip(chosen, mapped.futures, strict=True))

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
        Some of it failed on what a user can mend; the line names them, says why, and what was published all the same.
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
        f"{len(failed)} of {total} failed: {reasons}; {others}; mend it and run the same command again, which works on "
        "what failed alone"
    )
