"""From predicted z and b to clips: the study's generator where it has one, else z decoded directly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.seeds import seed_for
from feature_store import Store
from models.captioner import NearestCaption
from models.extractors.base import Decoder
from models.extractors.config import LatentsConfig, PixelsConfig
from studies.home import home
from studies.study import Study

if TYPE_CHECKING:
    from models.generator.text_to_video import VideoGenerator


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
    """

    clips: NDArray[np.uint8]
    captions: list[str]


class Renderer:
    """Turns z and b into clips and captions; a stimulus's seed depends on the study and the stimulus alone."""

    def __init__(self, study: Study, store: Store) -> None:
        z = study.targets[study.roles.z or ""]
        assert isinstance(z, PixelsConfig | LatentsConfig)  # why_nothing_to_render is asked first
        self._study = study
        self.space = z.extractor
        self.generator: VideoGenerator | None = study.generator.build(home()) if study.generator else None
        self.decoder: Decoder = z.build(home())
        self._captioner = _captioner(study, store)

    def render(self, rows: dict[str, dict[str, NDArray[Any]]], stimuli: Sequence[str]) -> dict[str, Rendered]:
        """Return clips and captions for every row's z (stimulus, …) and b (stimulus, …), all rows at once."""
        z = np.concatenate([roles["z"] for roles in rows.values()])
        b = [roles["b"] for roles in rows.values() if "b" in roles]
        captions = self._captioner.caption(np.concatenate(b)) if self._captioner is not None and b else []
        clips = self._clips(z, captions, list(stimuli) * len(rows))
        n = len(stimuli)
        return {row: Rendered(clips[k * n :][:n], captions[k * n :][:n]) for k, row in enumerate(rows)}

    def _clips(self, z: NDArray[Any], captions: list[str], stimuli: list[str]) -> NDArray[np.uint8]:
        if self.generator is None:
            return self.decoder.decode(z)
        seeds = [seed_for(self._study.seed, "render", stimulus) for stimulus in stimuli]
        return self.generator.render(z, captions=captions, seeds=seeds)

    def z_of(self, clips: NDArray[np.uint8]) -> NDArray[Any] | None:
        """Return the latents of rendered clips, by the extractor that made the targets; None for pixels."""
        return None if self.space == "pixels" else self.decoder.extract(clips).astype(np.float32)


def _captioner(study: Study, store: Store) -> NearestCaption | None:
    if study.roles.b is None or study.targets[study.roles.b].extractor != "text":
        return None
    target = store.target(study.roles.b)
    values, _ = target.values("train")
    return NearestCaption(
        values[:].astype(np.float32), [captions[0] for captions in target.stimuli("train")["caption"]]
    )
