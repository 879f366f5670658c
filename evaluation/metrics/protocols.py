"""What published figures were computed by, and whether a report may say that its own were computed alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Looked:
    """The model that made a space's arrays.

    Attributes
    ----------
    weights : its name on the hub, or a folder
    frames : how many frames of a clip it is shown; None: all of them, or as many as it was trained with
    """

    weights: str
    frames: int | None = None


@dataclass(frozen=True)
class Protocol:
    """What a published figure was computed by, as far as the figure depends on it.

    Attributes
    ----------
    source : whose figure it is
    about : how it is computed; here it is computed so
    weights, shown : by space, the model that looks at clips, and how many frames of a clip it is shown
    frames : frames of a clip
    side : height and width of a frame in pixels
    apart : what is always different here
    """

    source: str
    about: str
    weights: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, int] = field(default_factory=dict)
    frames: int | None = None
    side: int | None = None
    apart: tuple[str, ...] = ()

    def __str__(self) -> str:
        models = " and ".join(self.weights.values())
        parts = [f"by {models}" if models else "", f"{self.frames} frames a clip" if self.frames else ""]
        parts += [f"frames of {self.side} × {self.side}" if self.side else ""]
        more = "".join(f", {part}" for part in parts if part)
        here = f"; here {', '.join(self.apart)}" if self.apart else ""
        return f"{self.source}: {self.about}{more}{here}"

    def claim(self, space: str, clip: tuple[int, ...] | None, looked: Mapping[str, Looked]) -> str:
        """Return what a report may say of a score in a space: that it is as published, or in what it is not.

        Models are told apart by name: a folder counts as the model that its last parts name, as in
        ``data/weights/openai/clip-vit-base-patch32``.

        Parameters
        ----------
        clip : frames, height and width of the clips that were scored; None where they are not known
        looked : by space, the models that made arrays
        """
        exceptions = [*self._of_model(space, looked.get(space)), *self._of_clips(clip), *self.apart]
        if not exceptions:
            return f"as published: {self.source}: {self.about}"
        return f"as {self.source}, except: {'; '.join(exceptions)}"

    def _of_model(self, space: str, found: Looked | None) -> list[str]:
        wanted, shown = self.weights.get(space), self.shown.get(space)
        exceptions = []
        if wanted is not None and (found is None or not is_model(found.weights, wanted)):
            exceptions.append(f"{'an unnamed model' if found is None else named(found.weights)} instead of {wanted}")
        if shown is not None and found is not None and found.frames != shown:
            frames = "as many frames as it was trained with" if found.frames is None else f"{found.frames} frames"
            exceptions.append(f"the model is shown {frames} instead of {shown}")
        return exceptions

    def _of_clips(self, clip: tuple[int, ...] | None) -> list[str]:
        if clip is None:
            return ["clips of unknown size"] if self.frames or self.side else []
        frames, *size = clip
        exceptions = []
        if self.frames is not None and frames != self.frames:
            exceptions.append(f"{frames} frames a clip instead of {self.frames}")
        if self.side is not None and size != [self.side, self.side]:
            exceptions.append(f"frames of {' × '.join(map(str, size))} instead of {self.side} × {self.side}")
        return exceptions


def is_model(found: str, wanted: str) -> bool:
    """Return whether a name on the hub, or a folder named after one, is the model that is wanted."""
    parts = wanted.split("/")
    return list(Path(found).parts[-len(parts) :]) == parts


def named(weights: str) -> str:
    """Return a model's name, or its folder without what differs between machines."""
    path = Path(weights)
    return "/".join(path.parts[-2:]) if path.is_absolute() else weights
