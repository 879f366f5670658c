"""From predicted z and b to clips: the study's generator where it has one, else z decoded directly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.checkout import project_root
from core.seeds import seed_for
from feature_store import Store
from models.captioners.nearest import NearestCaption
from models.captioners.settings import BlipCaptionerConfig
from models.extractors.base import Decoder
from models.extractors.settings import LatentsConfig, PixelsConfig
from studies.study import Study

if TYPE_CHECKING:
    from models.captioners.blip import BlipCaptioner
    from models.generator.base import VideoGenerator


Roles = dict[str, NDArray[Any]]
"""Role to what was predicted for it, (stimulus, …)."""


def why_nothing_to_render(study: Study) -> str | None:
    """Return, in one line, why a study renders no video, or None where it does."""
    if study.roles.z is None:
        return f"{study.study}: nothing to render: roles.z is not given, so there is no target that becomes a video"
    if not isinstance(study.targets[study.roles.z], PixelsConfig | LatentsConfig):
        made_by = study.targets[study.roles.z].extractor
        return (
            f"{study.study}: nothing to render: z is '{study.roles.z}' of the extractor '{made_by}', which nothing "
            "decodes to a video; its scores are in training/latest/scores.json"
        )
    return None


@dataclass(frozen=True)
class Rendered:
    """What a row of predictions became.

    Attributes
    ----------
    clips : (stimulus, frame, height, width, 3) uint8
    captions : decoded captions, empty where the study has no b
    nearest : captions of the nearest training stimuli, beside those that are written
    together : for each stimulus, those whose clips the generator rendered in one batch with it, in order; empty where
        there is no generator. How many are rendered together may show in a clip's last bit
    """

    clips: NDArray[np.uint8]
    captions: list[str]
    nearest: list[str]
    together: list[list[str]]


class Renderer:
    """Turns z and b into clips and captions; a stimulus's seed depends on the study and the stimulus alone."""

    def __init__(self, study: Study, store: Store) -> None:
        z = study.targets[study.roles.z or ""]
        assert isinstance(z, PixelsConfig | LatentsConfig)  # why_nothing_to_render is asked first
        self._study = study
        self.generator: VideoGenerator | None = study.generator.build(project_root()) if study.generator else None
        self.decoder: Decoder = z.build(project_root())
        self._nearest, self._writer = _captioners(study, store)

    def render_row(self, roles: Roles, stimuli: Sequence[str]) -> Rendered:
        """Return clips and captions for z (stimulus, …) and, where the study has it, b (stimulus, …).

        Parameters
        ----------
        roles : "z" and "b" to what was predicted
        stimuli : a name for each; the noise of its clip is drawn by it
        """
        names, b = list(stimuli), roles.get("b")
        nearest = self._nearest.caption(b) if self._nearest is not None and b is not None else []
        captions = self._writer.caption(b) if self._writer is not None and b is not None else nearest
        together: list[list[str]] = []
        clips = self._clips(roles["z"], captions, b, names, lambda rows: _note(together, names[rows]))
        return Rendered(clips, captions, nearest, together)

    def render_again(self, roles: Roles, stimuli: Sequence[str], stimulus: str, together: list[str]) -> Rendered:
        """Return one stimulus as `render_row` made it of the same predictions: in the batch that it was rendered in.

        Parameters
        ----------
        together : what `Rendered.together` says of the stimulus
        """
        names, b = list(stimuli), roles.get("b")
        batch = together or [stimulus]
        first = names.index(batch[0])
        rows = slice(first, first + len(batch))
        nearest = self._nearest.caption(b)[rows] if self._nearest is not None and b is not None else []
        captions = _written(self._writer, b, rows) if self._writer is not None and b is not None else nearest
        again: list[list[str]] = []
        clips = self._clips(
            roles["z"][rows],
            captions,
            None if b is None else b[rows],
            batch,
            lambda made: _note(again, batch[made]),
        )
        at = slice(batch.index(stimulus), batch.index(stimulus) + 1)
        return Rendered(clips[at], captions[at], nearest[at], again[at])

    def _clips(
        self,
        z: NDArray[Any],
        captions: list[str],
        b: NDArray[Any] | None,
        stimuli: list[str],
        on_batch: Callable[[slice], None],
    ) -> NDArray[np.uint8]:
        if self.generator is None or self._study.generator is None:
            return self.decoder.decode(z)
        states = b if self._study.generator.conditioning == "states" else None
        return self.generator.render(z, captions, self._seeds(stimuli), states=states, on_batch=on_batch)

    def _seeds(self, stimuli: Sequence[str]) -> list[int]:
        return [seed_for(self._study.seed, "render", stimulus) for stimulus in stimuli]

    def render_prior(self, shape: tuple[int, ...], stimuli: Sequence[str]) -> Rendered | None:
        """Return what the generator invents of noise alone, under no caption; None where there is no generator.

        Parameters
        ----------
        shape : of z, (stimulus, …)
        stimuli : a name for each; the noise of its clip is the one that its reconstruction starts from
        """
        if self.generator is None:
            return None
        nothing, captions = np.zeros(shape, np.float32), [""] * len(stimuli)
        # Guidance would weigh the empty caption against itself.
        clips = self.generator.render(nothing, captions, self._seeds(stimuli), strength=1.0, guidance=1.0)
        return Rendered(clips, [], [], [])


def _note(together: list[list[str]], batch: list[str]) -> None:
    """Say of every stimulus of a batch what the batch was."""
    together += [batch] * len(batch)


def _written(writer: "BlipCaptioner", b: NDArray[Any], rows: slice) -> list[str]:
    """Return the captions of some rows, written in the batches in which those of all rows are."""
    batch = writer.decoding.batch
    start, stop = rows.start // batch * batch, -(-rows.stop // batch) * batch
    return writer.caption(b[start:stop])[rows.start - start : rows.stop - start]


def _captioners(study: Study, store: Store) -> "tuple[NearestCaption | None, BlipCaptioner | None]":
    """Return the captioner that knows the training captions, and the one that writes its own where the study has it."""
    config = study.captioner_of_b()
    if config is None:
        return None, None
    target = store.target(study.roles.b or "")
    values, _ = target.values("train")
    captions = [captions[0] for captions in target.stimuli("train")["caption"]]
    nearest = NearestCaption(values, captions)
    return nearest, config.build(project_root()) if isinstance(config, BlipCaptionerConfig) else None
