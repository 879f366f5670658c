"""The models that a study's `judges` name, loaded once: what they give for clips and captions, by space."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.classifiers.attributes import AttributeClassifier

if TYPE_CHECKING:  # transformers is imported where a study names such a model
    from models.classifiers.vision import ClipFrames, FrameClassifier, VideoClassifier

Array = NDArray[Any]
Clips = NDArray[np.uint8]


@dataclass(frozen=True)
class Judges:
    """Models that look at clips and captions; each may be absent.

    Attributes
    ----------
    read_caption : returns what a caption of the small world names, with one word for each attribute, or None
    small_world, clip, frames, videos
    """

    read_caption: Callable[[str], Any]
    small_world: AttributeClassifier | None = None
    clip: "ClipFrames | None" = None
    frames: "FrameClassifier | None" = None
    videos: "VideoClassifier | None" = None

    def of_clips(self, clips: Clips) -> dict[str, Array]:
        """Return what the models give for clips (n, frame, height, width, 3) uint8, by space."""
        views: dict[str, Array] = {}
        if self.clip is not None:
            views["clip_frames"] = self.clip.frames(clips)
            views["clip"] = views["clip_frames"].mean(axis=1)
        if self.frames is not None:
            views["frame_classes"] = self.frames.scores(clips)
        if self.videos is not None:
            views["video_classes"] = self.videos.scores(clips)
        if self.small_world is not None:
            shown = resized(clips, self.small_world.frame)
            views["video_attributes"] = self.small_world.read(shown)
            views.setdefault("video_classes", self.small_world.classes(shown))
        return views

    def of_captions(self, captions: Sequence[str]) -> dict[str, Array]:
        """Return what the models give for captions, one a stimulus, by space."""
        views: dict[str, Array] = {"captions": np.array(captions, dtype=object)}
        if self.clip is not None:
            views["text"] = views["caption_clip"] = self.clip.words(list(captions))
        if self.small_world is not None:
            views["caption_attributes"] = self.attributes(captions)
        return views

    def attributes(self, captions: Sequence[str]) -> NDArray[np.int64]:
        """Return which word of each attribute captions of the small world name, (n, attribute); −1 for none."""
        assert self.small_world is not None
        known = self.small_world.attributes
        indices = np.full((len(captions), len(known)), -1, np.int64)
        for row, caption in enumerate(captions):
            named = self.read_caption(caption)
            if named is not None:
                indices[row] = [words.index(getattr(named, name)) for name, words in known.items()]
        return indices


def resized(clips: Clips, frame: tuple[int, int, int]) -> Clips:
    """Return clips at another number of frames and size, by time and by area; unchanged where they have it."""
    frames, height, width = frame
    if clips.shape[1:4] == frame:
        return clips
    chosen = (2 * np.arange(frames) + 1) * clips.shape[1] // (2 * frames)
    resized = np.empty((len(clips), frames, height, width, 3), np.uint8)
    for row, clip in enumerate(clips):
        for place, at in enumerate(chosen):
            resized[row, place] = cv2.resize(clip[at], (width, height), interpolation=cv2.INTER_AREA)
    return resized
