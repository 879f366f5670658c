"""From predicted z and b to clips: the study's generator where it has one, else z decoded directly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.seeds import seed_for
from feature_store import Store
from models.captioners.config import BlipCaptionerConfig
from models.captioners.nearest import NearestCaption
from models.extractors.base import Decoder
from models.extractors.config import LatentsConfig, PixelsConfig
from studies.home import home
from studies.study import Study

if TYPE_CHECKING:
    from models.captioners.blip import BlipCaptioner
    from models.generator.base import VideoGenerator


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
    """

    clips: NDArray[np.uint8]
    captions: list[str]
    nearest: list[str]


class Renderer:
    """Turns z and b into clips and captions; a stimulus's seed depends on the study and the stimulus alone."""

    def __init__(self, study: Study, store: Store) -> None:
        z = study.targets[study.roles.z or ""]
        assert isinstance(z, PixelsConfig | LatentsConfig)  # why_nothing_to_render is asked first
        self._study = study
        self.space = z.extractor
        self.generator: VideoGenerator | None = study.generator.build(home()) if study.generator else None
        self.decoder: Decoder = z.build(home())
        self._nearest, self._writer = _captioners(study, store)

    def render(self, rows: dict[str, dict[str, NDArray[Any]]], stimuli: Sequence[str]) -> dict[str, Rendered]:
        """Return clips and captions for every row's z (stimulus, …) and b (stimulus, …), all rows at once."""
        z = np.concatenate([roles["z"] for roles in rows.values()])
        predicted = [roles["b"] for roles in rows.values() if "b" in roles]
        b = np.concatenate(predicted) if predicted and self._nearest is not None else None
        nearest = self._nearest.caption(b) if self._nearest is not None and b is not None else []
        captions = self._writer.caption(b) if self._writer is not None and b is not None else nearest
        clips = self._clips(z, captions, b, list(stimuli) * len(rows))
        n = len(stimuli)
        parts = [slice(k * n, (k + 1) * n) for k in range(len(rows))]
        made = [Rendered(clips[part], captions[part], nearest[part]) for part in parts]
        return dict(zip(rows, made, strict=True))

    def _clips(
        self, z: NDArray[Any], captions: list[str], b: NDArray[Any] | None, stimuli: list[str]
    ) -> NDArray[np.uint8]:
        if self.generator is None or self._study.generator is None:
            return self.decoder.decode(z)
        states = b if self._study.generator.conditioning == "states" else None
        seeds = [seed_for(self._study.seed, "render", stimulus) for stimulus in stimuli]
        return self.generator.render(z, captions, seeds, states=states)

    def z_of(self, clips: NDArray[np.uint8]) -> NDArray[Any] | None:
        """Return the latents of rendered clips, by the extractor that made the targets; None for pixels."""
        return None if self.space == "pixels" else self.decoder.extract(clips).astype(np.float32)


def _captioners(study: Study, store: Store) -> "tuple[NearestCaption | None, BlipCaptioner | None]":
    """Return the captioner that knows the training captions, and the one that writes its own where the study has it."""
    config = study.captioner_of_b()
    if config is None:
        return None, None
    target = store.target(study.roles.b or "")
    values, _ = target.values("train")
    captions = [captions[0] for captions in target.stimuli("train")["caption"]]
    nearest = NearestCaption(values, captions)
    return nearest, config.build(home()) if isinstance(config, BlipCaptionerConfig) else None
